//! Checks of input links.

use std::net::SocketAddr;

use crate::addresses::{Network, is_loopback};
use crate::draft::Draft;
use crate::framings::payload_bytes_max;
use crate::links::{EmergencyRule, Link, LinkSource, LinkTransport};
use crate::tree::path;
use framing::{Decode, Format, Framing, ScidBits};
use wire::data::FRAME_HEADER_BYTES;

/// Adds the problems of all links to `draft`.
pub(super) fn check_links(draft: &mut Draft<'_>) {
    let links: Vec<_> = draft.link_keys.clone().into_iter().zip(draft.config.links.clone()).collect();
    let names = links.iter().map(|(key, link)| (key.as_str(), link.name.as_str()));
    check_names(draft, names.collect());
    for (key, link) in &links {
        let mut check = Check { draft, key };
        check.transport(link);
        check.units(link);
        check.inventions(link);
    }
}

/// Adds the problems of the rules by which a recording is read.
pub(crate) fn check_recording(draft: &mut Draft<'_>, link: &Link) {
    let mut check = Check { draft, key: "" };
    if matches!(link.framing, Framing::Datagram { .. }) {
        check.conflict(
            "framing",
            "a recording has no datagrams: expected a framing that finds units in a stream",
        );
    }
    check.units(link);
}

/// Adds a problem for each name that stands before in the same list of keys and names.
pub(super) fn check_names(draft: &mut Draft<'_>, names: Vec<(&str, &str)>) {
    for (index, (key, name)) in names.iter().enumerate() {
        if let Some((first, _)) = names[..index].iter().find(|(_, other)| other == name) {
            Check { draft, key }
                .conflict("name", format!("{name:?} is the name of {first} too: give each its own"));
        }
    }
}

/// The table that is checked.
pub(super) struct Check<'a, 't> {
    pub(super) draft: &'a mut Draft<'t>,
    pub(super) key: &'a str,
}

impl Check<'_, '_> {
    /// Adds a problem with the key `name` of the table.
    pub(super) fn conflict(&mut self, name: &str, what: impl Into<String>) {
        self.draft.conflict_in_table(path(self.key, name), what);
    }

    /// A listener that other hosts reach needs a list of those that may use it.
    pub(super) fn peers(&mut self, name: &str, at: SocketAddr, peers: &[Network]) {
        if peers.is_empty() && !is_loopback(at) {
            let what = format!(
                "{at} can be reached from other hosts: add peers such as [\"10.0.8.0/24\"] to say which, or use \
                 127.0.0.1:{}",
                at.port()
            );
            self.conflict(name, what);
        }
    }

    fn transport(&mut self, link: &Link) {
        match &link.transport {
            LinkTransport::Connect { .. } => {}
            LinkTransport::Listen { at, peers } => self.peers("listen", *at, peers),
            LinkTransport::Udp { at, peers, multicast, .. } => {
                self.peers("udp", *at, peers);
                if let Some(group) = multicast
                    && group.is_ipv4() != at.is_ipv4()
                {
                    self.conflict("multicast", format!("{group} and udp = {at} are of two versions of IP"));
                }
            }
        }
        let is_udp = matches!(link.transport, LinkTransport::Udp { .. });
        let what = match link.framing {
            Framing::Datagram { .. } if !is_udp => {
                "a connection has no datagrams: use udp, or a framing that finds units in a stream"
            }
            Framing::Kiss(_) if is_udp => {
                "KISS is spoken over a connection: use connect or listen, or framing = { kind = \"datagram\" }"
            }
            Framing::Nctrs(_) if is_udp => "an NCTRS speaks over a connection: use connect",
            _ => return,
        };
        self.conflict("framing", what);
    }

    /// Warns of a link whose peer decides which sources there are.
    fn inventions(&mut self, link: &Link) {
        if link.invented_max() == 0 {
            return;
        }
        let way_out = match link.source {
            LinkSource::Apid => "write source = a number to keep all packets in one source",
            _ => "list the ids in spacecraft",
        };
        self.draft.warnings.push(format!(
            "link {:?}: its peer can begin up to {} sources (max_sources), because the configuration does not \
             name them; {way_out}, or restrict peers",
            link.name, link.max_sources
        ));
    }

    /// Checks what becomes of the units.
    fn units(&mut self, link: &Link) {
        self.spacecraft(link);
        self.source(link);
        self.rules(link);
        self.lengths(link);
        self.counter(link);
        self.idle(link);
    }

    fn spacecraft(&mut self, link: &Link) {
        let max: u16 = match link.decode.format {
            Format::Tm | Format::Aos(ScidBits::Ten) => 1_023,
            Format::Aos(ScidBits::Eight) => 255,
            Format::Uslp | Format::Packet | Format::None => return,
        };
        if let Some(id) = link.spacecraft.iter().find(|id| **id > max) {
            let what = match link.decode.format {
                Format::Aos(_) => "expected at most 255, or at most 1023 with scid_bits = 10 in decode",
                _ => "expected at most 1023",
            };
            self.conflict("spacecraft", format!("no frame has spacecraft id {id}: {what}"));
        }
    }

