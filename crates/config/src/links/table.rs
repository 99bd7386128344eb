//! Reads the tables of `[[links]]`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::{EmergencyRule, LINK_SOURCES_MAX, Link, LinkSource, LinkTransport, WhenFull};
use crate::addresses::{Endpoint, Network};
use crate::framings::{self, APID_MAX};
use crate::link_values::{endpoint, group, hex, integer, integers, interface, name, networks, station};
use crate::reader::{Entry, Reader};
use crate::suggest::similar;
use crate::units::{GIB, KIB, MIB};
use crate::values::{Choice, DurationIn, SizeIn, address, choice, flag, quote, read_or_suggest};
use archive::PAYLOAD_BYTES_MAX;
use frame::Station;
use framing::{Decode, Format, Framing};

/// Limit of links.
const LINKS_MAX: usize = 256;
/// Streams at a time of sources that the configuration does not name, unless the file says otherwise.
const MAX_SOURCES: usize = 64;
/// Limit of emergency rules of one link. Each frame is compared with every rule.
const RULES_MAX: usize = 64;
/// The highest virtual channel of any format.
const CHANNEL_MAX: i64 = 63;

/// The keys allowed in a table of `[[links]]`.
pub(crate) const LINK_KEYS: [&str; 24] = [
    "name",
    "connect",
    "listen",
    "udp",
    "greeting",
    "peers",
    "tls",
    "multicast",
    "interface",
    "receive_buffer",
    "station",
    "framing",
    "decode",
    "spacecraft",
    "source",
    "bad_source",
    "emergency",
    "idle",
    "bad",
    "when_full",
    "silence_timeout",
    "max_gap",
    "max_sources",
    "enabled",
];

/// The names of the sources that are not a number.
pub(crate) const SOURCES: [(&str, LinkSource); 3] = [
    ("scid", LinkSource::Spacecraft),
    ("apid", LinkSource::Apid),
    ("scid-vcid", LinkSource::SpacecraftChannel),
];

impl Choice for WhenFull {
    const NAMED: &'static [(&'static str, Self)] =
        &[("wait", Self::Wait), ("drop-routine", Self::DropRoutine)];
}

/// Whether frames of some sort are kept.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Keep {
    #[default]
    Keep,
    Drop,
}

impl Choice for Keep {
    const NAMED: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("drop", Self::Drop)];
}

/// A table of `[[links]]` as it was written. `framing`, `decode` and `emergency` are read apart.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LinkTable {
    #[serde(deserialize_with = "name")]
    name: Option<String>,
    #[serde(deserialize_with = "endpoint")]
    connect: Option<Endpoint>,
    #[serde(deserialize_with = "address")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "address")]
    udp: Option<SocketAddr>,
    #[serde(deserialize_with = "hex::<1024, _>")]
    greeting: Option<Vec<u8>>,
    #[serde(deserialize_with = "networks")]
    peers: Option<Vec<Network>>,
    #[serde(deserialize_with = "flag")]
    tls: Option<bool>,
    #[serde(deserialize_with = "group")]
    multicast: Option<IpAddr>,
    #[serde(deserialize_with = "interface")]
    interface: Option<Ipv4Addr>,
    #[serde(deserialize_with = "SizeIn::<{ 4 * KIB }, GIB>::deserialize")]
    receive_buffer: Option<u64>,
    #[serde(deserialize_with = "station")]
    station: Option<Station>,
    #[serde(deserialize_with = "integers::<{ u16::MAX as i64 }, _, _>")]
    spacecraft: Option<BTreeSet<u16>>,
    #[serde(deserialize_with = "source")]
    source: LinkSource,
    #[serde(deserialize_with = "integer::<0, { u32::MAX as i64 }, _, _>")]
    bad_source: Option<u32>,
    #[serde(deserialize_with = "choice::deserialize")]
    idle: Keep,
    #[serde(deserialize_with = "choice::deserialize")]
    bad: Keep,
    #[serde(deserialize_with = "choice::optional")]
    when_full: Option<WhenFull>,
    #[serde(deserialize_with = "DurationIn::<0, { 30 * 86_400_000 }>::deserialize")]
    silence_timeout: Duration,
    #[serde(deserialize_with = "integer::<1, { u32::MAX as i64 }, _, _>")]
    max_gap: Option<u32>,
    #[serde(deserialize_with = "integer::<1, { LINK_SOURCES_MAX as i64 }, _, _>")]
    max_sources: Option<usize>,
    #[serde(deserialize_with = "flag")]
    enabled: Option<bool>,
}

