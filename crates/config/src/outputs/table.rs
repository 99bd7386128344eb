//! Reads the tables of `[[outputs]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Cosmos, Output, OutputFraming, OutputSelection, OutputStart, OutputTransport};
use crate::addresses::{Endpoint, Network};
use crate::framings::{FramingTable, Kind, take_decode};
use crate::link_values::{cosmos_name, endpoint, integer, name, networks, packet_names};
use crate::reader::{Entry, Reader};
use crate::tokens::{sources, stations};
use crate::units::{GIB, KIB, MIB};
use crate::values::{Choice, SizeIn, address, choice, flag};
use archive::PAYLOAD_BYTES_MAX;
use frame::{FramePriority, Selection, SourceKind, Station};
use framing::Length;
use wire::feed::Policy;

/// Limit of outputs.
const OUTPUTS_MAX: usize = 256;
/// Limit of readers of one output.
const CLIENTS_MAX: i64 = 1_024;
/// Readers of one output, unless the file says otherwise.
const CLIENTS: usize = 4;
/// Bytes that an output sends over UDP in a second, unless the file says otherwise.
const RATE: u64 = 4 * MIB;
/// The pattern of COSMOS before each packet, unless the file says otherwise.
const SYNC: u32 = 0xCAFE_BABE;

/// The keys allowed in a table of `[[outputs]]`.
pub(crate) const OUTPUT_KEYS: [&str; 14] = [
    "name", "listen", "connect", "udp", "peers", "clients", "rate", "framing", "cosmos", "extract", "decode",
    "select", "start", "policy",
];

/// The keys allowed in the table `select`.
pub(crate) const SELECT_KEYS: [&str; 6] = ["sources", "kind", "priority", "stations", "bad", "idle"];

/// The keys allowed in the table `cosmos`.
pub(crate) const COSMOS_KEYS: [&str; 3] = ["sync", "target", "packets"];

/// The kinds of framing of an output.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum OutputKind {
    Bare,
    Length,
    Cosmos,
}

impl Choice for OutputKind {
    const NAMED: &'static [(&'static str, Self)] =
        &[("bare", Self::Bare), ("length", Self::Length), ("cosmos", Self::Cosmos)];
}

impl Kind for OutputKind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bare | Self::Cosmos => &["kind"],
            Self::Length => &["kind", "length_field_length", "length_adjustment", "big_endian"],
        }
    }
}

/// What is taken out of frames.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Extract {
    #[default]
    None,
    Packets,
}

impl Choice for Extract {
    const NAMED: &'static [(&'static str, Self)] = &[("none", Self::None), ("packets", Self::Packets)];
}

impl Choice for OutputStart {
    const NAMED: &'static [(&'static str, Self)] =
        &[("live", Self::Live), ("cursor", Self::Cursor), ("earliest", Self::Earliest)];
}

impl Choice for Policy {
    const NAMED: &'static [(&'static str, Self)] = &[("complete", Self::Complete), ("timely", Self::Timely)];
}

/// A kind of source to select; `None` selects both.
impl Choice for Option<SourceKind> {
    const NAMED: &'static [(&'static str, Self)] = &[
        ("all", None),
        ("live", Some(SourceKind::LiveUplink)),
        ("replay", Some(SourceKind::ArchivedReplay)),
    ];
}

/// A lane to select; `None` selects both.
impl Choice for Option<FramePriority> {
    const NAMED: &'static [(&'static str, Self)] = &[
        ("all", None),
        ("emergency", Some(FramePriority::Emergency)),
        ("routine", Some(FramePriority::Routine)),
    ];
}

