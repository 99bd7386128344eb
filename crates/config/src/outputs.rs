//! The output links of the file, `[[outputs]]`: software that reads its own formats.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::addresses::{Endpoint, Network};
use super::draft::Draft;
use super::framings::{check_decode, decode};
use super::links::Link;
use super::sections::CENTURY_MS;
use super::tree::{Content, Node, path};
use super::units::{GIB, KIB, MIB};
use super::values::{
    DurationIn, SizeIn, address, cosmos_name, display, display_each, endpoint, integer, name, networks,
    packet_names, sources, stations,
};
use archive::PAYLOAD_BYTES_MAX;
use frame::{FramePriority, Selection, SourceKind, Station};
use framing::{Decode, Length};
use wire::feed::Policy;

mod aggregator;
mod explain;
mod nats;

pub use aggregator::AggregatorTransport;
pub use nats::{FileSecret, MessageForm, NatsTransport};

/// Limit of outputs.
pub(super) const MAX: usize = 256;
/// Limit of readers of one output.
const CLIENTS_MAX: i64 = 1_024;
/// Readers of one output, unless the file says otherwise.
const CLIENTS: usize = 4;

/// An output link: durable frames for software that does not speak our protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Output {
    /// Its name, unique among the outputs: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`. Begins with a letter
    /// or a digit, so that it can name a file.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Where the frames go.
    pub transport: OutputTransport,
    /// How they are delimited.
    #[serde(default)]
    pub framing: OutputFraming,
    /// Whether space packets are taken out of the frames.
    #[serde(default, rename = "extract", with = "extract")]
    pub extract_packets: bool,
    /// What the frames of sources are that no link decodes, see [`Output::decode_of`].
    #[serde(default, with = "decode")]
    pub decode: Option<Decode>,
    /// Which frames go out.
    #[serde(default)]
    pub select: OutputSelection,
    /// Where the output begins.
    #[serde(default)]
    pub start: OutputStart,
    /// What happens when a reader is too slow.
    #[serde(default = "complete", with = "PolicyName")]
    pub policy: Policy,
    /// Of a forwarder: with a larger lag the daemon says that it is late.
    #[serde(default, with = "DurationIn::<0, CENTURY_MS>", skip_serializing_if = "Option::is_none")]
    pub lag_max: Option<Duration>,
    /// Of a forwarder: the archive keeps what is not forwarded, whatever its retention.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retention_hold: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The names of [`Policy`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "Policy", rename_all = "lowercase")]
enum PolicyName {
    Complete,
    Timely,
}

const fn complete() -> Policy {
    Policy::Complete
}

const fn rate() -> u64 {
    4 * MIB
}

/// The pattern of COSMOS before each packet, unless the file says otherwise.
const fn sync() -> u32 {
    0xCAFE_BABE
}

/// Where the frames of an output go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputTransport {
    /// Readers connect over TCP.
    Listen {
        /// The address to listen on.
        #[serde(rename = "listen", deserialize_with = "address")]
        at: SocketAddr,
        /// Who may connect. Empty only on loopback: every program of this host.
        #[serde(default, deserialize_with = "networks", serialize_with = "display_each")]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        peers: Vec<Network>,
        /// Readers at a time. With [`OutputStart::Cursor`] it is 1.
        #[serde(default, deserialize_with = "integer::<1, CLIENTS_MAX, _, _>")]
        clients: usize,
    },
    /// The output connects over TCP.
    Connect {
        /// The reader.
        #[serde(rename = "connect", deserialize_with = "endpoint", serialize_with = "display")]
        to: Endpoint,
    },
    /// The output sends each frame or packet as a datagram.
    Udp {
        /// The reader.
        #[serde(rename = "udp", deserialize_with = "address")]
        to: SocketAddr,
        /// Limit of the bytes sent in a second.
        #[serde(default = "rate", rename = "rate", with = "SizeIn::<KIB, { 10 * GIB }>")]
        bytes_per_s: u64,
    },
    /// The output forwards each frame into a stream of NATS, which acknowledges.
    Nats(Box<NatsTransport>),
    /// The output forwards each frame to another aggregator, which acknowledges.
    Aggregator(Box<AggregatorTransport>),
}

/// How an output delimits what it sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFraming {
    /// Not at all.
    #[default]
    Bare,
    /// By a length field. `max_frame_length` is what the field can say.
    Length(#[serde(with = "LengthTable")] Length),
    /// By the header of COSMOS' protocol PREIDENTIFIED.
    Cosmos(Cosmos),
}

/// The keys of [`Length`] that an output has.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Length", default = "Length::default")]
struct LengthTable {
    #[serde(skip)]
    length_field_offset: usize,
    #[serde(deserialize_with = "integer::<1, 8, _, _>")]
    length_field_length: usize,
    #[serde(
        deserialize_with = "integer::<{ -(PAYLOAD_BYTES_MAX as i64) }, { PAYLOAD_BYTES_MAX as i64 }, _, _>"
    )]
    length_adjustment: isize,
    #[serde(skip)]
    num_skip: Option<usize>,
    big_endian: bool,
    #[serde(skip)]
    max_frame_length: usize,
    #[serde(skip)]
    strip: usize,
}

