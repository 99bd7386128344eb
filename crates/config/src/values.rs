//! The kinds of values: how each is read, limited and written.
//!
//! The fields of the sections name these functions in their `serde` attributes. An error has the value found and the
//! values allowed.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use support::secret::Secret;
use toml::Value;

use super::units::{Size, parse_duration, parse_size, print_duration};

/// A size from `MIN` to `MAX` bytes, written like `"64 MiB"`.
pub(super) struct SizeIn<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> SizeIn<MIN, MAX> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: From<u64>>(d: D) -> Result<T, D::Error> {
        let expected = format!("a size such as \"64 MiB\", from {} to {}", Size(MIN), Size(MAX));
        let is_allowed = |bytes: &u64| (MIN..=MAX).contains(bytes);
        let parse = |found: &Value| parse_size(found.as_str()?).filter(is_allowed).map(T::from);
        read_or_suggest(d, &expected, parse, |found| {
            let bytes = u64::try_from(found.as_integer()?).ok().filter(is_allowed)?;
            Some(quote(&Size(bytes).to_string()))
        })
    }

    pub(super) fn serialize<S: Serializer, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Into<Option<u64>>,
    {
        let bytes: Option<u64> = (*value).into();
        bytes.map(|bytes| Size(bytes).to_string()).serialize(serializer)
    }
}

/// A duration from `MIN_MS` to `MAX_MS` milliseconds, written like `"5s"`. May be limited to whole seconds.
pub(super) struct Time<const MIN_MS: u64, const MAX_MS: u64, const WHOLE_SECONDS: bool>;

/// Any duration in the range.
pub(super) type DurationIn<const MIN_MS: u64, const MAX_MS: u64> = Time<MIN_MS, MAX_MS, false>;

/// A duration of whole seconds in the range.
pub(super) type WholeSecondsIn<const MIN_MS: u64, const MAX_MS: u64> = Time<MIN_MS, MAX_MS, true>;

impl<const MIN_MS: u64, const MAX_MS: u64, const WHOLE_SECONDS: bool> Time<MIN_MS, MAX_MS, WHOLE_SECONDS> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: From<Duration>>(d: D) -> Result<T, D::Error> {
        let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
        let whole = if WHOLE_SECONDS { "of whole seconds " } else { "" };
        let (from, to) = (print_duration(min), print_duration(max));
        let expected = format!("a duration {whole}such as \"5s\", from {from} to {to}");
        let is_allowed = |duration: &Duration| {
            (min..=max).contains(duration) && (!WHOLE_SECONDS || duration.subsec_nanos() == 0)
        };
        let parse = |found: &Value| parse_duration(found.as_str()?).filter(is_allowed).map(T::from);
        read_or_suggest(d, &expected, parse, |found| {
            let seconds = match found.as_str() {
                Some(text) => text.trim().parse().ok()?,
                None => u64::try_from(found.as_integer()?).ok()?,
            };
            let seconds = Some(seconds).filter(|seconds| is_allowed(&Duration::from_secs(*seconds)))?;
            Some(format!("\"{seconds}s\" if seconds are meant"))
        })
    }

    pub(super) fn serialize<S: Serializer, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Into<Option<Duration>>,
    {
        let duration: Option<Duration> = (*value).into();
        duration.map(print_duration).serialize(serializer)
    }
}

/// Reads a count from 1 to `MAX`.
pub(super) fn count<'de, const MAX: u32, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU32>,
{
    read(deserializer, &format!("an integer from 1 to {MAX}"), |found| {
        let count = u32::try_from(found.as_integer()?).ok().filter(|count| *count <= MAX)?;
        T::try_from(NonZeroU32::new(count)?).ok()
    })
}

/// Reads `true` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>, T: From<bool>>(deserializer: D) -> Result<T, D::Error> {
    read(deserializer, "true or false", |found| found.as_bool().map(T::from))
}

/// Reads an address with its port. Names are not resolved, so that the file shows the real address of the listener.
pub(super) fn address<'de, D: Deserializer<'de>, T: From<SocketAddr>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let expected = "an IP address and a port such as \"127.0.0.1:7480\" or \"[::1]:7480\"";
    read(deserializer, expected, |found| found.as_str()?.parse().ok().map(SocketAddr::into))
}

