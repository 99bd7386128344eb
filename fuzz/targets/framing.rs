//! The framings of links, the headers of units, and the packets in transfer frames.
//!
//! The first byte chooses the framing and what recognises a unit without its neighbours, the second the length of the
//! pieces in which the rest comes. Any cut of the bytes must give the same units, and each byte must be in a unit, skipped
//! or pending.
#![no_main]

use framing::{
    Cadu, Decode, Deframer, Extractor, Fecf, Format, Framing, Kiss, Length, Nctrs, ScidBits, UnitCheck,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [choice, piece, bytes @ ..] = bytes else { return };
    let framing = framing(*choice);
    let whole = units(&framing, check(*choice), bytes, usize::MAX);
    if !matches!(framing, Framing::Datagram { .. }) {
        let pieces = units(&framing, check(*choice), bytes, usize::from(*piece).max(1));
        assert_eq!(whole, pieces, "{framing}");
    }
    for decode in decodes() {
        let mut extractor = Extractor::new(decode);
        for unit in &whole {
            if let Ok(header) = decode.header(unit) {
                extractor.take(unit, &header, |packet| assert!(packet.len() >= 7));
            }
        }
        assert!(extractor.incomplete_bytes() <= 16 * (65_542 + 65_536), "memory of incomplete packets");
    }
});

fn framing(choice: u8) -> Framing {
    match choice % 9 {
        0 => Framing::Packet { max: 65_542 },
        1 => Framing::Cadu(Cadu { length: 64, strip: 8, derandomize: false, ..Cadu::default() }),
        2 => Framing::Cadu(Cadu { length: 40, sync_errors: 2, ..Cadu::default() }),
        3 => Framing::Fixed { length: 32 },
        4 => Framing::Length(Length::default()),
        5 => Framing::Length(Length { length_field_length: 2, strip: 2, ..Length::default() }),
        6 => Framing::Kiss(Kiss::default()),
        7 => Framing::Datagram { max: 256 },
        _ => Framing::Nctrs(Nctrs::default()),
    }
}

/// What recognises a unit. Random bytes hardly ever have a right checksum, so a sum of bytes stands for it.
fn check(choice: u8) -> Option<UnitCheck> {
    let is_right = |unit: &[u8]| unit.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(4);
    match choice / 9 % 3 {
        0 => None,
        1 => Some(UnitCheck::checksum(is_right)),
        _ => Some(UnitCheck::header(is_right)),
    }
}

/// The payloads of the units of `bytes`, which come in pieces of `piece` bytes.
fn units(framing: &Framing, check: Option<UnitCheck>, bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut deframer = Deframer::with_check(framing, check);
    let mut units = Vec::new();
    for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
        deframer.push(piece);
        loop {
            match deframer.next_unit() {
                Ok(Some(unit)) => units.push(unit.data.to_vec()),
                Ok(None) => break,
                Err(_) => return units,
            }
        }
        let counts = deframer.counts();
        assert!(counts.bytes + counts.skipped + deframer.pending() as u64 <= bytes.len() as u64);
    }
    while let Some(unit) = deframer.finish() {
        units.push(unit.data.to_vec());
    }
    let counts = deframer.counts();
    assert_eq!(counts.bytes + counts.skipped, bytes.len() as u64, "{framing}: {counts:?}");
    units
}

fn decodes() -> [Decode; 6] {
    let of = |format, fecf| Decode { format, fecf, ..Decode::default() };
    [
        of(Format::Tm, Fecf::None),
        of(Format::Aos(ScidBits::Eight), Fecf::None),
        of(Format::Aos(ScidBits::Ten), Fecf::Crc16),
        Decode { insert_zone: 3, trailer: 4, ..of(Format::Tm, Fecf::Crc16) },
        of(Format::Uslp, Fecf::None),
        of(Format::Packet, Fecf::None),
    ]
}
