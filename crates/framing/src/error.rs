//! Why a stream or a unit is refused, in plain words.

use std::fmt::Write;

/// A byte stream that cannot be cut into units from here on. The text does not have the bytes, because they are data of
/// the stream: see [`FramingError::hex`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset} of the stream")]
pub struct FramingError {
    /// What is wrong.
    pub fault: Fault,
    /// Bytes of the stream before the unit that is refused.
    pub offset: u64,
    /// The first bytes of the refused unit, 32 at most.
    pub bytes: Vec<u8>,
}

impl FramingError {
    /// [`bytes`](Self::bytes) as hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What is wrong with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No space packet has this version.
    #[error("packet version {0}, expected 0")]
    PacketVersion(u8),
    /// The header claims a longer unit than the configuration allows.
    #[error("a unit of {length} bytes, at most {max} are allowed")]
    TooLong {
        /// The claimed length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A data unit of the NCTRS claims to be shorter than its header.
    #[error("a data unit of {0} bytes, shorter than its header of 20 bytes")]
    NctrsSize(usize),
    /// The codec of length fields refuses the length.
    #[error("{0}")]
    Length(String),
}

/// A unit that is no frame or packet of the configured format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The unit cannot hold the header.
    #[error("{length} bytes are too few for {format}, which has {needed} at least")]
    TooShort {
        /// The configured format.
        format: &'static str,
        /// Bytes of the unit.
        length: usize,
        /// The least number of bytes.
        needed: usize,
    },
    /// Another format, or a corrupt header.
    #[error("version {found} in the first bits, {format} has {expected}")]
    Version {
        /// The configured format.
        format: &'static str,
        /// The version in the unit.
        found: u8,
        /// The version of the format.
        expected: u8,
    },
    /// The header and the unit disagree about the length.
    #[error("the header says {header} bytes, the unit has {length}")]
    Length {
        /// The length that the header gives.
        header: usize,
        /// Bytes of the unit.
        length: usize,
    },
    /// The frame error control field does not match the frame.
    #[error("the frame error control field is {found:#x}, the frame has {computed:#x}")]
    Fecf {
        /// The checksum at the end of the frame.
        found: u32,
        /// The checksum of the frame.
        computed: u32,
    },
}
