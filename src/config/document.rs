//! The text of a configuration file, and what messages say of its parts.

use std::ops::Range;
use std::path::Path;

use toml::de::DeValue;

use super::error::Place;
use super::setting::Raw;

/// The text of a file and its name, to tell where something stands.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    /// The name as it goes into messages.
    pub(super) file: &'a Path,
    /// The content.
    pub(super) text: &'a str,
}

impl Document<'_> {
    /// Where `span` begins.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            path: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The text for an unknown key.
pub(super) fn unknown_key(suggestion: Option<&str>, allowed: &[&str]) -> String {
    let meant = suggestion.map_or(String::new(), |name| format!(", did you mean {name}?"));
    format!("unknown key{meant} (allowed here: {})", allowed.join(", "))
}

/// A key for a message: cut when long, control characters escaped.
pub(super) fn printable(name: &str) -> String {
    const CHARS_MAX: usize = 60;
    name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// What stands at a place, before anything is known about it.
pub(super) fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(integer) => {
            Raw::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Boolean(boolean) => Raw::Boolean(*boolean),
        other => Raw::Other(other.type_str()),
    }
}
