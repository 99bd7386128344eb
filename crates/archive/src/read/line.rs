//! A frame as a line of text, for `archive cat` and for exports to text.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::StoredFrame;

/// Characters that begin a formula in some spreadsheet, including the full-width forms of East Asia. An apostrophe in
/// front marks a cell as text.
const BEGINS_FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\'', '＝', '＋', '－', '＠'];

/// One line of output; the names and the order of the fields are part of the interface.
#[derive(Serialize)]
pub struct Line<'a> {
    offset: u64,
    source_id: u32,
    source_kind: &'static str,
    station: &'a str,
    epoch: u64,
    priority: &'static str,
    sequence: u64,
    flags: u8,
    ert_ns: i64,
    received_ns: i64,
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

    /// Passes `write` the line in a form that is safe in a spreadsheet: a station that would begin a formula gets an
    /// apostrophe in front.
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
