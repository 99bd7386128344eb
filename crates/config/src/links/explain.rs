//! The sentence that explains a link.

use std::fmt;

use super::{EmergencyRule, Link, LinkSource, LinkTransport};
use framing::{Fecf, Format, Framing, ScidBits};
use support::number::grouped;

impl fmt::Display for Link {
    /// Explains the link in one sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, transport, framing, .. } = self;
        write!(f, "link {name}: {framing} {transport}, {}", self.frames())?;
        f.write_str(match self.source {
            LinkSource::Spacecraft => ", source = spacecraft id",
            LinkSource::Apid => ", source = APID",
            LinkSource::SpacecraftChannel => ", source = spacecraft id x 256 + virtual channel",
            LinkSource::Fixed(_) => ", source = ",
        })?;
        if let LinkSource::Fixed(id) = self.source {
            write!(f, "{id}")?;
        }
        if !self.emergency.is_empty() {
            let rules: Vec<_> = self.emergency.iter().map(EmergencyRule::to_string).collect();
            write!(f, ", emergency: {}", rules.join(" or "))?;
        }
        if self.enabled { Ok(()) } else { f.write_str(", disabled") }
    }
}

impl Link {
    /// What the units are.
    fn frames(&self) -> String {
        let kind = match self.decode.format {
            Format::Tm => "TM frames",
            Format::Aos(ScidBits::Eight) => "AOS frames",
            Format::Aos(ScidBits::Ten) => "AOS frames with spacecraft ids of 10 bits",
            Format::Uslp => "USLP frames",
            Format::Packet => return "one packet a frame".to_owned(),
            Format::None => return "taken as they are".to_owned(),
        };
        let length = match &self.framing {
            Framing::Cadu(cadu) => format!(" of {} bytes", grouped(cadu.frame_length() as u64)),
            _ => String::new(),
        };
        let fecf = match self.decode.fecf {
            Fecf::None => String::new(),
            fecf => format!(" {fecf}"),
        };
        format!("{kind}{length}{fecf}")
    }
}

impl fmt::Display for LinkTransport {
    /// Says where the bytes come from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { to, .. } => write!(f, "from {to}"),
            Self::Listen { at, .. } => write!(f, "from a client of {at}"),
            Self::Udp { at, multicast: None, .. } => write!(f, "sent to UDP {at}"),
            Self::Udp { at, multicast: Some(group), .. } => {
                write!(f, "sent to UDP group {group} port {}", at.port())
            }
        }
    }
}

impl fmt::Display for EmergencyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels(channels) => {
                write!(f, "virtual channel {}", either(channels.iter().map(u8::to_string)))
            }
            Self::Apids(apids) => write!(f, "APID {}", either(apids.iter().map(u16::to_string))),
            Self::Byte { offset, mask: u8::MAX, value } => write!(f, "byte {offset} is {value:#04x}"),
            Self::Byte { offset, mask, value } => {
                write!(f, "byte {offset} with mask {mask:#04x} is {value:#04x}")
            }
        }
    }
}

/// These values as alternatives.
fn either(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(" or ")
}