/// A table of `[[outputs]]` as it was written. The inner tables are read apart.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OutputTable {
    #[serde(deserialize_with = "name")]
    name: Option<String>,
    #[serde(deserialize_with = "address")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "endpoint")]
    connect: Option<Endpoint>,
    #[serde(deserialize_with = "address")]
    udp: Option<SocketAddr>,
    #[serde(deserialize_with = "networks")]
    peers: Option<Vec<Network>>,
    #[serde(deserialize_with = "integer::<1, CLIENTS_MAX, _, _>")]
    clients: Option<usize>,
    #[serde(deserialize_with = "SizeIn::<KIB, { 10 * GIB }>::deserialize")]
    rate: Option<u64>,
    #[serde(deserialize_with = "choice::deserialize")]
    extract: Extract,
    #[serde(deserialize_with = "choice::deserialize")]
    start: OutputStart,
    #[serde(deserialize_with = "choice::optional")]
    policy: Option<Policy>,
}

/// The table `select` with its defaults.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SelectTable {
    #[serde(deserialize_with = "sources")]
    sources: BTreeSet<u32>,
    #[serde(deserialize_with = "choice::deserialize")]
    kind: Option<SourceKind>,
    #[serde(deserialize_with = "choice::deserialize")]
    priority: Option<FramePriority>,
    #[serde(deserialize_with = "stations")]
    stations: BTreeSet<Station>,
    #[serde(deserialize_with = "flag")]
    bad: bool,
    #[serde(deserialize_with = "flag")]
    idle: bool,
}

impl Default for SelectTable {
    fn default() -> Self {
        Self {
            sources: BTreeSet::new(),
            kind: Some(SourceKind::LiveUplink),
            priority: None,
            stations: BTreeSet::new(),
            bad: false,
            idle: false,
        }
    }
}

/// The table `cosmos` as it was written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CosmosTable {
    #[serde(deserialize_with = "integer::<0, { u32::MAX as i64 }, _, _>")]
    sync: Option<u32>,
    #[serde(deserialize_with = "cosmos_name")]
    target: Option<String>,
    #[serde(deserialize_with = "packet_names")]
    packets: BTreeMap<u16, String>,
}

/// Reads the `list` of outputs.
pub(crate) fn read(reader: &mut Reader<'_>, list: Spanned<DeValue<'_>>) -> Vec<(Entry, Output)> {
    let at = Entry { key: "outputs".to_owned(), span: list.span() };
    reader.note_location(&at);
    reader.read_list(&at, list.into_inner(), "[[outputs]]", OUTPUTS_MAX, read_output)
}

/// Reads the table `at`. Reports its errors.
fn read_output(reader: &mut Reader<'_>, at: &Entry, mut table: DeTable<'_>) -> Option<Output> {
    let problems = reader.draft.problem_count();
    reader.note_locations(at, &table);
    reader.drop_unknown_keys(&at.key, &mut table, &OUTPUT_KEYS);
    let cosmos = take_cosmos(reader, at, &mut table);
    let framing = take_framing(reader, at, &mut table, cosmos);
    let decode = take_decode(reader, at, &mut table);
    let select = take_select(reader, at, &mut table);
    let values: OutputTable = reader.read_values(&at.key, &mut table);
    if reader.draft.problem_count() > problems || reader.draft.is_full() {
        return None;
    }
    let Some(name) = values.name.clone() else {
        reader.missing(at, "name", "a name of its own such as \"yamcs-live\"");
        return None;
    };
    Some(Output {
        name,
        transport: transport(reader, at, &values)?,
        framing: framing?,
        extract_packets: values.extract == Extract::Packets,
        decode,
        select,
        start: values.start,
        policy: values.policy.unwrap_or(Policy::Complete),
    })
}

/// The transport of the output `at`. Reports keys that do not belong to it.
fn transport(reader: &mut Reader<'_>, at: &Entry, values: &OutputTable) -> Option<OutputTransport> {
    let is_cursor = values.start == OutputStart::Cursor;
    let (key, transport) = match (values.listen, values.connect.clone(), values.udp) {
        (Some(at), None, None) => {
            let clients = values.clients.unwrap_or(if is_cursor { 1 } else { CLIENTS });
            let peers = values.peers.clone().unwrap_or_default();
            ("listen", OutputTransport::Listen { at, peers, clients })
        }
        (None, Some(to), None) => ("connect", OutputTransport::Connect { to }),
        (None, None, Some(to)) => {
            ("udp", OutputTransport::Udp { to, bytes_per_s: values.rate.unwrap_or(RATE) })
        }
        _ => {
            reader.problem(&at.span, &at.key, "expected exactly one of listen, connect and udp");
            return None;
        }
    };
    let written = [
        ("peers", values.peers.is_some(), "listen"),
        ("clients", values.clients.is_some(), "listen"),
        ("rate", values.rate.is_some(), "udp"),
    ];
    reader.check_transport(at, "output", key, &written);
    Some(transport)
}