/// The receive buffer of UDP that the kernel is asked for, unless the file says otherwise.
const RECEIVE_BUFFER: u64 = 4 * MIB;

/// Reads the `list` of links.
pub(crate) fn read(reader: &mut Reader<'_>, list: Spanned<DeValue<'_>>) -> Vec<(Entry, Link)> {
    let at = Entry { key: "links".to_owned(), span: list.span() };
    reader.note_location(&at);
    reader.read_list(&at, list.into_inner(), "[[links]]", LINKS_MAX, read_link)
}

/// Reads the table `at`. Reports its errors.
pub(super) fn read_link(reader: &mut Reader<'_>, at: &Entry, mut table: DeTable<'_>) -> Option<Link> {
    let problems = reader.draft.problem_count();
    reader.note_locations(at, &table);
    reader.drop_unknown_keys(&at.key, &mut table, &LINK_KEYS);
    let framing = framings::take_framing(reader, at, &mut table);
    let decode = framings::take_decode(reader, at, &mut table);
    let emergency = take_rules(reader, at, &mut table);
    let values: LinkTable = reader.read_values(&at.key, &mut table);
    if reader.draft.problem_count() > problems || reader.draft.is_full() {
        return None;
    }
    let Some(name) = values.name.clone() else {
        reader.missing(at, "name", "a name of its own such as \"kiruna-x\"");
        return None;
    };
    let framing = framing?;
    let transport = transport(reader, at, &values)?;
    let default_when_full = match transport {
        LinkTransport::Udp { .. } => WhenFull::DropRoutine,
        _ => WhenFull::Wait,
    };
    Some(Link {
        name,
        // A link whose units are packets decodes them, because nothing else can be in them.
        decode: decode.unwrap_or(match framing {
            Framing::Packet { .. } => Decode { format: Format::Packet, ..Decode::default() },
            _ => Decode::default(),
        }),
        transport,
        tls: values.tls.unwrap_or(false),
        station: values.station.unwrap_or_default(),
        framing,
        spacecraft: values.spacecraft.unwrap_or_default(),
        source: values.source,
        bad_source: values.bad_source,
        emergency,
        drop_idle: values.idle == Keep::Drop,
        drop_bad: values.bad == Keep::Drop,
        when_full: values.when_full.unwrap_or(default_when_full),
        silence_timeout: Some(values.silence_timeout).filter(|timeout| !timeout.is_zero()),
        max_gap: values.max_gap,
        max_sources: values.max_sources.unwrap_or(MAX_SOURCES),
        enabled: values.enabled.unwrap_or(true),
    })
}

/// The transport of the link `at`. Reports keys that do not belong to it.
fn transport(reader: &mut Reader<'_>, at: &Entry, values: &LinkTable) -> Option<LinkTransport> {
    let peers = values.peers.clone().unwrap_or_default();
    let transport = match (values.connect.clone(), values.listen, values.udp) {
        (Some(to), None, None) => {
            LinkTransport::Connect { to, greeting: values.greeting.clone().unwrap_or_default() }
        }
        (None, Some(at), None) => LinkTransport::Listen { at, peers },
        (None, None, Some(at)) => LinkTransport::Udp {
            at,
            peers,
            multicast: values.multicast,
            interface: values.interface,
            receive_buffer: values.receive_buffer.unwrap_or(RECEIVE_BUFFER),
        },
        _ => {
            reader.problem(&at.span, &at.key, "expected exactly one of connect, listen and udp");
            return None;
        }
    };
    let key = transport.key();
    let written = [
        ("greeting", values.greeting.is_some(), "connect"),
        ("multicast", values.multicast.is_some(), "udp"),
        ("interface", values.interface.is_some(), "udp"),
        ("receive_buffer", values.receive_buffer.is_some(), "udp"),
    ];
    reader.check_transport(at, "link", key, &written);
    if key == "udp" && values.when_full == Some(WhenFull::Wait) {
        let what = "a sender of datagrams does not wait: remove it or write \"drop-routine\", or use connect or listen";
        reader.conflict(at, "when_full", what);
    }
    if key == "udp" && values.tls == Some(true) {
        reader.conflict(at, "tls", "TLS needs TCP: remove it, or use connect or listen");
    }
    if let Some(address) = values.interface
        && !values.multicast.is_some_and(|group| group.is_ipv4())
    {
        let what =
            format!("{address} is the interface of an IPv4 group: add multicast such as \"239.1.2.3\"");
        reader.conflict(at, "interface", what);
    }
    Some(transport)
}

