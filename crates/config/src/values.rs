//! The kinds of values: how each is read, limited and written.
//!
//! The fields name these functions in their `serde` attributes. An error has the value found and the values allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use support::secret::Secret;
use toml::Value;

use super::addresses::{Endpoint, Network, NetworkError};
use super::units::{Size, parse_duration, parse_size, print_duration};
use frame::Station;
use upload::StoreUrl;

/// The highest application process of a space packet.
pub(super) const APID_MAX: u16 = 0x7FF;
/// Limit of stations in a list.
const STATIONS_MAX: usize = 1_024;
/// Limit of networks in a list.
const NETWORKS_MAX: usize = 256;
/// Longest name of a link or an output, in characters.
const NAME_CHARS_MAX: usize = 64;
/// Longest name of a COSMOS target or packet in bytes: its length is one byte.
const COSMOS_NAME_BYTES_MAX: usize = u8::MAX as usize;

/// Longest name of a client in bytes. A DNS name is not longer; the name of a workload (URI) may be.
const CLIENT_NAME_BYTES_MAX: usize = 1_024;

/// What the name of a client is, for messages.
pub(super) const CLIENT_NAME: &str =
    "a name of the client's certificate (subject alternative name) such as \"kiruna.example\"";

/// What the URL of a store is, for messages.
const STORE: &str = "the URL of a bucket such as \"s3://bucket/prefix\" (the endpoint and the credentials come from the \
                     environment: AWS_ENDPOINT, AWS_ACCESS_KEY_ID ..)";

/// A size from `MIN` to `MAX` bytes, written like `"64 MiB"`.
pub(super) struct SizeIn<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> SizeIn<MIN, MAX> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: From<u64>>(d: D) -> Result<T, D::Error> {
        let expected = format!("a size such as \"64 MiB\", from {} to {}", Size(MIN), Size(MAX));
        let is_allowed = |bytes: &u64| (MIN..=MAX).contains(bytes);
        let parse = |found: &Value| parse_size(found.as_str()?).filter(is_allowed);
        read_or_suggest(d, &expected, parse, |found| {
            let bytes = u64::try_from(found.as_integer()?).ok().filter(is_allowed)?;
            Some(format!("{:?}", Size(bytes).to_string()))
        })
    }

    pub(super) fn serialize<S: Serializer, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Into<Option<u64>>,
    {
        or_not_set((*value).into().map(|bytes| Size(bytes).to_string()), serializer)
    }
}

/// A duration from `MIN_MS` to `MAX_MS` milliseconds, written like `"5s"`. May be limited to whole seconds.
pub(super) struct DurationIn<const MIN_MS: u64, const MAX_MS: u64, const WHOLE_SECONDS: bool = false>;

impl<const MIN_MS: u64, const MAX_MS: u64, const WHOLE_SECONDS: bool>
    DurationIn<MIN_MS, MAX_MS, WHOLE_SECONDS>
{
    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: From<Duration>>(d: D) -> Result<T, D::Error> {
        let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
        let whole = if WHOLE_SECONDS { "of whole seconds " } else { "" };
        let (from, to) = (print_duration(min), print_duration(max));
        let expected = format!("a duration {whole}such as \"5s\", from {from} to {to}");
        let is_allowed = |duration: &Duration| {
            (min..=max).contains(duration) && (!WHOLE_SECONDS || duration.subsec_nanos() == 0)
        };
        let parse = |found: &Value| parse_duration(found.as_str()?).filter(is_allowed);
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
        or_not_set((*value).into().map(print_duration), serializer)
    }
}

/// A path, relative to the working directory.
pub(super) mod path {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<PathBuf>>(d: D) -> Result<T, D::Error> {
        read(d, "a path", |found| parse_path(found.as_str()?))
    }

    pub(crate) fn serialize<S: Serializer, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Clone + Into<Option<PathBuf>>,
    {
        let path: Option<PathBuf> = value.clone().into();
        or_not_set(path.map(|path| path.to_string_lossy().into_owned()), serializer)
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

    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path::serialize(&path.clone().unwrap_or_default(), serializer)
    }
}

/// The URL of an object storage.
pub(super) mod store {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<StoreUrl>, D::Error> {
        read(d, STORE, |found| found.as_str()?.parse().ok().map(Some))
    }

    pub(crate) fn serialize<S: Serializer>(url: &Option<StoreUrl>, serializer: S) -> Result<S::Ok, S::Error> {
        or_not_set(url.as_ref().map(StoreUrl::to_string), serializer)
    }
}