/// A path, relative to the working directory.
pub(super) mod path {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<PathBuf>>(d: D) -> Result<T, D::Error> {
        read(d, "a path", |found| parse_path(found.as_str()?).map(T::from))
    }

    pub(crate) fn serialize<S: Serializer, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Clone + Into<Option<PathBuf>>,
    {
        let path: Option<PathBuf> = value.clone().into();
        path.map(|path| path.to_string_lossy().into_owned()).serialize(serializer)
    }
}

/// A path. An empty text means no path.
pub(super) mod path_or_empty {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
        read(d, "a path, or \"\" for none", |found| match found.as_str()? {
            "" => Some(None),
            text => parse_path(text).map(Some),
        })
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path::serialize(&value.clone().unwrap_or_default(), serializer)
    }
}

fn parse_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| text.into())
}

/// A value that is one of a few names.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Each value with its name.
    const NAMED: &'static [(&'static str, Self)];
}

/// One of a few names.
pub(super) mod choice {
    use super::*;
    use crate::suggest::similar;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Choice>(d: D) -> Result<T, D::Error> {
        let names: Vec<_> = T::NAMED.iter().map(|(name, _)| *name).collect();
        let quoted: Vec<_> = names.iter().copied().map(quote).collect();
        let expected = format!("one of {}", quoted.join(", "));
        let parse = |found: &Value| {
            let found = found.as_str()?;
            T::NAMED.iter().find(|(name, _)| *name == found).map(|(_, value)| *value)
        };
        read_or_suggest(d, &expected, parse, |found| similar(found.as_str()?, &names).map(quote))
    }

    /// Reads a value that may be left out.
    pub(crate) fn optional<'de, D: Deserializer<'de>, T: Choice>(d: D) -> Result<Option<T>, D::Error> {
        deserialize(d).map(Some)
    }

    pub(crate) fn serialize<S: Serializer, T: Choice>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name(value))
    }

    /// The name of `value`.
    pub(crate) fn name<T: Choice>(value: &T) -> &'static str {
        T::NAMED.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
    }
}

/// Reads a credential. The error never contains the value, because a credential may be in the wrong place.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let found = read_any(deserializer);
    let secret = found.as_str().ok_or_else(|| "is no text".to_owned());
    let secret = secret.and_then(|text| Secret::new(text).map_err(|error| error.to_string()));
    let max = Secret::BYTES_MAX;
    secret
        .map(Some)
        .map_err(|why| D::Error::custom(format!("the token {why}; expected a text of 1 to {max} bytes")))
}

/// Reads a value of any type. A number that does not fit in 64 bits becomes infinite, which no key allows.
pub(super) fn read_any<'de, D: Deserializer<'de>>(deserializer: D) -> Value {
    Value::deserialize(deserializer).unwrap_or(Value::Float(f64::INFINITY))
}

/// Reads a value with `parse`. The error has the value found and `expected`.
pub(super) fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, D::Error> {
    read_or_suggest(deserializer, expected, parse, |_| None)
}

/// Like [`read`], but the error suggests a better `spelling` of the value, if there is one.
pub(super) fn read_or_suggest<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&Value) -> Option<T>,
    spelling: impl FnOnce(&Value) -> Option<String>,
) -> Result<T, D::Error> {
    let found = read_any(deserializer);
    parse(&found).ok_or_else(|| {
        let mut what = format!("found {}, expected {expected}", describe(&found));
        if let Some(spelling) = spelling(&found) {
            let _ = write!(what, "; write {spelling}");
        }
        D::Error::custom(what)
    })
}

/// The value for a message. Long texts are cut, control characters are escaped.
fn describe(found: &Value) -> String {
    const CHARS_MAX: usize = 60;
    match found {
        Value::String(text) if text.chars().count() > CHARS_MAX => {
            let cut: String = text.chars().take(CHARS_MAX).collect();
            format!("{:?}", cut + "..")
        }
        Value::String(text) => format!("{text:?}"),
        Value::Integer(integer) => format!("the integer {integer}"),
        Value::Float(float) if float.is_infinite() => "a number that is too large".to_owned(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Array(_) => "an array".to_owned(),
        other => format!("a {}", other.type_str()),
    }
}

/// `text` as a TOML string.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
