//! The pseudo-random sequence of telemetry, CCSDS 131.0-B, section 10.4.1: x^8 + x^7 + x^5 + x^3 + 1.

/// Bytes after which the sequence repeats.
const PERIOD_BYTES: usize = 255;
/// Eight periods, so that long steps need no wrapping.
const SEQUENCE: [u8; 8 * PERIOD_BYTES] = sequence();

const fn sequence() -> [u8; 8 * PERIOD_BYTES] {
    let mut sequence = [0; 8 * PERIOD_BYTES];
    let mut register = 0xFF_u8;
    let mut bit = 0;
    while bit < 8 * sequence.len() {
        sequence[bit / 8] |= (register & 1) << (7 - bit % 8);
        let feedback = (register ^ (register >> 3) ^ (register >> 5) ^ (register >> 7)) & 1;
        register = (register >> 1) | (feedback << 7);
        bit += 1;
    }
    sequence
}

/// Randomises the block that follows a marker, or undoes that. The sequence begins with the block.
pub fn randomize(block: &mut [u8]) {
    for part in block.chunks_mut(SEQUENCE.len()) {
        for (byte, mask) in part.iter_mut().zip(&SEQUENCE) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_begins_as_the_book_says_and_repeats_after_255_bytes() {
        let mut block = vec![0; 5_000];
        randomize(&mut block);
        assert_eq!(block[..8], [0xFF, 0x48, 0x0E, 0xC0, 0x9A, 0x0D, 0x70, 0xBC]);
        assert_eq!(block[..block.len() - PERIOD_BYTES], block[PERIOD_BYTES..]);
        assert!((1..PERIOD_BYTES).all(|shift| block[..PERIOD_BYTES] != block[shift..][..PERIOD_BYTES]));
        randomize(&mut block);
        assert_eq!(block, vec![0; 5_000]);
    }
}
