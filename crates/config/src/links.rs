//! The input links of the file, `[[links]]`: equipment that speaks its own protocol.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::addresses::{Endpoint, Network};
use super::draft::Draft;
use super::framings::{FramingTable, check_decode, check_framing, decode};
use super::tree::{Node, path};
use super::units::{GIB, KIB, MIB, print_duration};
use super::values::{
    APID_MAX, DurationIn, Hex, SizeIn, address, display, display_each, endpoint, group, integer, integers,
    interface, name, networks, read_or_suggest, similar, station,
};
use archive::PAYLOAD_BYTES_MAX;
use frame::{SourceKind, Station, StreamKey};
use framing::{Decode, Fecf, Format, Framing};

mod explain;

/// Limit of links.
pub(super) const MAX: usize = 256;
/// Limit of emergency rules of one link. Each frame is compared with every rule.
const RULES_MAX: usize = 64;
/// The highest virtual channel of any format.
const CHANNEL_MAX: i64 = 63;

/// An input link: frames of equipment that does not speak our protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Link {
    /// Its name, unique among the links: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Where its bytes come from.
    pub transport: LinkTransport,
    /// Whether the connections are encrypted. Never with UDP.
    #[serde(default)]
    pub tls: bool,
    /// The station of its streams.
    #[serde(default, deserialize_with = "station", serialize_with = "display")]
    pub station: Station,
    /// How its bytes are cut into units.
    #[serde(with = "FramingTable")]
    pub framing: Framing,
    /// What a unit is.
    #[serde(default, with = "decode")]
    pub decode: Decode,
    /// The spacecraft whose frames are taken. Empty takes all.
    #[serde(default, deserialize_with = "integers::<{ u16::MAX as i64 }, _, _>")]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub spacecraft: BTreeSet<u16>,
    /// The source that a frame belongs to.
    #[serde(default, with = "source")]
    pub source: LinkSource,
    /// The source of bad frames, unless [`Link::spacecraft`] names exactly one.
    #[serde(default, deserialize_with = "integer::<0, { u32::MAX as i64 }, _, _>")]
    pub bad_source: Option<u32>,
    /// A frame for which one of these rules holds is an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency: Vec<EmergencyRule>,
    /// Whether idle frames are dropped.
    #[serde(default, rename = "idle", with = "drops")]
    pub drop_idle: bool,
    /// Whether frames whose check fails are dropped.
    #[serde(default, rename = "bad", with = "drops")]
    pub drop_bad: bool,
    /// What happens when the pipeline takes no more frames. With UDP it is [`WhenFull::DropRoutine`].
    #[serde(default)]
    pub when_full: WhenFull,
    /// The time without a unit after which the link is silent; `None` never is.
    #[serde(default, deserialize_with = "DurationIn::<0, { 30 * 86_400_000 }>::deserialize")]
    #[serde(serialize_with = "silence")]
    pub silence_timeout: Option<Duration>,
    /// A jump of a counter beyond this is a restart of the counter. `None` means half the modulo of the counter, and at
    /// most 65,536.
    #[serde(default, deserialize_with = "integer::<1, { u32::MAX as i64 }, _, _>")]
    pub max_gap: Option<u32>,
    /// Most streams at a time of sources that the configuration does not name.
    #[serde(default = "max_sources", deserialize_with = "integer::<1, { LINK_SOURCES_MAX as i64 }, _, _>")]
    pub max_sources: usize,
    /// Whether the link runs from the start.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn max_sources() -> usize {
    64
}

const fn yes() -> bool {
    true
}

const fn receive_buffer() -> u64 {
    4 * MIB
}

