//! The checksum of transfer frames, written apart from the code that is tested.

/// CRC-16 with polynomial 0x1021, which begins with all ones, bit by bit.
pub fn crc16(content: &[u8]) -> u16 {
    content.iter().fold(0xFFFF, |mut register, byte| {
        register ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            register = if register & 0x8000 == 0 { register << 1 } else { register << 1 ^ 0x1021 };
        }
        register
    })
}