/// Takes the framing of an output out of `table`. Without one, it is `cosmos` if there is such a table, else bare.
fn take_framing(
    reader: &mut Reader<'_>,
    at: &Entry,
    table: &mut DeTable<'_>,
    cosmos: Option<Cosmos>,
) -> Option<OutputFraming> {
    let is_written = table.contains_key("framing");
    let Some((entry, mut table)) = reader.take_table(at, table, "framing", "{ kind = \"bare\" }") else {
        return (!is_written).then_some(cosmos.map_or(OutputFraming::Bare, OutputFraming::Cosmos));
    };
    let (kind, values): (OutputKind, FramingTable) = reader.read_kind(&entry, &mut table)?;
    match (kind, cosmos) {
        (OutputKind::Bare, None) => Some(OutputFraming::Bare),
        (OutputKind::Length, None) => Some(OutputFraming::Length(length(values))),
        (OutputKind::Cosmos, Some(cosmos)) => Some(OutputFraming::Cosmos(cosmos)),
        (OutputKind::Cosmos, None) => {
            reader.missing(at, "cosmos", "a table such as { target = \"SAT\", packets = { 100 = \"HS\" } }");
            None
        }
        (_, Some(_)) => {
            reader.conflict(
                at,
                "cosmos",
                "belongs to framing = { kind = \"cosmos\" }: remove one of the two",
            );
            None
        }
    }
}

/// The length field of an output.
fn length(values: FramingTable) -> Length {
    let default = Length::default();
    let length = Length {
        length_field_length: values.length_field_length.unwrap_or(default.length_field_length),
        length_adjustment: values.length_adjustment.unwrap_or(default.length_adjustment),
        big_endian: values.big_endian.unwrap_or(default.big_endian),
        ..default
    };
    let highest = u64::MAX >> (64 - 8 * length.length_field_length);
    Length { max_frame_length: highest.min(2 * PAYLOAD_BYTES_MAX as u64) as usize, ..length }
}

/// Takes the parameters of COSMOS out of `table`, if they are there.
fn take_cosmos(reader: &mut Reader<'_>, at: &Entry, table: &mut DeTable<'_>) -> Option<Cosmos> {
    let (entry, mut table) = reader.take_table(at, table, "cosmos", "{ target = \"SAT\" }")?;
    let problems = reader.draft.problem_count();
    reader.drop_unknown_keys(&entry.key, &mut table, &COSMOS_KEYS);
    let values: CosmosTable = reader.read_values(&entry.key, &mut table);
    if values.target.is_none() && reader.draft.problem_count() == problems {
        reader.missing(&entry, "target", "the name of a COSMOS target such as \"SAT\"");
    }
    Some(Cosmos { sync: values.sync.unwrap_or(SYNC), target: values.target?, packets: values.packets })
}

/// Takes the selection out of `table`.
fn take_select(reader: &mut Reader<'_>, at: &Entry, table: &mut DeTable<'_>) -> OutputSelection {
    let form = "{ sources = [157], kind = \"live\" }";
    let values: SelectTable = match reader.take_table(at, table, "select", form) {
        Some((entry, mut table)) => {
            reader.drop_unknown_keys(&entry.key, &mut table, &SELECT_KEYS);
            reader.read_values(&entry.key, &mut table)
        }
        None => SelectTable::default(),
    };
    let frames = Selection::of_sources(values.sources).with_kind(values.kind).with_priority(values.priority);
    OutputSelection { frames, stations: values.stations, bad: values.bad, idle: values.idle }
}