    fn source(&mut self, link: &Link) {
        let what = match link.source {
            LinkSource::Apid if link.decode.format != Format::Packet => {
                "\"apid\" takes packets: add decode = { kind = \"packet\" }, or write \"scid\" or a number"
            }
            LinkSource::Spacecraft if !names_spacecraft(link) && link.spacecraft.len() != 1 => {
                "\"scid\" takes frames that name their spacecraft, or exactly one id in spacecraft: decode says tm, \
                 aos or uslp, or write a number, or \"apid\" for packets"
            }
            LinkSource::SpacecraftChannel if !names_channel(link) => {
                "\"scid-vcid\" takes frames with a virtual channel: decode says tm, aos or uslp, or write a number"
            }
            _ => return,
        };
        self.conflict("source", what);
    }

    fn rules(&mut self, link: &Link) {
        for rule in &link.emergency {
            match rule {
                EmergencyRule::Channels(_) if !names_channel(link) => self.conflict(
                    "emergency",
                    "a rule with vcid takes frames with a virtual channel: decode says tm, aos or uslp, or write a \
                     rule with apid or offset",
                ),
                EmergencyRule::Channels(channels) => {
                    let max = if link.decode.format == Format::Tm { 7 } else { 63 };
                    if let Some(channel) = channels.iter().find(|channel| **channel > max) {
                        let what = format!("no TM frame has virtual channel {channel}: expected at most {max}");
                        self.conflict("emergency", what);
                    }
                }
                EmergencyRule::Apids(_) if link.decode.format != Format::Packet => self.conflict(
                    "emergency",
                    "a rule with apid takes packets: add decode = { kind = \"packet\" }, or write a rule with vcid or \
                     offset",
                ),
                EmergencyRule::Apids(_) => {}
                EmergencyRule::Byte { offset, .. } => {
                    let longest = payload_bytes_max(&link.framing);
                    if *offset >= longest {
                        let what = format!("no frame has a byte {offset}: the longest has {longest} bytes");
                        self.conflict("emergency", what);
                    }
                }
            }
        }
    }

    /// Units must fit into a frame of the archive, and must hold the header that is read from them.
    fn lengths(&mut self, link: &Link) {
        let (name, longest) = (length_key(&link.framing), payload_bytes_max(&link.framing));
        let message = self.draft.config.ingest.max_message;
        let allowed = message as usize - FRAME_HEADER_BYTES;
        if longest > allowed {
            let what = format!(
                "frames of {longest} bytes do not fit ingest.max_message, which is {message} bytes with a header: \
                 expected at most {allowed} bytes, or raise ingest.max_message"
            );
            self.conflict(&format!("framing.{name}"), what);
        }
        let needed = header_bytes(&link.decode) + link.decode.fecf.length();
        if longest < needed {
            let what =
                format!("units of {longest} bytes are too short to decode: expected at least {needed} bytes");
            self.conflict(&format!("framing.{name}"), what);
        }
    }

    fn counter(&mut self, link: &Link) {
        let Some(gap) = link.max_gap else { return };
        let modulo = match link.decode.format {
            Format::Tm => 1 << 8,
            Format::Packet => 1 << 14,
            Format::Aos(_) => 1 << 28,
            Format::Uslp => return,
            Format::None => {
                return self.conflict(
                    "max_gap",
                    "frames that are not decoded have no counter: remove it, or add decode",
                );
            }
        };
        if gap >= modulo {
            self.conflict(
                "max_gap",
                format!("{gap} is more than the counter counts: expected less than {modulo}"),
            );
        }
    }

    fn idle(&mut self, link: &Link) {
        if !link.drop_idle {
            return;
        }
        match link.decode.format {
            Format::Tm => self.conflict(
                "idle",
                "idle TM frames share the count of their channel, and without them it would show gaps: write \"keep\"",
            ),
            Format::None => {
                self.conflict("idle", "frames that are not decoded are never idle: write \"keep\", or add decode");
            }
            Format::Aos(_) | Format::Uslp | Format::Packet => {}
        }
    }
}

/// Whether the equipment or the frames say which spacecraft they are of.
fn names_spacecraft(link: &Link) -> bool {
    matches!(link.decode.format, Format::Tm | Format::Aos(_) | Format::Uslp)
        || matches!(link.framing, Framing::Nctrs(_))
}

/// Whether the equipment or the frames say which virtual channel they are of.
fn names_channel(link: &Link) -> bool {
    // An NCTRS names both. The channel of a packet is its APID.
    names_spacecraft(link) && link.decode.format != Format::Packet
}

/// The shortest unit that has a header, in bytes.
const fn header_bytes(decode: &Decode) -> usize {
    match decode.format {
        Format::Tm | Format::Aos(_) => 6,
        Format::Uslp | Format::Packet => 7,
        Format::None => 1,
    }
}

/// The key of `framing` that limits the length of a unit.
const fn length_key(framing: &Framing) -> &'static str {
    match framing {
        Framing::Cadu(_) | Framing::Fixed { .. } => "length",
        Framing::Length(_) => "max_frame_length",
        Framing::Packet { .. } | Framing::Kiss(_) | Framing::Datagram { .. } | Framing::Nctrs(_) => "max",
    }
}
