//! What every framing has in common: units, their counts, and the bytes that are not cut yet.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::{Fault, FramingError};

/// Most bytes of a refused unit that an error shows.
const SHOWN_BYTES: usize = 32;

/// One unit of a link: a transfer frame, a packet or another message.
///
/// `data` shares the memory of its neighbours in the stream, so a unit that is kept keeps up to some 64 KiB, or
/// its own size if that is more. Copy it to keep it for long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The payload, without marker, delimiters, length field and check symbols.
    pub data: Bytes,
    /// Earth reception time that the equipment gave, unix nanoseconds.
    pub ert_ns: Option<i64>,
    /// The synchronisation was lost before this unit and found again at it.
    pub discontinuity: bool,
    /// The equipment marked the frame as bad.
    pub bad_quality: bool,
    /// The spacecraft that the equipment named.
    pub spacecraft: Option<u16>,
    /// The virtual channel that the equipment named.
    pub channel: Option<u8>,
}

/// What became of the bytes of a stream.
///
/// Every byte that was pushed is counted in `bytes` or `skipped`, or is still [pending](crate::Deframer::pending).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units.
    pub units: u64,
    /// Bytes of units with their framing, and of framing without content such as idle delimiters.
    pub bytes: u64,
    /// Bytes that belong to no unit.
    pub skipped: u64,
    /// How often the synchronisation was lost after it had been found.
    pub sync_losses: u64,
    /// Units that were dropped because they were longer than the limit.
    pub oversize: u64,
}

/// The way to cut of one framing.
pub(crate) trait Cut: fmt::Debug + Send {
    /// Takes the next unit. Consumes the bytes that it does not need to see again.
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault>;

    /// Learns that one push has appended `length` bytes.
    fn pushed(&mut self, length: usize) {
        let _ = length;
    }
}

/// The bytes that are not cut, and the counts of those that are.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The bytes that were pushed and are neither taken nor skipped.
    pub(crate) buffer: BytesMut,
    /// What became of the bytes before them.
    pub(crate) counts: Counts,
    /// No more bytes will come.
    pub(crate) has_ended: bool,
    /// The synchronisation was lost, and no unit was found since.
    is_resynchronising: bool,
}

impl Input {
    /// Drops the first `count` bytes as part of no unit.
    pub(crate) fn skip(&mut self, count: usize) {
        self.buffer.advance(count);
        self.counts.skipped += count as u64;
    }

    /// Counts the first `count` bytes as framing, and takes them.
    pub(crate) fn take(&mut self, count: usize) -> BytesMut {
        self.counts.bytes += count as u64;
        self.buffer.split_to(count)
    }

    /// Counts a lost synchronisation. The next unit gets the mark.
    pub(crate) fn lose_sync(&mut self) {
        self.counts.sync_losses += 1;
        self.is_resynchronising = true;
    }

    /// Makes a unit of `data`, which was taken.
    pub(crate) fn unit(&mut self, data: BytesMut) -> Unit {
        self.counts.units += 1;
        let discontinuity = std::mem::take(&mut self.is_resynchronising);
        Unit { data: data.freeze(), discontinuity, ..Unit::default() }
    }

    #[cold]
    pub(crate) fn error(&self, fault: Fault) -> FramingError {
        let bytes = self.buffer[..self.buffer.len().min(SHOWN_BYTES)].to_vec();
        FramingError { fault, offset: self.counts.bytes + self.counts.skipped, bytes }
    }
}
