use super::*;
use crate::StreamPosition;
use crate::read::scan::{HeaderState, ScanStep, Scanner};
use crate::storage::DiskStorage;
use crate::tests::support::{emergency, fields, frame, origin, routine, runs};
use frame::{Frame, FramePriority, Lanes};

/// A segment with a block of each kind, every value fixed.
fn golden() -> Vec<u8> {
    let (segment_id, base) = (0x1122_3344_5566_7788, 5);
    let header = SegmentHeader {
        log_id: 0xA1A2_A3A4_A5A6_A7A8,
        segment_id,
        base_offset: base,
        created_ns: 1_700_000_000_000_000_000,
    };
    let mut bytes = header.encode().to_vec();
    let stream = origin(3, 9).stream.clone();
    let position = StreamPosition { epoch: 9, next: Lanes::new(4, 5) };
    let push = |bytes: &mut Vec<u8>, kind, offset, body: &[u8]| {
        let header = BlockHeader {
            kind,
            origin_count: 0,
            body_len: body.len() as u32,
            frame_count: 0,
            segment_id,
            position: bytes.len() as u64,
            first_offset: offset,
            synced_offset: offset,
            received_max_ns: 0,
            body_crc: crc32c::crc32c(body),
        };
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(body);
    };
    for body in position_blocks(&[(&stream, &position)]) {
        push(&mut bytes, BlockKind::Positions, base, &body);
    }
    push(&mut bytes, BlockKind::Hole, base, &hole().encode());
    let mut encoder = BlockEncoder::default();
    encoder.push(&runs(golden_frames()));
    encoder.finish();
    let at = bytes.len() as u64;
    bytes.extend_from_slice(encoder.seal(segment_id, at, base, base));
    push(&mut bytes, BlockKind::Attestation, base + 3, &[]);
    bytes
}

fn hole() -> HoleRecord {
    HoleRecord { from_offset: 1, to_offset: 3, base_offset: 0, position: 640, bytes: 128 }
}

fn golden_frames() -> Vec<Frame> {
    let (a, b) = (origin(3, 9), origin(4, 1 << 63));
    vec![emergency(&a, 4), frame(&b, FramePriority::Routine, 0, 0), routine(&a, 1 << 40)]
}

fn golden_path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/golden-v1.seg")
}

#[test]
fn the_bytes_written_are_those_of_the_golden_file() {
    let golden_file = std::fs::read(golden_path()).unwrap();
    assert_eq!(golden(), golden_file, "the format changed: it needs a new version");
}

#[test]
fn the_golden_file_is_read() {
    let mut scanner = Scanner::open(&DiskStorage, &golden_path()).unwrap();
    assert!(matches!(scanner.header(), HeaderState::Sound(header) if header.base_offset == 5));
    let mut kinds = Vec::new();
    loop {
        match scanner.next().unwrap() {
            ScanStep::Block(header, body) => {
                kinds.push(header.kind);
                check_body(&header, body);
            }
            ScanStep::Damage(bytes) => panic!("damage at {bytes:?}"),
            ScanStep::End(position) => {
                assert_eq!(position, golden().len() as u64);
                break;
            }
        }
    }
    use BlockKind::{Attestation, Frames, Hole, Positions};
    assert_eq!(kinds, [Positions, Hole, Frames, Attestation]);
}

fn check_body(header: &BlockHeader, body: ::bytes::Bytes) {
    match header.kind {
        BlockKind::Positions => {
            let part = PositionsPart::decode(&body).unwrap();
            assert_eq!((part.total, part.first), (1, 0));
            assert_eq!(part.entries[0].0, origin(3, 9).stream);
            assert_eq!(part.entries[0].1.next, Lanes::new(4, 5));
        }
        BlockKind::Hole => assert_eq!(HoleRecord::decode(&body), Some(hole())),
        BlockKind::Frames => {
            let read = FrameIter::new(header, body).unwrap().map(Option::unwrap);
            let read: Vec<_> = read.map(|frame| fields(&frame)).collect();
            let written: Vec<_> = golden_frames().iter().map(fields).collect();
            assert_eq!(read, written);
            assert_eq!((header.first_offset, header.next_offset()), (5, 8));
        }
        BlockKind::Attestation => assert_eq!(header.synced_offset, 8),
    }
}