/// Where the bytes of a link come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkTransport {
    /// The link connects over TCP.
    Connect {
        /// The equipment.
        #[serde(rename = "connect", deserialize_with = "endpoint", serialize_with = "display")]
        to: Endpoint,
        /// Bytes to send after connecting.
        #[serde(default, with = "Hex::<1024>")]
        greeting: Vec<u8>,
    },
    /// The equipment connects over TCP.
    Listen {
        /// The address to listen on.
        #[serde(rename = "listen", deserialize_with = "address")]
        at: SocketAddr,
        /// Who may connect. Empty only on loopback: every program of this host.
        #[serde(default, deserialize_with = "networks", serialize_with = "display_each")]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        peers: Vec<Network>,
    },
    /// The equipment sends datagrams. Each begins with a unit.
    Udp {
        /// The address to receive at.
        #[serde(rename = "udp", deserialize_with = "address")]
        at: SocketAddr,
        /// Who may send. Empty only on loopback: every program of this host.
        #[serde(default, deserialize_with = "networks", serialize_with = "display_each")]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        peers: Vec<Network>,
        /// The group to join.
        #[serde(default, deserialize_with = "group")]
        multicast: Option<IpAddr>,
        /// The address of the interface on which the group is joined. `None` lets the system choose.
        #[serde(default, deserialize_with = "interface")]
        interface: Option<Ipv4Addr>,
        /// Bytes of the receive buffer to ask the kernel for.
        #[serde(default = "receive_buffer", with = "SizeIn::<{ 4 * KIB }, GIB>")]
        receive_buffer: u64,
    },
}

/// The source that a frame of a link belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkSource {
    /// The spacecraft id.
    #[default]
    Spacecraft,
    /// The application process of a packet.
    Apid,
    /// The spacecraft id times 256 plus the virtual channel.
    SpacecraftChannel,
    /// This source.
    Fixed(u32),
}

/// A rule that says which frames are emergencies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "RuleTable", into = "RuleTable")]
pub enum EmergencyRule {
    /// Frames of these virtual channels.
    Channels(BTreeSet<u8>),
    /// Packets of these application processes.
    Apids(BTreeSet<u16>),
    /// Frames whose byte at `offset`, with the bits of `mask`, is `value`.
    Byte {
        /// Position of the byte in the frame, from 0.
        offset: usize,
        /// The bits that count.
        mask: u8,
        /// Their value.
        value: u8,
    },
}

/// What a link does when the pipeline takes no more frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It stops reading. TCP makes the equipment wait.
    #[default]
    Wait,
    /// It drops routine frames and counts them.
    DropRoutine,
}

/// An emergency rule as it is written.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct RuleTable {
    #[serde(deserialize_with = "integers::<CHANNEL_MAX, _, _>", skip_serializing_if = "BTreeSet::is_empty")]
    vcid: BTreeSet<u8>,
    #[serde(
        deserialize_with = "integers::<{ APID_MAX as i64 }, _, _>",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    apid: BTreeSet<u16>,
    #[serde(deserialize_with = "integer::<0, { PAYLOAD_BYTES_MAX as i64 - 1 }, _, _>")]
    offset: Option<usize>,
    #[serde(deserialize_with = "integer::<1, 255, _, _>")]
    mask: Option<u8>,
    #[serde(deserialize_with = "integer::<0, 255, _, _>")]
    value: Option<u8>,
}

impl TryFrom<RuleTable> for EmergencyRule {
    type Error = String;

    fn try_from(RuleTable { vcid, apid, offset, mask, value }: RuleTable) -> Result<Self, String> {
        let is_byte = offset.is_some() || mask.is_some() || value.is_some();
        match (vcid.is_empty(), apid.is_empty(), is_byte, offset.zip(value)) {
            (false, true, false, _) => Ok(Self::Channels(vcid)),
            (true, false, false, _) => Ok(Self::Apids(apid)),
            (true, true, true, Some((offset, value))) => {
                let mask = mask.unwrap_or(u8::MAX);
                if value & !mask == 0 {
                    return Ok(Self::Byte { offset, mask, value });
                }
                Err(format!("no byte matches: value {value:#04x} has bits that are not in mask {mask:#04x}"))
            }
            _ => Err("expected exactly one of { vcid = [3] }, { apid = [100] } and \
                      { offset = 6, mask = 0x80, value = 0x80 }"
                .to_owned()),
        }
    }
}

