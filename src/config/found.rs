//! A value as the file or a variable writes it, before its meaning is known.

use std::fmt::Write as _;

use serde::{Deserialize as _, Deserializer, de};
use toml::Value;

/// A value of any TOML type. `None` is a number outside the range of 64 bits.
pub(super) struct Found(Option<Value>);

impl Found {
    /// Takes any value: the caller decides what is allowed.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Self {
        Self(Value::deserialize(deserializer).ok())
    }

    /// The text, if this is a string.
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_ref().and_then(Value::as_str)
    }

    /// The number, if this is an integer.
    pub(super) fn integer(&self) -> Option<i64> {
        self.0.as_ref().and_then(Value::as_integer)
    }

    /// The flag, if this is `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.0.as_ref().and_then(Value::as_bool)
    }

    /// The items, if this is an array.
    pub(super) fn items(&self) -> Option<&[Value]> {
        self.0.as_ref().and_then(Value::as_array).map(Vec::as_slice)
    }

    /// The error for a value that is not allowed: what was found, what is `expected`, and a better `spelling`.
    pub(super) fn refuse<E: de::Error>(&self, expected: &str, spelling: Option<String>) -> E {
        let mut what = format!("found {}, expected {expected}", self.describe());
        if let Some(spelling) = spelling {
            let _ = write!(what, "; write {spelling}");
        }
        E::custom(what)
    }

    /// The value for a message. Long texts are cut, control characters are escaped.
    fn describe(&self) -> String {
        const CHARS_MAX: usize = 60;
        match &self.0 {
            None => "a number out of all bounds".to_owned(),
            Some(Value::String(text)) if text.chars().count() > CHARS_MAX => {
                let cut: String = text.chars().take(CHARS_MAX).collect();
                format!("{:?}", cut + "..")
            }
            Some(Value::String(text)) => format!("{text:?}"),
            Some(Value::Integer(integer)) => format!("the integer {integer}"),
            Some(Value::Boolean(boolean)) => boolean.to_string(),
            Some(Value::Array(_)) => "an array".to_owned(),
            Some(other) => format!("a {}", other.type_str()),
        }
    }
}

/// `text` as a TOML string.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
