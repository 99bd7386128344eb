use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::layout::{Chunk, Entry, Extent, ExtentDecoder, ExtentEncoder, HEADER_BYTES, Header};
use super::*;
use crate::format::{
    BlockEncoder, BlockHeader, Cursor, FRAMES_PREFIX_BYTES, FrameRange, FrameRanges, RecordHeader,
};
use crate::maintain::index_file::{BuildLimits, Built, build};
use crate::storage::mem::MemStorage;
use crate::tests::support::{frame, origin, runs};
use frame::{Frame, FramePriority};

fn golden_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/read/index/golden-v1.idx")
}

/// Builds the index of the golden segment file.
fn golden() -> Vec<u8> {
    let storage = MemStorage::default();
    let segment = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/golden-v1.seg");
    let dir = Dir::new(Arc::new(storage.clone()), PathBuf::from("/archive"));
    storage.put(&dir.segment(5), std::fs::read(segment).unwrap());
    storage.put(&dir.segment(8), Vec::new());
    assert!(matches!(build(&dir, 5, &BuildLimits::NONE).unwrap(), Built::Written { .. }));
    storage.content(&dir.path.join(index_name(5)))
}

#[test]
fn the_bytes_written_are_those_of_the_golden_file() {
    let golden_file = std::fs::read(golden_path()).unwrap();
    assert_eq!(golden(), golden_file, "the format changed: it needs a new version");
}

/// Checks that every field lies at its documented position.
#[test]
fn the_golden_file_is_as_documented() {
    let bytes = std::fs::read(golden_path()).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[..8], b"TMAINDEX");
    assert_eq!(bytes[8..12], [1, 0, 0, 0]);
    assert_eq!((u32_at(12), u32_at(72)), (1, 3), "a chunk and three entries");
    assert_eq!((u64_at(16), u64_at(24), u64_at(32)), (0x1122_3344_5566_7788, 5, 8));
    // Sequences 4, 0 and 1 << 40. Each receive time is a thousand times the sequence, plus 7.
    assert_eq!((u64_at(56), u64_at(64)), (7, (1 << 40) * 1_000 + 7));
    assert_eq!(u32_at(92), crc32c::crc32c(&bytes[..92]));
    let directory = 96 + 32;
    let lists = directory + u32_at(76) as usize;
    assert_eq!(u32_at(80), crc32c::crc32c(&bytes[96..lists]));
    assert_eq!(u64_at(48) as usize, bytes.len() - lists);
    assert_eq!(u64_at(96 + 8), 5, "first offset of the chunk");
    assert_eq!((u32_at(directory), bytes[directory + 5], bytes[directory + 16]), (3, 8, 0));
    assert_eq!(u64_at(directory + 24), 1, "one emergency frame");
    assert_eq!(u64_at(directory + 48), 32 + 64, "in an extent of its own");
    assert_eq!(u64_at(directory + 56) as usize, lists);
    let list = &bytes[lists..lists + u64_at(directory + 64) as usize];
    assert_eq!(u32_at(directory + 72), crc32c::crc32c(list));
    assert_eq!(&bytes[directory + 80..directory + 88], b"Svalbard");
    assert_eq!(list[list.len() - 6..list.len() - 4], [0, 0], "offset of the base, first origin of the block");
}

#[test]
fn extents_survive_encoding_and_decoding() {
    let extent =
        |position, length, first_offset, origin| Extent { position, length, first_offset, origin, crc: 7 };
    let extents = [
        extent(136, 32, 40, 0),
        extent(168, 65_536, 41, 65_535),
        extent(1 << 40, 33, 1 << 62, 300),
        extent((1 << 40) + 33, 127, (1 << 62) + 128, 1),
    ];
    let mut encoder = ExtentEncoder::new(40);
    extents.iter().for_each(|extent| encoder.push(extent));
    let mut decoder = ExtentDecoder::new(encoder.bytes.clone(), 40, u64::MAX);
    let read: Vec<_> = std::iter::from_fn(|| decoder.next().unwrap()).collect();
    assert_eq!(read, extents);
    // The second extent ends behind the end of the segment.
    let mut decoder = ExtentDecoder::new(encoder.bytes, 40, 168 + 65_535);
    assert!(decoder.next().is_ok());
    assert!(decoder.next().is_err());
}

