//! One setting: how its value is read, printed and limited.
//!
//! A [`Codec`] knows a kind of value (a size, a duration, see [`super::codecs`]) and its limits; [`Required`] and
//! [`Optional`] tie a codec to the place in the [`Config`](super::Config) where the value lives.
//! Reading, overriding, suggesting and printing all go by the one list in [`super::keys`].

use std::any::Any;
use std::fmt::Write as _;

/// A value as it was found, before anything is known about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw<'a> {
    /// A TOML string.
    Text(&'a str),
    /// An integer; `None` beyond `i64`.
    Integer(Option<i64>),
    /// True or false.
    Boolean(bool),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl Raw<'_> {
    /// What stands there, for a message. Long texts are cut, control characters escaped.
    fn describe(&self) -> String {
        const CHARS_MAX: usize = 60;
        match self {
            Self::Text(text) if text.chars().count() > CHARS_MAX => {
                let cut: String = text.chars().take(CHARS_MAX).collect();
                format!("{:?}", cut + "..")
            }
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(Some(integer)) => format!("the integer {integer}"),
            Self::Integer(None) => "an integer out of all bounds".to_owned(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Other(kind) if kind.starts_with(['a', 'i']) => format!("an {kind}"),
            Self::Other(kind) => format!("a {kind}"),
        }
    }
}

/// What a value is written as, in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// `"in quotes"`.
    Text,
    /// A bare integer.
    Integer,
    /// A bare `true` or `false`.
    Boolean,
}

impl Written {
    /// The text of an environment variable as the value that would be written in TOML.
    pub(super) fn read_variable(self, text: &str) -> Raw<'_> {
        match self {
            Self::Text => Raw::Text(text),
            Self::Integer => text.parse().map_or(Raw::Text(text), |integer| Raw::Integer(Some(integer))),
            Self::Boolean => text.parse().map_or(Raw::Text(text), Raw::Boolean),
        }
    }
}

/// A kind of value and its limits.
pub(super) trait Codec {
    /// What is read.
    type Value: Clone + PartialEq + 'static;

    /// What the value is written as.
    const WRITTEN: Written = Written::Text;

    /// Takes the value if it is allowed.
    fn read(&self, raw: &Raw<'_>) -> Option<Self::Value>;

    /// The value as TOML text, without quotes.
    fn print(&self, value: &Self::Value) -> String;

    /// What is allowed, to follow "expected".
    fn allowed(&self) -> String;

    /// A better spelling of what was found, if it can be guessed; to follow "write".
    fn spelling(&self, _raw: &Raw<'_>) -> Option<String> {
        None
    }

    /// Why the value was refused, to follow the key's name.
    fn refusal(&self, raw: &Raw<'_>) -> String {
        let mut text = format!("found {}, expected {}", raw.describe(), self.allowed());
        if let Some(spelling) = self.spelling(raw) {
            let _ = write!(text, "; write {spelling}");
        }
        text
    }
}

/// A place in the configuration that can be set and printed.
pub(super) trait Setting {
    /// Sets the value, or says why not.
    fn set(&mut self, raw: &Raw<'_>) -> Result<(), String>;

    /// The value as TOML with quotes where needed; `None` when it is absent.
    fn print(&self) -> Option<String>;

    /// What the value is written as.
    fn written(&self) -> Written;

    /// The value, absent or not, for the same key of another configuration.
    fn value(&self) -> &dyn Any;

    /// Whether `value` is of the same key and the same.
    fn is(&self, value: &dyn Any) -> bool;

    /// Takes over `value`, which is of the same key.
    fn assign(&mut self, value: &dyn Any);
}

/// A value that is always there.
pub(super) struct Required<'a, C: Codec>(pub(super) &'a mut C::Value, pub(super) C);

/// A value that may be absent.
pub(super) struct Optional<'a, C: Codec>(pub(super) &'a mut Option<C::Value>, pub(super) C);

impl<C: Codec> Setting for Required<'_, C> {
    fn set(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        *self.0 = self.1.read(raw).ok_or_else(|| self.1.refusal(raw))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(print_toml(&self.1, self.0))
    }

    fn written(&self) -> Written {
        C::WRITTEN
    }

    fn value(&self) -> &dyn Any {
        &*self.0
    }

    fn is(&self, value: &dyn Any) -> bool {
        value.downcast_ref::<C::Value>() == Some(&*self.0)
    }

    fn assign(&mut self, value: &dyn Any) {
        if let Some(value) = value.downcast_ref::<C::Value>() {
            *self.0 = value.clone();
        }
    }
}

impl<C: Codec> Setting for Optional<'_, C> {
    fn set(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        *self.0 = Some(self.1.read(raw).ok_or_else(|| self.1.refusal(raw))?);
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.0.as_ref().map(|value| print_toml(&self.1, value))
    }

    fn written(&self) -> Written {
        C::WRITTEN
    }

    fn value(&self) -> &dyn Any {
        &*self.0
    }

    fn is(&self, value: &dyn Any) -> bool {
        value.downcast_ref::<Option<C::Value>>() == Some(&*self.0)
    }

    fn assign(&mut self, value: &dyn Any) {
        if let Some(value) = value.downcast_ref::<Option<C::Value>>() {
            *self.0 = value.clone();
        }
    }
}

fn print_toml<C: Codec>(codec: &C, value: &C::Value) -> String {
    let text = codec.print(value);
    match C::WRITTEN {
        Written::Text => quote(&text),
        Written::Integer | Written::Boolean => text,
    }
}

/// `text` as a TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
