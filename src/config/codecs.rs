//! The kinds of values settings have: sizes, durations, counts, choices, addresses, paths, credentials.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::{MASK, Secret};
use super::setting::{Codec, Raw, Written, quote};
use super::units::{Size, parse_duration, parse_size, print_duration};

/// A size in bytes, into any integer that holds the upper limit.
pub(super) struct SizeIn<T> {
    range: RangeInclusive<u64>,
    value: PhantomData<T>,
}

/// A size within `range`.
pub(super) fn size<T>(range: RangeInclusive<u64>) -> SizeIn<T> {
    SizeIn { range, value: PhantomData }
}

impl<T: TryFrom<u64> + Copy + PartialEq + 'static> Codec for SizeIn<T>
where
    u64: From<T>,
{
    type Value = T;

    fn read(&self, raw: &Raw<'_>) -> Option<T> {
        let Raw::Text(text) = raw else { return None };
        let bytes = parse_size(text).filter(|bytes| self.range.contains(bytes))?;
        T::try_from(bytes).ok()
    }

    fn print(&self, value: &T) -> String {
        Size(u64::from(*value)).to_string()
    }

    fn allowed(&self) -> String {
        let (min, max) = (Size(*self.range.start()), Size(*self.range.end()));
        format!("a size such as \"64 MiB\", from {min} to {max}")
    }

    fn spelling(&self, raw: &Raw<'_>) -> Option<String> {
        let Raw::Integer(Some(integer)) = raw else {
            return None;
        };
        let bytes = u64::try_from(*integer).ok()?;
        self.range.contains(&bytes).then(|| quote(&Size(bytes).to_string()))
    }
}

/// A duration within a range, perhaps in whole seconds only.
pub(super) struct Time {
    range: RangeInclusive<Duration>,
    whole_seconds: bool,
}

/// A duration within `range`.
pub(super) fn time(range: RangeInclusive<Duration>) -> Time {
    Time { range, whole_seconds: false }
}

/// A duration of whole seconds within `range`.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> Time {
    Time { range, whole_seconds: true }
}

impl Codec for Time {
    type Value = Duration;

    fn read(&self, raw: &Raw<'_>) -> Option<Duration> {
        let Raw::Text(text) = raw else { return None };
        parse_duration(text)
            .filter(|duration| self.range.contains(duration))
            .filter(|duration| !self.whole_seconds || duration.subsec_nanos() == 0)
    }

    fn print(&self, value: &Duration) -> String {
        print_duration(*value)
    }

    fn allowed(&self) -> String {
        let min = print_duration(*self.range.start());
        let max = print_duration(*self.range.end());
        let whole = if self.whole_seconds { "of whole seconds " } else { "" };
        format!("a duration {whole}such as \"5s\", from {min} to {max}")
    }

    fn spelling(&self, raw: &Raw<'_>) -> Option<String> {
        let seconds = match raw {
            Raw::Integer(Some(integer)) => u64::try_from(*integer).ok()?,
            Raw::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        self.range
            .contains(&Duration::from_secs(seconds))
            .then(|| format!("\"{seconds}s\" if seconds are meant"))
    }
}

/// A count, into any non-zero integer that holds the upper limit.
pub(super) struct Count<T> {
    max: u32,
    value: PhantomData<T>,
}

/// A count from 1 to `max`.
pub(super) fn count<T>(max: u32) -> Count<T> {
    Count { max, value: PhantomData }
}

impl<T: TryFrom<NonZeroU32> + Display + Clone + PartialEq + 'static> Codec for Count<T> {
    type Value = T;
    const WRITTEN: Written = Written::Integer;

    fn read(&self, raw: &Raw<'_>) -> Option<T> {
        let Raw::Integer(Some(integer)) = raw else {
            return None;
        };
        let count = u32::try_from(*integer).ok().filter(|n| *n <= self.max)?;
        T::try_from(NonZeroU32::new(count)?).ok()
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        format!("an integer from 1 to {}", self.max)
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Codec for Flag {
    type Value = bool;
    const WRITTEN: Written = Written::Boolean;

    fn read(&self, raw: &Raw<'_>) -> Option<bool> {
        match raw {
            Raw::Boolean(flag) => Some(*flag),
            _ => None,
        }
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

/// One of a few names.
pub(super) struct Choice<T: 'static> {
    /// All values.
    pub(super) all: &'static [T],
    /// How each is written.
    pub(super) name: fn(T) -> &'static str,
}

impl<T: Copy + PartialEq> Codec for Choice<T> {
    type Value = T;

    fn read(&self, raw: &Raw<'_>) -> Option<T> {
        let Raw::Text(text) = raw else { return None };
        self.all.iter().copied().find(|choice| (self.name)(*choice) == *text)
    }

    fn print(&self, value: &T) -> String {
        (self.name)(*value).to_owned()
    }

    fn allowed(&self) -> String {
        let names: Vec<_> = self.all.iter().map(|c| quote((self.name)(*c))).collect();
        format!("one of {}", names.join(", "))
    }
}

/// An address with its port. Names are not resolved: what is listened on must be plain to see.
pub(super) struct Address;

impl Codec for Address {
    type Value = SocketAddr;

    fn read(&self, raw: &Raw<'_>) -> Option<SocketAddr> {
        match raw {
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn print(&self, value: &SocketAddr) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        "an IP address and a port such as \"127.0.0.1:7480\" or \"[::1]:7480\"".to_owned()
    }
}

/// A path, relative to the working directory.
pub(super) struct FilePath;

impl Codec for FilePath {
    type Value = PathBuf;

    fn read(&self, raw: &Raw<'_>) -> Option<PathBuf> {
        match raw {
            Raw::Text(text) if !text.is_empty() && !text.contains('\0') => Some(text.into()),
            _ => None,
        }
    }

    fn print(&self, value: &PathBuf) -> String {
        value.to_string_lossy().into_owned()
    }

    fn allowed(&self) -> String {
        "a path".to_owned()
    }
}

/// A path, or empty for none.
pub(super) struct PathOrNone;

impl Codec for PathOrNone {
    type Value = Option<PathBuf>;

    fn read(&self, raw: &Raw<'_>) -> Option<Option<PathBuf>> {
        match raw {
            Raw::Text("") => Some(None),
            raw => FilePath.read(raw).map(Some),
        }
    }

    fn print(&self, value: &Option<PathBuf>) -> String {
        value.as_ref().map_or_else(String::new, |path| FilePath.print(path))
    }

    fn allowed(&self) -> String {
        "a path, or \"\" for none".to_owned()
    }
}

/// A credential; neither printed nor named in a refusal.
pub(super) struct Credential;

impl Codec for Credential {
    type Value = Secret;

    fn read(&self, raw: &Raw<'_>) -> Option<Secret> {
        match raw {
            Raw::Text(text) => Secret::new(text).ok(),
            _ => None,
        }
    }

    fn print(&self, _value: &Secret) -> String {
        MASK.to_owned()
    }

    fn allowed(&self) -> String {
        format!("a text of 1 to {} bytes", Secret::BYTES_MAX)
    }

    fn refusal(&self, raw: &Raw<'_>) -> String {
        let why = match raw {
            Raw::Text(text) => Secret::new(text).err().map(|error| error.to_string()),
            _ => None,
        };
        let why = why.unwrap_or_else(|| "is no text".to_owned());
        format!("the token {why}; expected {}", self.allowed())
    }
}
