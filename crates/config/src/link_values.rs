//! The kinds of values that only links and outputs have.
//!
//! Each function reads an optional value. The tables of links and outputs hold the values as they were written, and
//! the defaults follow when all keys are known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserializer;
use serde::de::Error as _;
use toml::Value;

use super::addresses::{Endpoint, Network, NetworkError};
use super::units::parse_size;
use super::values::{read, read_any};
use frame::Station;

/// Longest name of a link or an output, in characters.
const NAME_CHARS_MAX: usize = 64;
/// Limit of networks in a list.
const NETWORKS_MAX: usize = 256;
/// Longest name of a COSMOS target or packet in bytes: its length is one byte.
const COSMOS_NAME_BYTES_MAX: usize = u8::MAX as usize;

/// Reads the name of a link or an output. It names a file and stands in log lines and metrics.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
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
    read(deserializer, &expected, |found| found.as_str().filter(is_name).map(|name| Some(name.to_owned())))
}

/// Reads a host to connect to.
pub(super) fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Endpoint>, D::Error> {
    let expected =
        "an IP address or the name of a host, and a port, such as \"10.0.8.5:7000\" or \"modem:7000\"";
    read(deserializer, expected, |found| Endpoint::parse(found.as_str()?).map(Some))
}

/// Reads a multicast group.
pub(super) fn group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    read(deserializer, "an IP address of multicast such as \"239.1.2.3\"", |found| {
        found.as_str()?.parse().ok().filter(IpAddr::is_multicast).map(Some)
    })
}

/// Reads the address of an interface of this host.
pub(super) fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    read(deserializer, "the IPv4 address of an interface of this host such as \"10.0.8.1\"", |found| {
        found.as_str()?.parse().ok().map(Some)
    })
}

/// Reads up to `MAX` bytes in hex.
pub(super) fn hex<'de, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    let expected = format!("up to {MAX} bytes in hex such as \"1ACFFC1D\"");
    read(deserializer, &expected, |found| {
        let text = found.as_str().filter(|text| text.is_ascii() && text.len() <= 2 * MAX)?;
        if !text.len().is_multiple_of(2) {
            return None;
        }
        let byte = |at: usize| {
            let digits = &text[at..at + 2];
            (!digits.starts_with('+')).then(|| u8::from_str_radix(digits, 16).ok())?
        };
        (0..text.len()).step_by(2).map(byte).collect::<Option<_>>().map(Some)
    })
}

/// `bytes` in hex, as [`hex`] reads them.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Reads an integer from `MIN` to `MAX`.
pub(super) fn integer<'de, const MIN: i64, const MAX: i64, D, T>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    read(deserializer, &format!("an integer from {MIN} to {MAX}"), |found| {
        let integer = found.as_integer().filter(|integer| (MIN..=MAX).contains(integer))?;
        T::try_from(integer).ok().map(Some)
    })
}

/// Reads a number of bytes from `MIN` to `MAX`, as an integer or as a size.
pub(super) fn bytes<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    let expected = format!("a number of bytes from {MIN} to {MAX}, such as 1279 or \"2 KiB\"");
    read(deserializer, &expected, |found| {
        let bytes = match found {
            Value::String(text) => parse_size(text)?,
            found => found.as_integer()?.try_into().ok()?,
        };
        (MIN..=MAX).contains(&bytes).then(|| usize::try_from(bytes).ok())?.map(Some)
    })
}

/// Reads a list of at least one integer from 0 to `MAX`.
pub(super) fn integers<'de, const MAX: i64, D, T>(deserializer: D) -> Result<Option<BTreeSet<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + Ord,
{
    read(deserializer, &format!("a list of integers from 0 to {MAX} such as [1, 2]"), |found| {
        let integer = |item: &Value| {
            let integer = item.as_integer().filter(|integer| (0..=MAX).contains(integer))?;
            T::try_from(integer).ok()
        };
        let integers: BTreeSet<T> = found.as_array()?.iter().map(integer).collect::<Option<_>>()?;
        (!integers.is_empty()).then_some(Some(integers))
    })
}

/// Reads the name of a station with the rules of HELLO.
pub(super) fn station<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Station>, D::Error> {
    let name: String = read(deserializer, "the name of a station such as \"KIRUNA\"", |found| {
        found.as_str().map(str::to_owned)
    })?;
    Station::new(&name).map(Some).map_err(D::Error::custom)
}

/// Reads a list of networks.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Network>>, D::Error> {
    let found = read_any(deserializer);
    let expected = "expected a list of networks such as [\"10.0.8.0/24\", \"2001:db8::/32\"]";
    let items = found.as_array().ok_or_else(|| D::Error::custom(expected))?;
    if items.len() > NETWORKS_MAX {
        let text = format!("{} networks, at most {NETWORKS_MAX} are allowed", items.len());
        return Err(D::Error::custom(text));
    }
    let network = |item: &Value| {
        let text = item.as_str().ok_or_else(|| D::Error::custom(expected))?;
        Network::parse(text).map_err(|error| {
            D::Error::custom(match error {
                NetworkError::Form => format!("found {item}, {expected}"),
                NetworkError::HostBits(meant) => {
                    format!("{item} has bits behind its prefix; write \"{meant}\"")
                }
            })
        })
    };
    items.iter().map(network).collect::<Result<_, _>>().map(Some)
}

/// Reads the name of a COSMOS target.
pub(super) fn cosmos_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let expected = format!("a name of 1 to {COSMOS_NAME_BYTES_MAX} bytes such as \"SAT\"");
    read(deserializer, &expected, |found| as_cosmos_name(found).map(Some))
}

/// Reads the names of COSMOS packets, by APID.
pub(super) fn packet_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u16, String>, D::Error> {
    read(deserializer, "names by APID such as { 100 = \"HS\", 101 = \"EVR\" }", |found| {
        let named = found.as_table()?.iter().map(|(apid, name)| {
            let apid = apid.parse().ok().filter(|apid| *apid <= super::framings::APID_MAX)?;
            Some((apid, as_cosmos_name(name)?))
        });
        named.collect()
    })
}

fn as_cosmos_name(found: &Value) -> Option<String> {
    let name = found.as_str()?;
    let is_name = (1..=COSMOS_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}