fn parse_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| text.into())
}

/// Writes a value that may be absent. TOML has no word for that: an empty list stands for it.
pub(super) fn or_not_set<S: Serializer, T: Serialize>(
    value: Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => [(); 0].serialize(serializer),
    }
}

/// Writes a value as it is displayed.
pub(super) fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Writes values as they are displayed.
pub(super) fn display_each<'a, S, C, T>(values: C, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    C: IntoIterator<Item = &'a T>,
    T: Display + 'a,
{
    serializer.collect_seq(values.into_iter().map(ToString::to_string))
}

/// An integer of the configuration, or an optional one.
pub(super) trait Integer: Sized {
    fn of(integer: i64) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty),+) => {
        $(impl Integer for $type {
            fn of(integer: i64) -> Option<Self> {
                integer.try_into().ok()
            }
        })+
    };
}

integers!(u8, u16, u32, usize, isize);

impl Integer for NonZeroUsize {
    fn of(integer: i64) -> Option<Self> {
        Self::new(integer.try_into().ok()?)
    }
}

impl Integer for NonZeroU32 {
    fn of(integer: i64) -> Option<Self> {
        Self::new(integer.try_into().ok()?)
    }
}

impl<T: Integer> Integer for Option<T> {
    fn of(integer: i64) -> Option<Self> {
        T::of(integer).map(Some)
    }
}

/// Reads an integer from `MIN` to `MAX`.
pub(super) fn integer<'de, const MIN: i64, const MAX: i64, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Integer,
{
    read(deserializer, &format!("an integer from {MIN} to {MAX}"), |found| {
        T::of(found.as_integer().filter(|integer| (MIN..=MAX).contains(integer))?)
    })
}

/// Reads a number of bytes from `MIN` to `MAX`, as an integer or as a size.
pub(super) fn bytes<'de, const MIN: i64, const MAX: i64, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Integer,
{
    let expected = format!("a number of bytes from {MIN} to {MAX}, such as 1279 or \"2 KiB\"");
    read(deserializer, &expected, |found| {
        let bytes = match found {
            Value::String(text) => parse_size(text)?.try_into().ok()?,
            found => found.as_integer()?,
        };
        (MIN..=MAX).contains(&bytes).then(|| T::of(bytes))?
    })
}

/// Reads an address with its port. Names are not resolved, so that the file shows the real address of the listener.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let expected = "an IP address and a port such as \"127.0.0.1:7480\" or \"[::1]:7480\"";
    read(deserializer, expected, |found| found.as_str()?.parse::<SocketAddr>().ok())
}

/// Reads a host to connect to.
pub(super) fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
    let expected =
        "an IP address or the name of a host, and a port, such as \"10.0.8.5:7000\" or \"modem:7000\"";
    read(deserializer, expected, |found| Endpoint::parse(found.as_str()?))
}

/// Reads a multicast group.
pub(super) fn group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    read(deserializer, "an IP address of multicast such as \"239.1.2.3\"", |found| {
        found.as_str()?.parse::<IpAddr>().ok().filter(IpAddr::is_multicast)
    })
}

/// Reads the address of an interface of this host.
pub(super) fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    read(deserializer, "the IPv4 address of an interface of this host such as \"10.0.8.1\"", |found| {
        found.as_str()?.parse::<Ipv4Addr>().ok()
    })
}

/// Reads the name of a link or an output. It names a file and stands in log lines and metrics.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let expected = format!(
        "a name of 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, \"-\", \"_\" and \".\", which begins with a letter \
         or a digit"
    );
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = |name: &&str| {
        (1..=NAME_CHARS_MAX).contains(&name.len())
            && name.starts_with(is_plain)
            && name.chars().all(|c| is_plain(c) || "-_.".contains(c))
    };
    read(deserializer, &expected, |found| found.as_str().filter(is_name).map(str::to_owned))
}

/// Up to `MAX` bytes in hex.
pub(super) struct Hex<const MAX: usize>;

impl<const MAX: usize> Hex<MAX> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let expected = format!("up to {MAX} bytes in hex such as \"1ACFFC1D\"");
        read(deserializer, &expected, |found| {
            let digits: Option<Vec<_>> = found.as_str()?.chars().map(|digit| digit.to_digit(16)).collect();
            let digits = digits.filter(|digits| digits.len() <= 2 * MAX && digits.len().is_multiple_of(2))?;
            Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect::<Vec<_>>())
        })
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>().serialize(serializer)
    }
}