/// The keys allowed in an emergency rule.
pub(crate) const RULE_KEYS: [&str; 5] = ["vcid", "apid", "offset", "mask", "value"];

/// An emergency rule as it was written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuleTable {
    #[serde(deserialize_with = "integers::<CHANNEL_MAX, _, _>")]
    vcid: Option<BTreeSet<u8>>,
    #[serde(deserialize_with = "integers::<{ APID_MAX as i64 }, _, _>")]
    apid: Option<BTreeSet<u16>>,
    #[serde(deserialize_with = "integer::<0, { PAYLOAD_BYTES_MAX as i64 - 1 }, _, _>")]
    offset: Option<usize>,
    #[serde(deserialize_with = "integer::<1, 255, _, _>")]
    mask: Option<u8>,
    #[serde(deserialize_with = "integer::<0, 255, _, _>")]
    value: Option<u8>,
}

/// Takes the emergency rules out of the `table` of a link. Reports their errors.
fn take_rules(reader: &mut Reader<'_>, at: &Entry, table: &mut DeTable<'_>) -> Vec<EmergencyRule> {
    let Some(list) = table.remove("emergency") else { return Vec::new() };
    let at = Entry { key: format!("{}.emergency", at.key), span: list.span() };
    let rules = reader.read_list(&at, list.into_inner(), "{ vcid = [3] }", RULES_MAX, read_rule);
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn read_rule(reader: &mut Reader<'_>, at: &Entry, mut table: DeTable<'_>) -> Option<EmergencyRule> {
    let problems = reader.draft.problem_count();
    reader.drop_unknown_keys(&at.key, &mut table, &RULE_KEYS);
    let values: RuleTable = reader.read_values(&at.key, &mut table);
    if reader.draft.problem_count() > problems {
        return None;
    }
    match values {
        RuleTable { vcid: Some(channels), apid: None, offset: None, mask: None, value: None } => {
            Some(EmergencyRule::Channels(channels))
        }
        RuleTable { vcid: None, apid: Some(apids), offset: None, mask: None, value: None } => {
            Some(EmergencyRule::Apids(apids))
        }
        RuleTable { vcid: None, apid: None, offset: Some(offset), mask, value: Some(value) } => {
            let mask = mask.unwrap_or(u8::MAX);
            if value & !mask != 0 {
                let what =
                    format!("no byte matches: value {value:#04x} has bits that are not in mask {mask:#04x}");
                reader.problem(&at.span, &at.key, what);
                return None;
            }
            Some(EmergencyRule::Byte { offset, mask, value })
        }
        _ => {
            let what = "expected exactly one of { vcid = [3] }, { apid = [100] } and \
                        { offset = 6, mask = 0x80, value = 0x80 }";
            reader.problem(&at.span, &at.key, what);
            None
        }
    }
}

/// Reads `source`.
fn source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LinkSource, D::Error> {
    let expected = format!("\"scid\", \"apid\", \"scid-vcid\" or an integer from 0 to {}", u32::MAX);
    let parse = |found: &Value| match found {
        Value::String(found) => SOURCES.iter().find(|(name, _)| name == found).map(|(_, source)| *source),
        found => u32::try_from(found.as_integer()?).ok().map(LinkSource::Fixed),
    };
    read_or_suggest(deserializer, &expected, parse, |found| {
        similar(found.as_str()?, &SOURCES.map(|(name, _)| name)).map(quote)
    })
}
