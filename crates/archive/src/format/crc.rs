//! Checksums (CRC-32C) of bytes that are put together from pieces.

/// The polynomial of CRC-32C, bits in reverse.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// The polynomial 1, in the same notation.
const ONE: u32 = 1 << 31;
/// x^(2^k) modulo the polynomial, for each k.
const POWERS: [u32; 32] = powers();

/// Whether `bytes` have the checksum `crc`. Under a fuzzer all bytes have it: it must reach the decoders behind.
pub(crate) fn is_intact(bytes: &[u8], crc: u32) -> bool {
    cfg!(fuzzing) || crc32c::crc32c(bytes) == crc
}

/// The checksum of two adjacent pieces, from the checksum of each and the length of the second in bytes.
///
/// This multiplies the first checksum by x^(8 * length), as zlib does. The `crc32c` crate squares matrices instead,
/// which takes as long as the checksum of a hundred kilobytes.
pub(super) fn combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    assert!(
        second_bytes < 1 << (POWERS.len() - 3),
        "a piece of {second_bytes} bytes is longer than a block can be"
    );
    let mut shift = ONE;
    // Each bit of the length selects one of the powers. A byte is 2^3 bits, so the first is x^(2^3).
    let (mut left, mut power) = (second_bytes, 3);
    while left > 0 {
        if left & 1 == 1 {
            shift = multiply(POWERS[power], shift);
        }
        left >>= 1;
        power += 1;
    }
    multiply(shift, first) ^ second
}

/// The product of two polynomials modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = ONE;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

const fn powers() -> [u32; 32] {
    let mut powers = [ONE >> 1; 32];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_checksums_make_that_of_both(bytes in prop::collection::vec(any::<u8>(), 0..5000), at in any::<prop::sample::Index>()) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let combined = combine(crc32c::crc32c(first), crc32c::crc32c(second), second.len());
            prop_assert_eq!(combined, crc32c::crc32c(&bytes));
        }
    }

    #[test]
    fn a_long_second_part_counts_too() {
        let bytes = vec![7; (3 << 20) + 5];
        let (first, second) = bytes.split_at(11);
        let combined = combine(crc32c::crc32c(first), crc32c::crc32c(second), second.len());
        assert_eq!(combined, crc32c::crc32c(&bytes));
    }
}
