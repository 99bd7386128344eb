//! What the header of a unit tells, whichever format it has.

use crate::DecodeError;

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