/// Reads a list of at least one integer from 0 to `MAX`.
pub(super) fn integers<'de, const MAX: i64, D, T>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Integer + Ord,
{
    read(deserializer, &format!("a list of integers from 0 to {MAX} such as [1, 2]"), |found| {
        let integer = |item: &Value| T::of(item.as_integer().filter(|integer| (0..=MAX).contains(integer))?);
        let integers: BTreeSet<T> = found.as_array()?.iter().map(integer).collect::<Option<_>>()?;
        Some(integers).filter(|integers| !integers.is_empty())
    })
}

/// Reads a list of source ids. The message never repeats a value, because a credential may be in the wrong place.
pub(super) fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u32>, D::Error> {
    let id = |id: &Value| id.as_integer().and_then(|id| u32::try_from(id).ok());
    let ids = read_any(deserializer).as_array().and_then(|ids| ids.iter().map(id).collect());
    ids.ok_or_else(|| {
        let max = u32::MAX;
        D::Error::custom(format!(
            "expected a list of source ids from 0 to {max} such as [1, 2]; empty for all"
        ))
    })
}

/// Reads the name of a station with the rules of HELLO.
pub(super) fn station<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Station, D::Error> {
    let name: String = read(deserializer, "the name of a station such as \"KIRUNA\"", |found| {
        found.as_str().map(str::to_owned)
    })?;
    Station::new(&name).map_err(D::Error::custom)
}

/// Reads names of stations with the rules of HELLO.
pub(super) fn stations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Station>, D::Error> {
    let expected = "expected a list of station names such as [\"svalbard\"]; empty for any";
    let mut seen = BTreeSet::new();
    list(deserializer, expected, "stations", STATIONS_MAX, |name, _| {
        let station = Station::new(name).map_err(|error| error.to_string())?;
        if seen.insert(station.clone()) {
            return Ok(station);
        }
        Err(format!("station {name:?} is listed twice: name each station once"))
    })
}

/// Reads a list of networks.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let expected = "expected a list of networks such as [\"10.0.8.0/24\", \"2001:db8::/32\"]";
    list(deserializer, expected, "networks", NETWORKS_MAX, |text, item| {
        Network::parse(text).map_err(|error| match error {
            NetworkError::Form => format!("found {item}, {expected}"),
            NetworkError::HostBits(meant) => format!("{item} has bits behind its prefix; write \"{meant}\""),
        })
    })
}

/// Reads a list of at most `max` texts.
fn list<'de, D: Deserializer<'de>, T, C: FromIterator<T>>(
    deserializer: D,
    expected: &str,
    what: &str,
    max: usize,
    mut parse: impl FnMut(&str, &Value) -> Result<T, String>,
) -> Result<C, D::Error> {
    let found = read_any(deserializer);
    let items = found.as_array().ok_or_else(|| D::Error::custom(expected))?;
    if items.len() > max {
        return Err(D::Error::custom(format!("{} {what}, at most {max} are allowed", items.len())));
    }
    let item = |item: &Value| match item.as_str() {
        Some(text) => parse(text, item).map_err(D::Error::custom),
        None => Err(D::Error::custom(expected)),
    };
    items.iter().map(item).collect()
}

/// Reads the name of a client.
pub(super) fn client_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name: String = read(deserializer, CLIENT_NAME, |found| found.as_str().map(str::to_ascii_lowercase))?;
    let is_wrong = |c: char| c.is_whitespace() || c.is_control();
    if name.contains('*') {
        return Err(D::Error::custom(format!("found {name:?}, which is a pattern, expected {CLIENT_NAME}")));
    }
    if name.is_empty() || name.len() > CLIENT_NAME_BYTES_MAX || name.chars().any(is_wrong) {
        return Err(D::Error::custom(format!("found {name:?}, expected {CLIENT_NAME}")));
    }
    Ok(name)
}

/// Reads the name of a COSMOS target.
pub(super) fn cosmos_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let expected = format!("a name of 1 to {COSMOS_NAME_BYTES_MAX} bytes such as \"SAT\"");
    read(deserializer, &expected, as_cosmos_name)
}