impl From<EmergencyRule> for RuleTable {
    fn from(rule: EmergencyRule) -> Self {
        match rule {
            EmergencyRule::Channels(vcid) => Self { vcid, ..Self::default() },
            EmergencyRule::Apids(apid) => Self { apid, ..Self::default() },
            EmergencyRule::Byte { offset, mask, value } => {
                Self { offset: Some(offset), mask: Some(mask), value: Some(value), ..Self::default() }
            }
        }
    }
}

/// The source of frames: a name, or a number.
mod source {
    use super::*;

    const NAMED: [(&str, LinkSource); 3] = [
        ("scid", LinkSource::Spacecraft),
        ("apid", LinkSource::Apid),
        ("scid-vcid", LinkSource::SpacecraftChannel),
    ];

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LinkSource, D::Error> {
        let expected = format!("\"scid\", \"apid\", \"scid-vcid\" or an integer from 0 to {}", u32::MAX);
        let parse = |found: &Value| match found {
            Value::String(found) => NAMED.iter().find(|(name, _)| name == found).map(|(_, source)| *source),
            found => u32::try_from(found.as_integer()?).ok().map(LinkSource::Fixed),
        };
        read_or_suggest(deserializer, &expected, parse, |found| {
            Some(format!("{:?}", similar(found.as_str()?, &NAMED.map(|(name, _)| name))?))
        })
    }

    pub(super) fn serialize<S: Serializer>(source: &LinkSource, serializer: S) -> Result<S::Ok, S::Error> {
        match (source, NAMED.iter().find(|(_, named)| named == source)) {
            (LinkSource::Fixed(id), _) => serializer.serialize_u32(*id),
            (_, named) => serializer.serialize_str(named.map_or("", |(name, _)| name)),
        }
    }
}

/// Whether frames of some sort are dropped: `"keep"` or `"drop"`.
mod drops {
    use super::*;

    #[derive(Deserialize, Serialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Keep {
        Keep,
        Drop,
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Keep::deserialize(deserializer).map(|keep| keep == Keep::Drop)
    }

    pub(super) fn serialize<S: Serializer>(drops: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        if *drops { Keep::Drop } else { Keep::Keep }.serialize(serializer)
    }
}

/// Writes a timeout. None is `"0s"`.
fn silence<S: Serializer>(timeout: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    print_duration(timeout.unwrap_or_default()).serialize(serializer)
}

/// Reads a table of `[[links]]`, and sets the defaults that follow from other keys.
pub(super) fn read(draft: &mut Draft<'_>, node: &mut Node) -> Option<Link> {
    if let Some(table) = node.table()
        && table.contains_key("connect")
        && let Some(peers) = table.get("peers")
        && let Err(error) = networks(peers)
    {
        // A link that connects has no use for peers.
        draft.problem_at(&peers.at, &peers.key, error.what);
    }
    let mut link: Link = draft.read_whole(node)?;
    let key = &node.key;
    check_framing(draft, key, &link.framing);
    check_decode(draft, key, &link.decode);
    // A link whose units are packets decodes them, because nothing else can be in them.
    if matches!(link.framing, Framing::Packet { .. }) && !draft.is_written(key, "decode") {
        link.decode.format = Format::Packet;
    }
    link.silence_timeout = link.silence_timeout.filter(|timeout| !timeout.is_zero());
    if link.emergency.len() > RULES_MAX {
        let what = format!("{} tables, at most {RULES_MAX} are allowed", link.emergency.len());
        draft.problem(&path(key, "emergency"), what);
    }
    if let LinkTransport::Udp { multicast, interface, .. } = link.transport {
        if link.when_full == WhenFull::Wait && draft.is_written(key, "when_full") {
            let what = "a sender of datagrams does not wait: remove it or write \"drop-routine\", or use connect or listen";
            draft.conflict_in_table(path(key, "when_full"), what);
        }
        link.when_full = WhenFull::DropRoutine;
        if link.tls {
            draft.conflict_in_table(path(key, "tls"), "TLS needs TCP: remove it, or use connect or listen");
        }
        if let Some(address) = interface
            && !multicast.is_some_and(|group| group.is_ipv4())
        {
            let what =
                format!("{address} is the interface of an IPv4 group: add multicast such as \"239.1.2.3\"");
            draft.conflict_in_table(path(key, "interface"), what);
        }
    }
    Some(link)
}

