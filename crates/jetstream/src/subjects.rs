//! Subjects of NATS, which are words separated by dots.

/// Whether every subject that `narrow` takes is taken by `wide`. Both may have `*` for a word, and `>` for the rest.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(_), Some(">")) => return false,
            (Some("*"), Some(_)) => {}
            (Some(word), Some(other)) if word == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_subject_with_a_wildcard_takes_what_is_narrower() {
        let taken = [("tm.>", "tm.a.*.*"), ("tm.*.*", "tm.a.*"), ("tm.a.b", "tm.a.b"), (">", "tm")];
        let left =
            [("tm.>", "tm"), ("tm.a", "tm.*"), ("tm.*", "tm.a.b"), ("tm.*.*", "tm.>"), ("tm.a.b", "tm.a")];
        assert!(taken.iter().all(|(wide, narrow)| covers(wide, narrow)));
        assert!(left.iter().all(|(wide, narrow)| !covers(wide, narrow)));
    }
}
