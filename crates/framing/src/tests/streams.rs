//! What holds for every framing.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::cut;
use crate::{
    Cadu, Decode, Deframer, Fecf, Format, Framing, Kiss, Length, Nctrs, NctrsHeader, PacketHeader, ScidBits,
    kiss,
};

/// Every framing of a stream, with small limits.
fn framings() -> Vec<Framing> {
    vec![
        Framing::Packet { max: 300 },
        Framing::Cadu(Cadu { length: 50, strip: 6, sync_errors: 3, ..Cadu::default() }),
        Framing::Fixed { length: 33 },
        Framing::Length(Length { length_field_length: 2, max_frame_length: 500, ..Length::default() }),
        Framing::Kiss(Kiss { port: None, max: 200 }),
        Framing::Nctrs(Nctrs { max: 320 }),
    ]
}

/// A stream of `framing` that carries `payloads`, cut or padded to the length that the framing wants.
fn encode(framing: &Framing, payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for payload in payloads {
        let mut payload = payload.clone();
        match framing {
            Framing::Packet { .. } => {
                let start = stream.len();
                PacketHeader { apid: 5, ..PacketHeader::default() }.encode(&payload, &mut stream);
                payload = stream[start..].to_vec();
            }
            Framing::Cadu(cadu) => {
                payload.resize(cadu.frame_length(), 0);
                cadu.encode(&payload, &mut stream);
            }
            Framing::Fixed { length } => {
                payload.resize(*length, 0);
                stream.extend(&payload);
            }
            Framing::Length(length) => {
                let mut out = BytesMut::new();
                length.encode(Bytes::from(payload.clone()), &mut out);
                stream.extend(&out);
            }
            Framing::Kiss(_) => kiss::encode(1, &payload, &mut stream),
            Framing::Nctrs(_) => NctrsHeader::default().encode(&payload, &mut stream),
            Framing::Datagram { .. } => unreachable!("datagrams are no stream"),
        }
        expected.push(payload);
    }
    (stream, expected)
}

/// `stream` in parts whose lengths are `lengths`, over and over.
fn parts<'a>(mut stream: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    for length in lengths.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (part, rest) = stream.split_at((*length).min(stream.len()));
        parts.push(part);
        stream = rest;
    }
    parts
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..90), 1..12)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..4_usize, 1..200_usize], 1..10)
}

proptest! {
    #[test]
    fn every_cut_of_a_stream_gives_the_same_units(payloads in payloads(), lengths in lengths()) {
        for framing in framings() {
            let (stream, expected) = encode(&framing, &payloads);
            let found = cut(&framing, parts(&stream, &lengths));
            prop_assert_eq!(found.data(), expected, "{}", framing);
            prop_assert_eq!((found.counts.bytes, found.counts.skipped), (stream.len() as u64, 0));
            prop_assert_eq!(found, cut(&framing, [&stream[..]]));
        }
    }

    #[test]
    fn every_cut_of_a_damaged_stream_gives_the_same_units_and_counts(
        payloads in payloads(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..8),
        lengths in lengths(),
        end in any::<prop::sample::Index>(),
    ) {
        for framing in framings() {
            let (mut stream, _) = encode(&framing, &payloads);
            for (at, kind, byte) in &damages {
                let at = at.index(stream.len());
                match kind {
                    0 => stream[at] ^= byte,
                    1 => stream.insert(at, *byte),
                    _ if stream.len() > 1 => drop(stream.remove(at)),
                    _ => {}
                }
            }
            stream.truncate(1 + end.index(stream.len()));
            prop_assert_eq!(cut(&framing, parts(&stream, &lengths)), cut(&framing, [&stream[..]]), "{}", framing);
        }
    }

    /// Bytes as they would come from a line without equipment. Some are those that the formats look for.
    #[test]
    fn garbage_is_survived_in_bounded_memory(
        bytes in prop::collection::vec(
            prop_oneof![
                8 => any::<u8>(),
                4 => prop::sample::select(vec![0x1A, 0xCF, 0xFC, 0x1D, 0xC0, 0xDB, 0xDC, 0xDD, 0, 9]),
            ],
            0..2_000
        ),
        part in 1..300_usize,
    ) {
        for framing in framings() {
            let mut deframer = Deframer::new(&framing);
            for part in bytes.chunks(part) {
                deframer.push(part);
                while let Ok(Some(unit)) = deframer.next_unit() {
                    for decode in decodes() {
                        let _ = decode.header(&unit.data);
                    }
                }
                if deframer.next_unit().is_err() {
                    break;
                }
                prop_assert!(deframer.pending() <= 502, "{framing} keeps {}", deframer.pending());
            }
            while deframer.finish().is_some() {}
            prop_assert_eq!(deframer.pending(), 0);
        }
        for decode in decodes() {
            let _ = decode.header(&bytes[..bytes.len().min(part)]);
        }
    }
}

fn decodes() -> Vec<Decode> {
    let formats = [
        Format::Tm,
        Format::Aos(ScidBits::Eight),
        Format::Aos(ScidBits::Ten),
        Format::Uslp,
        Format::Packet,
        Format::None,
    ];
    let fecfs = [Fecf::None, Fecf::Crc16, Fecf::Crc32];
    let all =
        formats.into_iter().flat_map(|format| fecfs.map(|fecf| Decode { format, fecf, ..Decode::default() }));
    all.collect()
}