#[test]
fn log_bytes_max_covers_a_block_with_one_frame_and_its_attestation() {
    let mut encoder = BlockEncoder::default();
    for len in [0, 1, 7, 8, 64, 255] {
        let frame = frame(&origin(1, 1), FramePriority::Routine, 1, len);
        encoder.clear();
        encoder.push(&runs([frame.clone()]));
        encoder.finish();
        let taken = encoder.len() + BLOCK_HEADER_BYTES;
        let charge = log_bytes_max(&frame.origin, len);
        assert_eq!(encoder.log_bytes_max(), charge);
        assert!(charge >= taken, "{len}: {charge} < {taken}");
        assert!(charge <= taken + ALIGNMENT);
        assert!(charge <= frame_log_bytes_max(len));
        encoder.clear();
    }
}

#[test]
fn checksums_of_ranges_and_of_the_block_are_those_of_their_bytes() {
    let origins = [origin(1, 1), origin(2, 1)];
    for len in [0, 100, 1_000, 3_000, 10_000] {
        let mut encoder = BlockEncoder::default();
        for batch in 0..40_u64 {
            // Two of three batches are of the first source. They follow one another and make one range, or several if they
            // are longer than an extent.
            let origin = &origins[usize::from(batch % 3 == 0)];
            let frames = (0..16).map(|n| frame(origin, FramePriority::Routine, batch * 16 + n, len));
            encoder.push(&runs(frames));
        }
        encoder.finish();
        let block = encoder.seal(1, 0, 0, 0).to_vec();
        let header = BlockHeader::decode(&block, 0, Some(1)).unwrap();
        assert_eq!(header.body_crc, crc32c::crc32c(encoder.body()), "{len}");
        let (mut at, mut taken) = (FRAMES_PREFIX_BYTES, 0);
        for range in encoder.ranges() {
            let bytes = &encoder.body()[at..at + range.bytes as usize];
            if let Some(crc) = range.crc {
                assert_eq!(crc.get(), crc32c::crc32c(bytes), "{len}");
                taken += 1;
            }
            at += bytes.len();
        }
        assert_eq!(taken > 0, len >= 1_000, "{len}: {taken}");
    }
}

#[test]
fn origins_are_written_once_by_value() {
    let mut encoder = BlockEncoder::default();
    // Equal origins at different addresses, and more origins than the address cache has slots.
    let frames: Vec<_> =
        (0..2_000).map(|index| routine(&origin(index % 1_000, 1), u64::from(index))).collect();
    encoder.push(&runs(frames.clone()));
    encoder.finish();
    let block = ::bytes::Bytes::copy_from_slice(encoder.seal(1, 0, 0, 0));
    let header = BlockHeader::decode(&block, 0, Some(1)).unwrap();
    assert_eq!(header.origin_count, 1_000);
    let body = block.slice(BLOCK_HEADER_BYTES as usize..);
    let read: Vec<_> = FrameIter::new(&header, body).unwrap().map(Option::unwrap).collect();
    assert_eq!(read.len(), 2_000);
    assert!(read.iter().zip(&frames).all(|(read, written)| fields(read) == fields(written)));
    let mut durable = Vec::new();
    encoder.durable(&mut durable);
    assert_eq!(durable.len(), 1_000);
    assert!(durable.iter().all(|entry| entry.frames == 2));
}

#[test]
fn a_body_with_sound_checksums_and_senseless_fields_is_refused() {
    let mut encoder = BlockEncoder::default();
    encoder.push(&runs(golden_frames()));
    encoder.finish();
    let block = encoder.seal(1, 0, 0, 0).to_vec();
    let header = BlockHeader::decode(&block, 0, Some(1)).unwrap();
    let body = &block[BLOCK_HEADER_BYTES as usize..];
    for at in 0..body.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut body = body.to_vec();
            body[at] = value;
            // Any result but a panic is right. The checksum detects such damage, not the decoder.
            if let Some(frames) = FrameIter::new(&header, body.into()) {
                assert!(frames.count() <= 3);
            }
        }
    }
}
