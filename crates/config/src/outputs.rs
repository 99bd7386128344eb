//! The output links of the file, `[[outputs]]`: software that reads its own formats.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::addresses::{Endpoint, Network};
use super::links::Link;
use frame::{Selection, Station};
use framing::{Decode, Length};
use wire::feed::Policy;

mod explain;
mod print;
pub(super) mod table;

/// An output link: durable frames for software that does not speak our protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name, unique among the outputs: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`. Begins with a letter
    /// or a digit, so that it can name a file.
    pub name: String,
    /// Where the frames go.
    pub transport: OutputTransport,
    /// How they are delimited.
    pub framing: OutputFraming,
    /// Whether space packets are taken out of the frames.
    pub extract_packets: bool,
    /// What the frames of sources are that no link decodes, see [`Output::decode_of`].
    pub decode: Option<Decode>,
    /// Which frames go out.
    pub select: OutputSelection,
    /// Where the output begins.
    pub start: OutputStart,
    /// What happens when a reader is too slow.
    pub policy: Policy,
}

/// Where the frames of an output go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTransport {
    /// Readers connect over TCP.
    Listen {
        /// The address to listen on.
        at: SocketAddr,
        /// Who may connect. Empty only on loopback: every program of this host.
        peers: Vec<Network>,
        /// Readers at a time. With [`OutputStart::Cursor`] it is 1.
        clients: usize,
    },
    /// The output connects over TCP.
    Connect {
        /// The reader.
        to: Endpoint,
    },
    /// The output sends each frame or packet as a datagram.
    Udp {
        /// The reader.
        to: SocketAddr,
        /// Limit of the bytes sent in a second.
        bytes_per_s: u64,
    },
}

/// How an output delimits what it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputFraming {
    /// Not at all.
    Bare,
    /// By a length field. `max_frame_length` is what the field can say.
    Length(Length),
    /// By the header of COSMOS' protocol PREIDENTIFIED.
    Cosmos(Cosmos),
}

/// The parameters of COSMOS' protocol PREIDENTIFIED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosmos {
    /// The pattern before each packet.
    pub sync: u32,
    /// The name of the target, 1 to 255 bytes.
    pub target: String,
    /// The names of packets by APID, 1 to 255 bytes each. A packet without a name is `UNKNOWN`.
    pub packets: BTreeMap<u16, String>,
}

/// Which frames go out. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Where an output begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputStart {
    /// With the next durable frame, for each reader.
    #[default]
    Live,
    /// Where it has been, also after a restart.
    Cursor,
    /// With the oldest frame, for each reader.
    Earliest,
}

impl Output {
    /// Limit of readers at a time.
    #[must_use]
    pub const fn clients_max(&self) -> usize {
        match self.transport {
            OutputTransport::Listen { clients, .. } => clients,
            OutputTransport::Connect { .. } | OutputTransport::Udp { .. } => 1,
        }
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
