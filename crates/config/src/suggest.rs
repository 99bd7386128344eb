//! Similar names, for messages like "did you mean ..?".

/// The candidate nearest to `name`, if it is near enough for a typing error.
pub(super) fn similar<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let near_enough = (name.chars().count() / 3).max(1);
    nearest(name, candidates).filter(|candidate| distance(name, candidate) <= near_enough)
}

/// The candidate nearest to `name`, at any distance.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates.iter().copied().min_by_key(|candidate| distance(name, candidate))
}

/// Longest name that is compared in full, in characters. A longer one is cut, because it is far from every candidate.
const CHARS_MAX: usize = 128;

/// Number of edits (insert, delete, replace) from one text to the other. Case is ignored.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| text.chars().take(CHARS_MAX).collect::<String>().to_ascii_lowercase();
    strsim::levenshtein(&fold(a), &fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("hello_timout", "hello_timeout", 1),
            ("LISTEN", "listen", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn only_typing_mistakes_are_similar() {
        let names = ["listen", "heartbeat", "max_message"];
        assert_eq!(similar("heart_beat", &names), Some("heartbeat"));
        assert_eq!(similar("zzz", &names), None);
        assert_eq!(nearest("heart", &names), Some("heartbeat"));
        assert_eq!(similar("x", &[]), None);
    }
}