impl Link {
    /// Whether the configuration says by name that frames of `source_id` come from this link.
    #[must_use]
    pub fn names_source(&self, source_id: u32) -> bool {
        let is_listed = |id: u32| u16::try_from(id).is_ok_and(|id| self.spacecraft.contains(&id));
        match self.source {
            LinkSource::Fixed(id) => source_id == id,
            LinkSource::Spacecraft => is_listed(source_id),
            LinkSource::SpacecraftChannel => is_listed(source_id >> 8),
            LinkSource::Apid => false,
        }
    }

    /// Whether frames of `source_id` may come from this link.
    #[must_use]
    pub fn may_deliver(&self, source_id: u32) -> bool {
        let takes_all = self.spacecraft.is_empty();
        self.names_source(source_id)
            || match self.source {
                LinkSource::Fixed(_) => false,
                LinkSource::Spacecraft => takes_all && source_id <= u16::MAX.into(),
                LinkSource::SpacecraftChannel => takes_all && source_id >> 8 <= u16::MAX.into(),
                LinkSource::Apid => source_id <= APID_MAX.into(),
            }
    }
}

/// The largest [`Link::max_sources`].
pub const LINK_SOURCES_MAX: usize = 4_096;
/// Most units of a link that wait until a second unit confirms their source.
pub const CANDIDATES_MAX: usize = 16;
/// The virtual channels of a spacecraft: no format has more.
const CHANNELS_OF_SPACECRAFT: usize = 64;
/// The fewest channels whose gaps a link notices at a time.
const CHANNELS_MIN: usize = 256;

impl Link {
    /// Whether the peer can choose sources that the configuration does not name.
    #[must_use]
    pub fn lets_peer_invent(&self) -> bool {
        match self.source {
            LinkSource::Fixed(_) => false,
            LinkSource::Apid => true,
            LinkSource::Spacecraft | LinkSource::SpacecraftChannel => self.spacecraft.is_empty(),
        }
    }

    /// Whether neither a checksum nor a list of spacecraft vouches for the header of a transfer frame.
    #[must_use]
    pub fn takes_any_header(&self) -> bool {
        self.lets_peer_invent() && is_transfer_frame(self.decode.format) && self.decode.fecf == Fecf::None
    }

    /// Whether the configuration names the source of a stream that the link carries.
    #[must_use]
    pub fn names_stream_of(&self, source_id: u32) -> bool {
        self.bad_source == Some(source_id) || self.names_source(source_id)
    }

    /// Whether the peer of the link may have chosen the source of `stream`.
    #[must_use]
    pub fn may_have_invented(&self, stream: &StreamKey) -> bool {
        stream.source_kind == SourceKind::LiveUplink
            && stream.station == self.station
            && self.may_deliver(stream.source_id)
            && !self.names_stream_of(stream.source_id)
    }

    /// Most streams of sources that the peer can invent.
    #[must_use]
    pub fn invented_max(&self) -> usize {
        if self.enabled && self.lets_peer_invent() { self.max_sources } else { 0 }
    }

    /// Most streams that the link carries at a time.
    #[must_use]
    pub fn streams_max(&self) -> usize {
        let sources = match self.source {
            LinkSource::Fixed(_) => 1,
            _ if self.lets_peer_invent() => self.max_sources,
            LinkSource::Spacecraft | LinkSource::Apid => self.spacecraft.len(),
            LinkSource::SpacecraftChannel => self.spacecraft.len() * CHANNELS_OF_SPACECRAFT,
        };
        sources + usize::from(self.bad_source.is_some())
    }

    /// Most channels whose gaps the link notices at a time.
    #[must_use]
    pub fn channels_max(&self) -> usize {
        (4 * self.streams_max()).max(CHANNELS_MIN)
    }
}

const fn is_transfer_frame(format: Format) -> bool {
    matches!(format, Format::Tm | Format::Aos(_) | Format::Uslp)
}
