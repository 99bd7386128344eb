//! Text of an exact width.

use ratatui::text::Span;

/// `text` in exactly `columns`: filled with blanks on the right, or cut with a mark.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns.saturating_sub(width(&text));
    text + &" ".repeat(fill)
}

/// Like [`left`], but filled with blanks on the left.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&text))) + &text
}

/// Wraps `text` into at most `lines_max` lines of at most `columns`.
pub(super) fn wrapped(text: &str, columns: usize, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_last = lines.len() == lines_max;
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if is_last || width(line) + 1 + width(word) <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.into_iter().map(|line| cut(&line, columns)).collect()
}

pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for character in text.chars() {
        used += width(character.encode_utf8(&mut [0; 4]));
        if used >= columns {
            break;
        }
        kept.push(character);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_exactly_as_wide_as_asked() {
        assert_eq!((left("ab", 4), right("ab", 4)), ("ab  ".into(), "  ab".into()));
        assert_eq!((left("abcde", 4), right("", 2), left("a", 0)), ("abc…".into(), "  ".into(), "".into()));
        assert_eq!(left("衛星局", 4), "衛… ");
        assert_eq!(wrapped("one two three four", 9, 2), ["one two", "three fo…"]);
        assert_eq!(wrapped("", 9, 2), [""]);
    }
}
