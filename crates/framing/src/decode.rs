//! Reads the headers of transfer frames and packets.

use std::fmt;

use crate::{DecodeError, Fecf, aos, packet, tm, uslp};

/// Format of the units of a link. `Display` describes it in plain words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decode {
    /// What a unit is.
    pub format: Format,
    /// The checksum at the end of a transfer frame.
    pub fecf: Fecf,
    /// Bytes between the primary header of a transfer frame and its data field.
    pub insert_zone: usize,
    /// Bytes between the data field and the checksum, the operational control field included.
    pub trailer: usize,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A TM transfer frame, 132.0-B.
    Tm,
    /// An AOS transfer frame, 732.0-B.
    Aos(ScidBits),
    /// A USLP transfer frame, 732.1-B.
    Uslp,
    /// A space packet, 133.0-B.
    Packet,
    /// Anything. No header is read.
    #[default]
    None,
}

/// Length of the spacecraft id in AOS frames. Issue 4 of 732.0-B has added two bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScidBits {
    /// 8 bits.
    #[default]
    Eight,
    /// 10 bits, the two highest of them in bits 42 and 43.
    Ten,
}

/// What the header of a unit says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The spacecraft; `None` if the format does not name it.
    pub spacecraft: Option<u32>,
    /// The virtual channel, or the application process of a packet.
    pub channel: u32,
    /// The bypass flag of USLP. Frames with and without it have counts of their own.
    pub is_bypass: bool,
    /// The count of the channel.
    pub count: Option<Count>,
    /// There is nothing but fill in the unit.
    pub is_idle: bool,
}

/// A counter of a spacecraft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The value, below `modulo`.
    pub value: u64,
    /// The number of values, 256 at least.
    pub modulo: u64,
}

impl Count {
    /// The count of the next unit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { value: (self.value + 1) % self.modulo, ..self }
    }
}

impl Decode {
    /// Reads the header of `unit` and checks the checksum.
    ///
    /// # Errors
    /// [`DecodeError`], in plain words.
    pub fn header(&self, unit: &[u8]) -> Result<Header, DecodeError> {
        let header = match self.format {
            Format::Tm => tm::decode(unit),
            Format::Aos(scid_bits) => aos::decode(unit, scid_bits),
            Format::Uslp => uslp::decode(unit),
            Format::Packet => return packet::decode(unit),
            Format::None => return Ok(Header::default()),
        }?;
        self.fecf.check(unit)?;
        Ok(header)
    }
}

impl fmt::Display for Decode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = match self.format {
            Format::Tm => "TM",
            Format::Aos(ScidBits::Eight) => "AOS",
            Format::Aos(ScidBits::Ten) => "AOS (10-bit spacecraft)",
            Format::Uslp => "USLP",
            Format::Packet => return f.write_str("space packets"),
            Format::None => return f.write_str("units without a header that is read"),
        };
        write!(f, "{frames} transfer frames {}", self.fecf)
    }
}

/// Refuses a unit that is shorter than `needed` bytes, or has another version than `expected` in its first `bits`
/// bits.
pub(crate) fn check_start<'a, const N: usize>(
    unit: &'a [u8],
    format: &'static str,
    bits: u32,
    expected: u8,
) -> Result<&'a [u8; N], DecodeError> {
    let header = unit.first_chunk().ok_or(DecodeError::TooShort { format, length: unit.len(), needed: N })?;
    let found = unit[0] >> (8 - bits);
    if found == expected { Ok(header) } else { Err(DecodeError::Version { format, found, expected }) }
}
