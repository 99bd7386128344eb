//! The kinds of values: how each is read, limited and written.
//!
//! The fields of the sections name these in their `serde` attributes. Each kind reads with
//! [`Found`], so that an error says what was found and what is allowed.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserializer, Serialize as _, Serializer};

use super::found::{Found, quote};
use super::suggest::similar;
use super::units::{Size, parse_duration, parse_size, print_duration};

/// A size from `MIN` to `MAX` bytes, written like `"64 MiB"`.
pub(super) struct SizeIn<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> SizeIn<MIN, MAX> {
    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: From<u64>,
    {
        let found = Found::read(deserializer);
        let is_allowed = |bytes: &u64| (MIN..=MAX).contains(bytes);
        found.text().and_then(parse_size).filter(is_allowed).map(T::from).ok_or_else(|| {
            let expected = format!("a size such as \"64 MiB\", from {} to {}", Size(MIN), Size(MAX));
            let bytes = found.integer().and_then(|integer| u64::try_from(integer).ok()).filter(is_allowed);
            found.refuse(&expected, bytes.map(|bytes| quote(&Size(bytes).to_string())))
        })
    }

    pub(super) fn serialize<S, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Copy + Into<Option<u64>>,
    {
        let bytes: Option<u64> = (*value).into();
        bytes.map(|bytes| Size(bytes).to_string()).serialize(serializer)
    }
}

/// A duration from `MIN_MS` to `MAX_MS` milliseconds, written like `"5s"`.
pub(super) struct DurationIn<const MIN_MS: u64, const MAX_MS: u64>;

impl<const MIN_MS: u64, const MAX_MS: u64> DurationIn<MIN_MS, MAX_MS> {
    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: From<Duration>,
    {
        read_duration::<MIN_MS, MAX_MS, D>(deserializer, "a duration", |_| true).map(T::from)
    }

    pub(super) fn serialize<S, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Copy + Into<Option<Duration>>,
    {
        let duration: Option<Duration> = (*value).into();
        duration.map(print_duration).serialize(serializer)
    }
}

/// A duration as [`DurationIn`], of whole seconds.
pub(super) struct WholeSecondsIn<const MIN_MS: u64, const MAX_MS: u64>;

impl<const MIN_MS: u64, const MAX_MS: u64> WholeSecondsIn<MIN_MS, MAX_MS> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let is_whole = |duration: &Duration| duration.subsec_nanos() == 0;
        read_duration::<MIN_MS, MAX_MS, D>(deserializer, "a duration of whole seconds", is_whole)
    }

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        DurationIn::<MIN_MS, MAX_MS>::serialize(value, serializer)
    }
}

fn read_duration<'de, const MIN_MS: u64, const MAX_MS: u64, D: Deserializer<'de>>(
    deserializer: D,
    kind: &str,
    is_kind: fn(&Duration) -> bool,
) -> Result<Duration, D::Error> {
    let found = Found::read(deserializer);
    let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
    let is_allowed = |duration: &Duration| (min..=max).contains(duration);
    let duration = found.text().and_then(parse_duration).filter(is_allowed).filter(is_kind);
    duration.ok_or_else(|| {
        let (from, to) = (print_duration(min), print_duration(max));
        let seconds = match found.text() {
            Some(text) => text.trim().parse().ok(),
            None => found.integer().and_then(|integer| u64::try_from(integer).ok()),
        };
        let seconds = seconds.filter(|seconds| is_allowed(&Duration::from_secs(*seconds)));
        let spelling = seconds.map(|seconds| format!("\"{seconds}s\" if seconds are meant"));
        found.refuse(&format!("{kind} such as \"5s\", from {from} to {to}"), spelling)
    })
}

/// Reads a count from 1 to `MAX`.
pub(super) fn count<'de, const MAX: u32, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU32>,
{
    let found = Found::read(deserializer);
    let count = found.integer().and_then(|integer| u32::try_from(integer).ok()).filter(|count| *count <= MAX);
    let count = count.and_then(NonZeroU32::new).and_then(|count| T::try_from(count).ok());
    count.ok_or_else(|| found.refuse(&format!("an integer from 1 to {MAX}"), None))
}

/// Reads `true` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let found = Found::read(deserializer);
    found.boolean().ok_or_else(|| found.refuse("true or false", None))
}

/// Reads an address with its port. Names are not resolved, so that the file shows what is listened on.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let found = Found::read(deserializer);
    found.text().and_then(|text| text.parse().ok()).ok_or_else(|| {
        found.refuse("an IP address and a port such as \"127.0.0.1:7480\" or \"[::1]:7480\"", None)
    })
}

/// A path, relative to the working directory.
pub(super) mod path {
    use std::path::PathBuf;

    use serde::{Deserializer, Serialize as _, Serializer};

    use super::{Found, parse_path};

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: From<PathBuf>,
    {
        let found = Found::read(deserializer);
        found.text().and_then(parse_path).map(T::from).ok_or_else(|| found.refuse("a path", None))
    }

    pub(crate) fn serialize<S, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Clone + Into<Option<PathBuf>>,
    {
        let path: Option<PathBuf> = value.clone().into();
        path.map(|path| path.to_string_lossy().into_owned()).serialize(serializer)
    }
}

/// A path; the empty text stands for none.
pub(super) mod path_or_empty {
    use std::path::PathBuf;

    use serde::{Deserializer, Serializer};

    use super::{Found, parse_path, path};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
        let found = Found::read(d);
        if found.text() == Some("") {
            return Ok(None);
        }
        let path = found.text().and_then(parse_path).map(Some);
        path.ok_or_else(|| found.refuse("a path, or \"\" for none", None))
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

/// A type with a few values, each with a name.
pub(super) trait Choice: Copy + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The name as the file writes it.
    fn name(self) -> &'static str;
}

/// One name of a [`Choice`].
pub(super) mod choice {
    use serde::{Deserializer, Serializer};

    use super::{Choice, Found, quote, similar};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Choice>(deserializer: D) -> Result<T, D::Error> {
        let found = Found::read(deserializer);
        let chosen = T::ALL.iter().find(|choice| Some(choice.name()) == found.text());
        chosen.copied().ok_or_else(|| {
            let names: Vec<_> = T::ALL.iter().map(|choice| choice.name()).collect();
            let quoted: Vec<_> = names.iter().map(|name| quote(name)).collect();
            let spelling = found.text().and_then(|text| similar(text, &names)).map(quote);
            found.refuse(&format!("one of {}", quoted.join(", ")), spelling)
        })
    }

    pub(crate) fn serialize<S: Serializer, T: Choice>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.name())
    }
}