/// The parameters of COSMOS' protocol PREIDENTIFIED.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cosmos {
    /// The pattern before each packet.
    #[serde(default = "sync", deserialize_with = "integer::<0, { u32::MAX as i64 }, _, _>")]
    pub sync: u32,
    /// The name of the target, 1 to 255 bytes.
    #[serde(deserialize_with = "cosmos_name")]
    pub target: String,
    /// The names of packets by APID, 1 to 255 bytes each. A packet without a name is `UNKNOWN`.
    #[serde(default, deserialize_with = "packet_names", serialize_with = "by_text")]
    pub packets: BTreeMap<u16, String>,
}

/// Writes names by APID. The key of a table is a text.
fn by_text<S: Serializer>(names: &BTreeMap<u16, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.iter().map(|(apid, name)| (apid.to_string(), name)))
}

/// Which frames go out. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "SelectTable", into = "SelectTable")]
pub struct OutputSelection {
    /// Sources, kind and lane.
    pub frames: Selection,
    /// The stations. Empty takes all.
    pub stations: BTreeSet<Station>,
    /// Whether bad frames go out.
    pub bad: bool,
    /// Whether idle frames and packets go out.
    pub idle: bool,
}

/// The table `select`.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct SelectTable {
    #[serde(deserialize_with = "sources")]
    sources: BTreeSet<u32>,
    kind: KindName,
    priority: PriorityName,
    #[serde(deserialize_with = "stations", serialize_with = "display_each")]
    stations: BTreeSet<Station>,
    bad: bool,
    idle: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    All,
    #[default]
    Live,
    Replay,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum PriorityName {
    #[default]
    All,
    Emergency,
    Routine,
}

const KINDS: [(KindName, Option<SourceKind>); 3] = [
    (KindName::All, None),
    (KindName::Live, Some(SourceKind::LiveUplink)),
    (KindName::Replay, Some(SourceKind::ArchivedReplay)),
];

const PRIORITIES: [(PriorityName, Option<FramePriority>); 3] = [
    (PriorityName::All, None),
    (PriorityName::Emergency, Some(FramePriority::Emergency)),
    (PriorityName::Routine, Some(FramePriority::Routine)),
];

impl Default for OutputSelection {
    fn default() -> Self {
        SelectTable::default().into()
    }
}

impl From<SelectTable> for OutputSelection {
    fn from(SelectTable { sources, kind, priority, stations, bad, idle }: SelectTable) -> Self {
        let kind = KINDS.iter().find(|(name, _)| *name == kind).and_then(|(_, kind)| *kind);
        let lane = PRIORITIES.iter().find(|(name, _)| *name == priority).and_then(|(_, lane)| *lane);
        let frames = Selection::of_sources(sources).with_kind(kind).with_priority(lane);
        Self { frames, stations, bad, idle }
    }
}

impl From<OutputSelection> for SelectTable {
    fn from(OutputSelection { frames, stations, bad, idle }: OutputSelection) -> Self {
        let kind = KINDS.iter().find(|(_, kind)| *kind == frames.kind).map(|(name, _)| *name);
        let priority = PRIORITIES.iter().find(|(_, lane)| *lane == frames.priority).map(|(name, _)| *name);
        let sources = frames.sources().iter().copied().collect();
        let (kind, priority) = (kind.unwrap_or_default(), priority.unwrap_or_default());
        Self { sources, kind, priority, stations, bad, idle }
    }
}

/// Where an output begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStart {
    /// With the next durable frame, for each reader.
    #[default]
    Live,
    /// Where it has been, also after a restart.
    Cursor,
    /// With the oldest frame, for each reader.
    Earliest,
}

/// Whether packets are taken out of frames: `"none"` or `"packets"`.
mod extract {
    use super::*;

    #[derive(Deserialize, Serialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Extract {
        None,
        Packets,
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Extract::deserialize(deserializer).map(|extract| extract == Extract::Packets)
    }

    pub(super) fn serialize<S: Serializer>(packets: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        if *packets { Extract::Packets } else { Extract::None }.serialize(serializer)
    }
}

