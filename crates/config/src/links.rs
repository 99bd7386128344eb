//! The input links of the file, `[[links]]`: equipment that speaks its own protocol.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::addresses::{Endpoint, Network};
use super::framings::APID_MAX;
use frame::{SourceKind, Station, StreamKey};
use framing::{Decode, Fecf, Format, Framing};

mod explain;
mod print;
mod recording;
pub(super) mod table;

pub use recording::RecordingOptions;

/// An input link: frames of equipment that does not speak our protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, unique among the links: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`.
    pub name: String,
    /// Where its bytes come from.
    pub transport: LinkTransport,
    /// Whether the connections are encrypted. Never with UDP.
    pub tls: bool,
    /// The station of its streams.
    pub station: Station,
    /// How its bytes are cut into units.
    pub framing: Framing,
    /// What a unit is.
    pub decode: Decode,
    /// The spacecraft whose frames are taken. Empty takes all.
    pub spacecraft: BTreeSet<u16>,
    /// The source that a frame belongs to.
    pub source: LinkSource,
    /// The source of bad frames, unless [`Link::spacecraft`] names exactly one.
    pub bad_source: Option<u32>,
    /// A frame for which one of these rules holds is an emergency.
    pub emergency: Vec<EmergencyRule>,
    /// Whether idle frames are dropped.
    pub drop_idle: bool,
    /// Whether frames whose check fails are dropped.
    pub drop_bad: bool,
    /// What happens when the pipeline takes no more frames. With UDP it is [`WhenFull::DropRoutine`].
    pub when_full: WhenFull,
    /// The time without a unit after which the link is silent; `None` never is.
    pub silence_timeout: Option<Duration>,
    /// A jump of a counter beyond this is a restart of the counter. `None` means half the modulo of the counter, and at
    /// most 65,536.
    pub max_gap: Option<u32>,
    /// Most streams at a time of sources that the configuration does not name.
    pub max_sources: usize,
    /// Whether the link runs from the start.
    pub enabled: bool,
}

/// Where the bytes of a link come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkTransport {
    /// The link connects over TCP.
    Connect {
        /// The equipment.
        to: Endpoint,
        /// Bytes to send after connecting.
        greeting: Vec<u8>,
    },
    /// The equipment connects over TCP.
    Listen {
        /// The address to listen on.
        at: SocketAddr,
        /// Who may connect. Empty only on loopback: every program of this host.
        peers: Vec<Network>,
    },
    /// The equipment sends datagrams. Each begins with a unit.
    Udp {
        /// The address to receive at.
        at: SocketAddr,
        /// Who may send. Empty only on loopback: every program of this host.
        peers: Vec<Network>,
        /// The group to join.
        multicast: Option<IpAddr>,
        /// The address of the interface on which the group is joined. `None` lets the system choose.
        interface: Option<Ipv4Addr>,
        /// Bytes of the receive buffer to ask the kernel for.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It stops reading. TCP makes the equipment wait.
    #[default]
    Wait,
    /// It drops routine frames and counts them.
    DropRoutine,
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

impl LinkTransport {
    /// The key of this transport.
    pub(super) const fn key(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Listen { .. } => "listen",
            Self::Udp { .. } => "udp",
        }
    }
}
