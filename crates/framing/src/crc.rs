//! Frame error control fields: checksums at the end of a transfer frame.
//!
//! Both are computed eight bytes at a time, most significant bit first, in a register of 32 bits. The shorter one
//! uses the upper half of the register.

use std::fmt;

use crate::DecodeError;

/// The frame error control field of a transfer frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fecf {
    /// No field: Reed-Solomon or another code finds the errors.
    #[default]
    None,
    /// 132.0-B, section 4.1.6: polynomial 0x1021, begins with all ones, 2 bytes.
    Crc16,
    /// 732.1-B, annex B2: polynomial 0x00A00805, begins with zeros, 4 bytes.
    Crc32,
}

impl Fecf {
    /// Length of the field, in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc16 => 2,
            Self::Crc32 => 4,
        }
    }

    /// Checks the field at the end of `frame`.
    ///
    /// # Errors
    /// [`DecodeError::Fecf`] with both values, or [`DecodeError::TooShort`] if there is no room for the field.
    pub fn check(self, frame: &[u8]) -> Result<(), DecodeError> {
        let too_short = || DecodeError::TooShort {
            format: "the frame error control field",
            length: frame.len(),
            needed: self.length(),
        };
        let end = frame.len().checked_sub(self.length()).ok_or_else(too_short)?;
        let (content, field) = frame.split_at(end);
        let found = field.iter().fold(0, |found, byte| found << 8 | u32::from(*byte));
        let computed = self.compute(content);
        if found == computed { Ok(()) } else { Err(DecodeError::Fecf { found, computed }) }
    }

    /// Appends the field of the frame that `out` holds from `start` on.
    pub fn append(self, out: &mut Vec<u8>, start: usize) {
        let computed = self.compute(&out[start..]).to_be_bytes();
        out.extend_from_slice(&computed[computed.len() - self.length()..]);
    }

    fn compute(self, content: &[u8]) -> u32 {
        match self {
            Self::None => 0,
            Self::Crc16 => remainder(&CRC16, 0xFFFF_0000, content) >> 16,
            Self::Crc32 => remainder(&CRC32, 0, content),
        }
    }
}

impl fmt::Display for Fecf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "without a checksum",
            Self::Crc16 => "with a CRC of 16 bits",
            Self::Crc32 => "with a CRC of 32 bits",
        })
    }
}

/// `TABLES[n][byte]` is what `byte` leaves behind after `n` more bytes.
type Tables = [[u32; 256]; 8];

static CRC16: Tables = tables(0x1021 << 16);
static CRC32: Tables = tables(0x00A0_0805);

const fn tables(polynomial: u32) -> Tables {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut register = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            let carry = register >> 31;
            register = (register << 1) ^ (carry * polynomial);
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut entry = 256;
    while entry < 8 * 256 {
        let before = tables[entry / 256 - 1][entry % 256];
        tables[entry / 256][entry % 256] = (before << 8) ^ tables[0][(before >> 24) as usize];
        entry += 1;
    }
    tables
}

fn remainder(tables: &Tables, initial: u32, content: &[u8]) -> u32 {
    let (steps, rest) = content.as_chunks::<8>();
    let register = steps.iter().fold(initial, |register, &[a, b, c, d, e, f, g, h]| {
        let [i, j, k, l] = (register ^ u32::from_be_bytes([a, b, c, d])).to_be_bytes();
        let look = |table: usize, byte: u8| tables[table][usize::from(byte)];
        (look(7, i) ^ look(6, j) ^ look(5, k) ^ look(4, l))
            ^ (look(3, e) ^ look(2, f) ^ look(1, g) ^ look(0, h))
    });
    rest.iter().fold(register, |register, byte| {
        (register << 8) ^ tables[0][((register >> 24) as u8 ^ byte) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, bit by bit.
    fn by_bits(polynomial: u32, mut register: u32, content: &[u8]) -> u32 {
        for byte in content {
            register ^= u32::from(*byte) << 24;
            for _ in 0..8 {
                register = if register >> 31 == 1 { register << 1 ^ polynomial } else { register << 1 };
            }
        }
        register
    }

    #[test]
    fn known_answers() {
        assert_eq!(Fecf::Crc16.compute(b"123456789"), 0x29B1);
        let content: Vec<u8> = (0..=255).cycle().take(1_115).collect();
        for length in [0, 1, 7, 8, 9, 15, 16, 17, 1_115] {
            let content = &content[..length];
            assert_eq!(Fecf::Crc16.compute(content), by_bits(0x1021 << 16, 0xFFFF_0000, content) >> 16);
            assert_eq!(Fecf::Crc32.compute(content), by_bits(0x00A0_0805, 0, content));
        }
    }

    #[test]
    fn a_wrong_bit_anywhere_is_found() {
        for fecf in [Fecf::Crc16, Fecf::Crc32] {
            let mut frame = b"--a frame of telemetry".to_vec();
            fecf.append(&mut frame, 2);
            assert_eq!(fecf.check(&frame[2..]), Ok(()));
            for bit in 16..8 * frame.len() {
                frame[bit / 8] ^= 1 << (bit % 8);
                assert!(fecf.check(&frame[2..]).is_err(), "{fecf:?}, bit {bit}");
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(matches!(fecf.check(&[0]), Err(DecodeError::TooShort { .. })));
        }
        assert_eq!(Fecf::None.check(&[]), Ok(()));
    }
}