/// Reads the names of COSMOS packets, by APID.
pub(super) fn packet_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u16, String>, D::Error> {
    read(deserializer, "names by APID such as { 100 = \"HS\", 101 = \"EVR\" }", |found| {
        let named = found.as_table()?.iter().map(|(apid, name)| {
            let apid = apid.parse().ok().filter(|apid| *apid <= APID_MAX)?;
            Some((apid, as_cosmos_name(name)?))
        });
        named.collect::<Option<BTreeMap<_, _>>>()
    })
}

fn as_cosmos_name(found: &Value) -> Option<String> {
    let name = found.as_str()?;
    let is_name = (1..=COSMOS_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

/// A credential. The error never contains the value, because a credential may be in the wrong place.
pub(super) mod secret {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<Secret>>(d: D) -> Result<T, D::Error> {
        let found = read_any(d);
        let secret = found.as_str().ok_or_else(|| "is no text".to_owned());
        let secret = secret.and_then(|text| Secret::new(text).map_err(|error| error.to_string()));
        let max = Secret::BYTES_MAX;
        secret
            .map(T::from)
            .map_err(|why| D::Error::custom(format!("the token {why}; expected a text of 1 to {max} bytes")))
    }

    pub(crate) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        or_not_set(secret.as_ref(), serializer)
    }
}

/// Reads a value of any type.
pub(super) fn read_any<'de, D: Deserializer<'de>>(deserializer: D) -> Value {
    Value::deserialize(deserializer).unwrap_or(Value::Float(f64::INFINITY))
}

/// Reads a value with `parse`. The error has the value found and `expected`.
pub(super) fn read<'de, D: Deserializer<'de>, P, T: From<P>>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&Value) -> Option<P>,
) -> Result<T, D::Error> {
    read_or_suggest(deserializer, expected, parse, |_| None)
}

/// Like [`read`], but the error suggests a better `spelling` of the value, if there is one.
pub(super) fn read_or_suggest<'de, D: Deserializer<'de>, P, T: From<P>>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&Value) -> Option<P>,
    spelling: impl FnOnce(&Value) -> Option<String>,
) -> Result<T, D::Error> {
    let found = read_any(deserializer);
    parse(&found).map(T::from).ok_or_else(|| {
        let mut what = format!("found {}, expected {expected}", describe(&found));
        if let Some(spelling) = spelling(&found) {
            let _ = write!(what, "; write {spelling}");
        }
        D::Error::custom(what)
    })
}

/// The message for a value that is none of these `names`.
pub(super) fn one_of(found: &Value, names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    let meant = found.as_str().and_then(|found| similar(found, names));
    let meant = meant.map_or(String::new(), |meant| format!("; write {meant:?}"));
    format!("found {}, expected one of {}{meant}", describe(found), quoted.join(", "))
}

/// The value for a message. Long texts are cut, control characters are escaped.
pub(super) fn describe(found: &Value) -> String {
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

/// Reads the URLs of NATS servers.
pub(super) fn bus_servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let is_url = |url: &str| {
        let address = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
        address.is_some_and(|address| !address.is_empty() && !address.contains(['/', '@', ' ']))
    };
    let expected =
        "URLs of NATS servers such as \"nats://10.0.0.1:4222,nats://10.0.0.2:4222\", without credentials";
    read(deserializer, expected, |found| {
        let text = found.as_str()?;
        text.split(',').all(is_url).then(|| text.to_owned())
    })
}

/// Reads the name of a stream of NATS.
pub(super) fn bus_stream<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    read(deserializer, "1 to 255 characters of A-Z, a-z, 0-9, - and _", |found| {
        let name = found.as_str()?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        ((1..=255).contains(&name.len()) && name.chars().all(is_allowed)).then(|| name.to_owned())
    })
}

/// Reads the template of a subject of NATS.
pub(super) fn bus_subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let is_word = |word: &str| match word.strip_prefix('{') {
        Some(name) => matches!(name, "daemon}" | "kind}" | "source}" | "lane}"),
        None => !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
    };
    let expected = "words separated by dots, each of A-Z, a-z, 0-9, - and _, or one of {daemon}, {kind}, {source} and \
                    {lane}; {lane} must be among them";
    read(deserializer, expected, |found| {
        let text = found.as_str()?;
        let is_subject = text.len() <= 255 && text.split('.').all(is_word) && text.contains("{lane}");
        is_subject.then(|| text.to_owned())
    })
}

/// Reads the name of a user of NATS.
pub(super) fn bus_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    read(deserializer, "the name of a user", |found| {
        found.as_str().filter(|name| !name.chars().any(char::is_control)).map(str::to_owned)
    })
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
