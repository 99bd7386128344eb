//! Reads the headers of transfer frames and packets.

use std::fmt;

use crate::aos::Aos;
use crate::tm::Tm;
use crate::transfer_frame::TransferFrame;
use crate::uslp::Uslp;
use crate::{DecodeError, Fecf, Header, ScidBits, packet};

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

impl Format {
    /// The layout of the transfer frames; `None` if the units are no transfer frames.
    pub(crate) const fn frames(self) -> Option<&'static dyn TransferFrame> {
        match self {
            Self::Tm => Some(&Tm),
            Self::Aos(ScidBits::Eight) => Some(&Aos(ScidBits::Eight)),
            Self::Aos(ScidBits::Ten) => Some(&Aos(ScidBits::Ten)),
            Self::Uslp => Some(&Uslp),
            Self::Packet | Self::None => None,
        }
    }
}

impl Decode {
    /// Reads the header of `unit` and checks the checksum.
    ///
    /// # Errors
    /// [`DecodeError`], in plain words.
    pub fn header(&self, unit: &[u8]) -> Result<Header, DecodeError> {
        let Some(frames) = self.format.frames() else {
            return if self.format == Format::Packet { packet::decode(unit) } else { Ok(Header::default()) };
        };
        let header = frames.header(unit)?;
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