/// Reads a table of `[[outputs]]`, and sets the defaults that follow from other keys.
pub(super) fn read(draft: &mut Draft<'_>, node: &mut Node) -> Option<Output> {
    place_cosmos(draft, node);
    let has = |node: &Node, name: &str| node.table().is_some_and(|table| table.contains_key(name));
    let has_start = has(node, "start");
    let selects =
        |name| node.table().and_then(|table| table.get("select")).is_some_and(|select| has(select, name));
    let (selects_kind, selects_bad, selects_idle) = (selects("kind"), selects("bad"), selects("idle"));
    let mut output: Output = draft.read_whole(node)?;
    if let Some(decode) = &output.decode {
        check_decode(draft, &node.key, decode);
    }
    if let OutputTransport::Listen { clients: clients @ 0, .. } = &mut output.transport {
        *clients = if output.start == OutputStart::Cursor { 1 } else { CLIENTS };
    }
    match &mut output.transport {
        OutputTransport::Nats(nats) => nats::resolve(draft, &node.key, nats),
        OutputTransport::Aggregator(aggregator) => aggregator::resolve(draft, &node.key, aggregator),
        _ => {}
    }
    if output.is_forwarder() {
        // A forwarder leaves out what the file says, and nothing else.
        if !has_start {
            output.start = OutputStart::Cursor;
        }
        let select = &mut output.select;
        select.bad |= !selects_bad;
        select.idle |= !selects_idle;
        if !selects_kind {
            select.frames = select.frames.clone().with_kind(None);
        }
    }
    output.lag_max = output.lag_max.filter(|lag| !lag.is_zero());
    if let OutputFraming::Length(length) = &mut output.framing {
        let highest = u64::MAX >> (64 - 8 * length.length_field_length);
        length.max_frame_length = highest.min(2 * PAYLOAD_BYTES_MAX as u64) as usize;
    }
    Some(output)
}

/// Makes the table `cosmos` the framing. It may be written with `framing = { kind = "cosmos" }`, or alone.
fn place_cosmos(draft: &mut Draft<'_>, output: &mut Node) {
    #[derive(Deserialize)]
    struct OnlyKind {}

    let [key, framing_key] = ["cosmos", "framing"].map(|name| path(&output.key, name));
    let Some(table) = output.table_mut() else { return };
    let framing = table.get("framing").map(|framing| framing.kind().map(str::to_owned));
    let cosmos = table.remove("cosmos");
    match (framing, cosmos) {
        (Some(Some(kind)), None) if kind == "cosmos" => {
            let alone =
                table.remove("framing").and_then(|mut framing| draft.read_whole::<OnlyKind>(&mut framing));
            if alone.is_some() {
                let form = "{ target = \"SAT\", packets = { 100 = \"HS\" } }";
                draft.problem(&key, format!("is missing: expected a table such as {form}"));
            }
        }
        (Some(Some(kind)), Some(_)) if kind != "cosmos" => {
            draft.problem(&key, "belongs to framing = { kind = \"cosmos\" }: remove one of the two");
        }
        (None | Some(Some(_)), Some(cosmos)) => {
            let (name_at, at) = (cosmos.name_at.clone(), cosmos.at.clone());
            let content = Content::Kind("cosmos", Box::new(cosmos));
            let framing = Node { key: framing_key, name_at, at, content };
            if let Some(mut framing) = table.insert("framing".to_owned(), framing) {
                draft.read_whole::<OnlyKind>(&mut framing);
            }
        }
        _ => {}
    }
}

impl Output {
    /// Limit of readers at a time.
    #[must_use]
    pub const fn clients_max(&self) -> usize {
        match self.transport {
            OutputTransport::Listen { clients, .. } => clients,
            OutputTransport::Connect { .. } | OutputTransport::Udp { .. } => 1,
            // One for each lane.
            OutputTransport::Nats(_) | OutputTransport::Aggregator(_) => 2,
        }
    }

    /// Whether the output is a forwarder: the other side acknowledges what it has stored.
    #[must_use]
    pub const fn is_forwarder(&self) -> bool {
        matches!(self.transport, OutputTransport::Nats(_) | OutputTransport::Aggregator(_))
    }

    /// What the frames of `source_id` from `station` are.
    ///
    /// A link that names the source says it, of several one of this station. Else it is [`Output::decode`], or what a
    /// link says that takes any source.
    #[must_use]
    pub fn decode_of(&self, source_id: u32, station: &Station, links: &[Link]) -> Option<Decode> {
        let decodes = self.decodes_of(source_id, links);
        let of_station = decodes.iter().find(|(of, _)| *of == Some(station));
        of_station.or(decodes.first()).map(|(_, decode)| *decode)
    }

    /// What the frames of `source_id` may be, by station.
    pub(super) fn decodes_of<'a>(
        &self,
        source_id: u32,
        links: &'a [Link],
    ) -> Vec<(Option<&'a Station>, Decode)> {
        let of = |takes: fn(&Link, u32) -> bool| {
            let links = links.iter().filter(|link| takes(link, source_id));
            links.map(|link| (Some(&link.station), link.decode)).collect::<Vec<_>>()
        };
        let named = of(Link::names_source);
        match self.decode {
            _ if !named.is_empty() => named,
            Some(decode) => vec![(None, decode)],
            None => of(Link::may_deliver),
        }
    }
}
