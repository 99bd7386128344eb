//! Reads the archive on disk with the reader of the library.

use std::path::Path;

use archive::{Filter, Item, Reader};
use frame::Frame;

/// A frame of the archive, with the fields that the tests compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    pub offset: u64,
    pub source_id: u32,
    pub kind: u8,
    pub station: String,
    pub epoch: u64,
    pub lane: usize,
    pub flags: u8,
    pub sequence: u64,
    pub ert_ns: i64,
    pub received_ns: i64,
    pub payload: Vec<u8>,
}

/// All frames of the archive in `dir`, in the order of their offsets. The offsets must have no hole.
pub fn archived(dir: &Path) -> Vec<Archived> {
    let reader = Reader::open(dir, Filter::default()).expect("the archive cannot be read");
    let frames: Vec<_> = reader
        .map(|item| match item.expect("reading the archive fails") {
            Item::Frame(stored) => plain(stored.offset, &stored.frame),
            other => panic!("the archive is not whole: {other:?}"),
        })
        .collect();
    for (expected, frame) in frames.iter().enumerate() {
        assert_eq!(frame.offset, expected as u64, "offsets of the archive have a hole before {frame:?}");
    }
    frames
}

/// The frame at `offset`, with the fields that the tests compare.
pub fn plain(offset: u64, frame: &Frame) -> Archived {
    Archived {
        offset,
        source_id: frame.source_id,
        kind: frame.source_kind as u8,
        station: frame.origin.stream.station.as_str().to_owned(),
        epoch: frame.origin.epoch,
        lane: frame.priority as usize,
        flags: frame.flags.0,
        sequence: frame.sequence,
        ert_ns: frame.ert_ns,
        received_ns: frame.received_ns,
        payload: frame.payload.to_vec(),
    }
}
