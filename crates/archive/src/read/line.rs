//! A frame as a line of text, for `archive cat` and for exports to text.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::StoredFrame;

/// Characters that begin a formula in some spreadsheet, including the full-width forms of East Asia. An apostrophe in
/// front marks a cell as text.
const BEGINS_FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\'', '＝', '＋', '－', '＠'];

/// One line of output. The names and the order of the fields are an interface: scripts of operators read them, so a
/// change goes into the changelog.
#[derive(Serialize)]
pub struct Line<'a> {
    /// Number of the frame in the log.
    offset: u64,
    /// The satellite or the recording.
    source_id: u32,
    /// `live` or `replay`, by [`SourceKind::name`](frame::SourceKind::name).
    source_kind: &'static str,
    /// Name of the ground station; may be empty.
    station: &'a str,
    /// The sequence space of the stream.
    epoch: u64,
    /// The lane: `emergency` or `routine`.
    priority: &'static str,
    /// Number of the frame within epoch and lane, given by its sender.
    sequence: u64,
    /// The bits of [`FrameFlags`](frame::FrameFlags).
    flags: u8,
    /// Earth reception time: when the station received the frame, in unix nanoseconds, as its sender says; 0 if unknown.
    ert_ns: i64,
    /// When this daemon read the frame, in unix nanoseconds.
    received_ns: i64,
    /// The payload in base64.
    payload: String,
}

impl<'a> Line<'a> {
    /// The line for `stored`, the payload in base64.
    pub fn of(stored: &'a StoredFrame) -> Self {
        let frame = &stored.frame;
        Self {
            offset: stored.offset,
            source_id: frame.source_id,
            source_kind: frame.source_kind.name(),
            station: frame.origin.stream.station.as_str(),
            epoch: frame.origin.epoch,
            priority: frame.priority.name(),
            sequence: frame.sequence,
            flags: frame.flags.0,
            ert_ns: frame.ert_ns,
            received_ns: frame.received_ns,
            payload: STANDARD.encode(&frame.payload),
        }
    }

    /// Calls `write` with the line in a form that is safe in a spreadsheet, and returns its result. A station that
    /// would begin a formula gets an apostrophe in front.
    ///
    /// A station that begins with an apostrophe gets a second one, so that removing one restores the name. The other
    /// fields are numbers, fixed words and base64, which cannot hold a formula.
    pub fn for_spreadsheets<T>(self, write: impl FnOnce(&Line<'_>) -> T) -> T {
        if !self.station.starts_with(BEGINS_FORMULA) {
            return write(&self);
        }
        let station = format!("'{}", self.station);
        // `station` lives shorter than the frame, so the line needs the shorter lifetime.
        let mut line: Line<'_> = self;
        line.station = &station;
        write(&line)
    }

    /// Writes the line as a JSON object with a line feed.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}
