//! Recordings of real spacecraft.

use std::fs;
use std::path::Path;

use super::cut;
use crate::packet::PACKET_BYTES_MAX;
use crate::{Cadu, Decode, Extractor, Format, Framing, ScidBits};

/// The bytes of a recording; `None`, with a line that says so, if it is missing.
fn recording(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let bytes = fs::read(&path);
    if bytes.is_err() {
        println!("not tested: {} is missing", path.display());
    }
    bytes.ok()
}

#[test]
fn the_packets_of_real_recordings_are_found() {
    for (name, count, longest) in
        [("europa_clipper.ccsds", 1_030, 1_508), ("ssat_hs_apid130.ccsds", 14_351, 39)]
    {
        let Some(bytes) = recording(name) else { continue };
        let found = cut(&Framing::Packet { max: PACKET_BYTES_MAX }, bytes.chunks(1_000));
        assert_eq!(found.error, None);
        assert_eq!(found.units.len(), count, "{name}");
        assert_eq!(found.data().concat(), bytes);
        assert_eq!(found.units.iter().map(|unit| unit.data.len()).max(), Some(longest));
        let decode = Decode { format: Format::Packet, ..Decode::default() };
        found.units.iter().for_each(|unit| assert!(decode.header(&unit.data).is_ok()));
    }
}

#[test]
fn the_frames_of_suomi_npp_are_found() {
    let Some(bytes) = recording("snpp_cadus.dat") else { return };
    let cadu = Cadu { length: 1_024, strip: 128, ..Cadu::default() };
    let found = cut(&Framing::Cadu(cadu.clone()), bytes.chunks(777));
    assert_eq!((found.units.len(), found.counts.skipped), (65, 0));
    let decode = Decode { format: Format::Aos(ScidBits::Eight), ..Decode::default() };
    let headers: Vec<_> = found.units.iter().map(|unit| decode.header(&unit.data).unwrap()).collect();
    assert!(headers.iter().all(|header| (header.spacecraft, header.channel) == (Some(157), 16)));
    let counts: Vec<u64> = headers.iter().map(|header| header.count.unwrap().value).collect();
    let expected: Vec<u64> = (9_842_876..=9_842_941).filter(|count| *count != 9_842_882).collect();
    assert_eq!(counts, expected);
    // What the crate `ccsds` 0.1.0-beta.25 makes of the recording: the CRC-32C of all frames, and of all packets.
    assert_eq!(crc32c::crc32c(&found.data().concat()), 0xEB17_25C5);
    let mut extractor = Extractor::new(decode);
    let mut packets = Vec::new();
    for (unit, header) in found.units.iter().zip(&headers) {
        extractor.take(&unit.data, header, |packet| packets.extend_from_slice(packet));
    }
    assert_eq!((extractor.counts().packets, extractor.counts().cut), (12, 1));
    assert_eq!((packets.len(), crc32c::crc32c(&packets)), (53_098, 0xBF6C_A2A5));
    // The check symbols are not those of the recording. Everything else is.
    let mut encoded = Vec::new();
    found.units.iter().for_each(|unit| cadu.encode(&unit.data, &mut encoded));
    for (ours, theirs) in encoded.chunks(1_024).zip(bytes.chunks(1_024)) {
        assert_eq!(ours[..1_024 - 128], theirs[..1_024 - 128]);
    }
}