#[test]
fn senseless_bytes_are_refused_without_a_panic() {
    for byte in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
        for len in 0..64 {
            let mut decoder = ExtentDecoder::new(vec![byte; len], u64::MAX - 3, u64::MAX);
            while let Ok(Some(_)) = decoder.next() {}
            let bytes = vec![byte; len];
            assert!(Entry::read(&mut Cursor(&bytes)).is_none());
        }
    }
    let mut bytes = golden();
    let mut header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().unwrap();
    assert!(Header::decode(&header).is_some());
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..92]);
    header[92..].copy_from_slice(&crc.to_le_bytes());
    assert!(Header::decode(&header).is_none(), "another version");
    let entry = bytes.split_off(96 + 32);
    let entry = Entry::read(&mut Cursor(&entry)).unwrap();
    assert_eq!((entry.origin, entry.priority), (origin(3, 9), FramePriority::Emergency));
    assert!(Chunk::read(&mut Cursor(&bytes[96..127])).is_none());
}

/// Builds the index of blocks in which frames of several sources alternate. `tell` divides each block into ranges.
fn index_of(seed: u64, tell: impl Fn(&BlockEncoder, &BlockHeader) -> Vec<FrameRange>) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let origins: Vec<_> = (1..5).map(|source| origin(source, 1)).collect();
    let payload_max = [1, 300, 4_000, 80 << 10][seed as usize % 4];
    let mut builder = Builder::new(7, 99);
    let (mut encoder, mut position, mut sequence) = (BlockEncoder::default(), 64, 0);
    for _ in 0..5 {
        for _ in 0..rng.random_range(1..10) {
            let origin = &origins[rng.random_range(0..4)];
            let priority = FramePriority::ALL[usize::from(rng.random_bool(0.8))];
            let turn: Vec<Frame> = (0..rng.random_range(1..60))
                .map(|_| {
                    sequence += 1;
                    frame(origin, priority, sequence, rng.random_range(0..payload_max))
                })
                .collect();
            encoder.push(&runs(turn));
        }
        encoder.finish();
        let offset = builder.next_offset();
        let block = encoder.seal(99, position, offset, offset).to_vec();
        let header = BlockHeader::decode(&block[..64], position, Some(99)).unwrap();
        let ranges = tell(&encoder, &header);
        assert_eq!(ranges.iter().map(|it| u64::from(it.frames)).sum::<u64>(), encoder.frame_count());
        let known = ranges.into_iter().map(Some);
        builder.block(position, encoder.body(), encoder.origins(), known).unwrap();
        position += encoder.len();
        encoder.clear();
    }
    assert!(!builder.is_too_large());
    builder.finish(position).parts().collect::<Vec<_>>().concat()
}

#[test]
fn an_index_does_not_depend_on_how_its_frames_are_divided_into_ranges() {
    for seed in 0..16 {
        let as_written = index_of(seed, |encoder, _| encoder.ranges().to_vec());
        let as_read = index_of(seed, |encoder, header| {
            let (origins, ranges) = FrameRanges::new(header, encoder.body()).unwrap();
            assert_eq!(origins, encoder.origins());
            ranges.map(Option::unwrap).collect()
        });
        let one_by_one = index_of(seed, |encoder, _| {
            let mut at = FRAMES_PREFIX_BYTES;
            let single = |range: &FrameRange| {
                let (range, start) = (*range, at);
                at += range.bytes as usize;
                let mut at = start;
                (0..range.frames).map(move |_| {
                    let bytes = RecordHeader::read(&encoder.body()[at..]).unwrap().frame_len();
                    at += bytes;
                    // Each single frame gets the times of its whole range.
                    FrameRange { frames: 1, bytes: bytes as u32, crc: None, ..range }
                })
            };
            encoder.ranges().iter().flat_map(single).collect()
        });
        assert!(as_written == as_read, "seed {seed}");
        assert!(as_written == one_by_one, "seed {seed}");
    }
}
