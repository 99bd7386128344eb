//! The framings that a link can be configured with.

use std::fmt;

use crate::cut::Cut;
use crate::datagram::CutDatagrams;
use crate::fixed::CutFixed;
use crate::packet::{CutPackets, PACKET_BYTES_MIN};
use crate::{Cadu, Kiss, Length, Nctrs, UnitCheck};

/// How the bytes of a link are cut into units. `Display` describes it in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Space packets (133.0-B), one after the other.
    Packet {
        /// Bytes of the longest packet that is accepted.
        max: usize,
    },
    /// Channel access data units (131.0-B).
    Cadu(Cadu),
    /// Units of one length.
    Fixed {
        /// Bytes of a unit.
        length: usize,
    },
    /// Units behind a length field.
    Length(Length),
    /// KISS frames.
    Kiss(Kiss),
    /// Datagrams.
    Datagram {
        /// Bytes of the longest datagram that is accepted.
        max: usize,
    },
    /// Telemetry data units of an NCTRS.
    Nctrs(Nctrs),
}

impl Framing {
    /// Checks that the values fit together.
    ///
    /// # Errors
    /// Which value is impossible, in words for the person who wrote the configuration.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Packet { max } if *max < PACKET_BYTES_MIN => Err("max must be at least 7"),
            Self::Fixed { length: 0 } => Err("length must be at least 1"),
            Self::Datagram { max: 0 } => Err("max must be at least 1"),
            Self::Cadu(cadu) => cadu.check(),
            Self::Length(length) => length.check(),
            Self::Kiss(kiss) => kiss.check(),
            Self::Nctrs(nctrs) => nctrs.check(),
            Self::Packet { .. } | Self::Fixed { .. } | Self::Datagram { .. } => Ok(()),
        }
    }

    pub(crate) fn cut(&self, check: Option<UnitCheck>) -> Box<dyn Cut> {
        match self {
            Self::Packet { max } => Box::new(CutPackets { max: *max }),
            Self::Cadu(cadu) => Box::new(cadu.cut(check)),
            Self::Fixed { length } => Box::new(CutFixed { length: *length }),
            Self::Length(length) => Box::new(length.cut()),
            Self::Kiss(kiss) => Box::new(kiss.cut()),
            Self::Datagram { max } => Box::new(CutDatagrams::new(*max)),
            Self::Nctrs(nctrs) => Box::new(*nctrs),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet { max } => write!(f, "space packets of up to {} bytes", Grouped(*max)),
            Self::Cadu(cadu) => write!(f, "CADUs of {} bytes", Grouped(cadu.length)),
            Self::Fixed { length } => write!(f, "units of {} bytes", Grouped(*length)),
            Self::Length(length) => write!(
                f,
                "units behind a length field of {} bytes at byte {}",
                length.length_field_length, length.length_field_offset
            ),
            Self::Kiss(Kiss { port: Some(port), .. }) => write!(f, "KISS frames of port {port}"),
            Self::Kiss(_) => write!(f, "KISS frames"),
            Self::Datagram { max } => write!(f, "datagrams of up to {} bytes", Grouped(*max)),
            Self::Nctrs(_) => write!(f, "NCTRS telemetry data units"),
        }
    }
}

/// A number with commas between its groups of three digits.
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ ..1000 => write!(f, "{small}"),
            large => write!(f, "{},{:03}", Self(large / 1000), large % 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_plain_words() {
        let described = [
            (Framing::Packet { max: 65_542 }, "space packets of up to 65,542 bytes"),
            (Framing::Cadu(Cadu { length: 1_279, ..Cadu::default() }), "CADUs of 1,279 bytes"),
            (Framing::Fixed { length: 892 }, "units of 892 bytes"),
            (Framing::Length(Length::default()), "units behind a length field of 4 bytes at byte 0"),
            (Framing::Kiss(Kiss::default()), "KISS frames"),
            (Framing::Kiss(Kiss { port: Some(3), ..Kiss::default() }), "KISS frames of port 3"),
            (Framing::Datagram { max: 1_000_000 }, "datagrams of up to 1,000,000 bytes"),
            (Framing::Nctrs(Nctrs::default()), "NCTRS telemetry data units"),
        ];
        for (framing, text) in described {
            assert_eq!(framing.to_string(), text);
            assert_eq!(framing.check(), Ok(()), "{framing}");
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let default = Cadu::default();
        for framing in [
            Framing::Packet { max: 6 },
            Framing::Fixed { length: 0 },
            Framing::Datagram { max: 0 },
            Framing::Cadu(Cadu { asm: Vec::new(), ..default.clone() }),
            Framing::Cadu(Cadu { strip: 1_020, ..default.clone() }),
            Framing::Cadu(Cadu { length: 4, ..default.clone() }),
            Framing::Cadu(Cadu { sync_errors: 16, ..default }),
            Framing::Length(Length { length_field_length: 0, ..Length::default() }),
            Framing::Length(Length { length_field_length: 9, ..Length::default() }),
            Framing::Length(Length { max_frame_length: 0, ..Length::default() }),
            Framing::Kiss(Kiss { port: Some(16), ..Kiss::default() }),
            Framing::Kiss(Kiss { max: 1, ..Kiss::default() }),
            Framing::Nctrs(Nctrs { max: 20 }),
        ] {
            assert!(framing.check().is_err(), "{framing:?}");
        }
    }
}
