//! KISS, as terminal node controllers and software modems speak it over TCP.
//!
//! `C0 command data C0`. In between, `DB DC` stands for C0 and `DB DD` for DB. The low half of the command is 0 for
//! data, and the high half is the port. gr-satellites sends the command 0x09 with the reception time of the next
//! frame: a big-endian u64, unix milliseconds.

use bytes::{Buf, BytesMut};

use crate::cut::{Cut, Input};
use crate::{Fault, Unit};

/// Most bytes between two delimiters that a frame may have unless the configuration says otherwise.
pub const FRAME_BYTES_MAX: usize = 65_536;

const FEND: u8 = 0xC0;
const FESC: u8 = 0xDB;
const ESCAPED_FEND: u8 = 0xDC;
const ESCAPED_FESC: u8 = 0xDD;
const COMMAND_TIME: u8 = 0x09;

/// Which frames are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kiss {
    /// The only port whose frames are taken, 0 to 15; `None` takes all.
    pub port: Option<u8>,
    /// Most bytes between two delimiters, command and escapes included.
    pub max: usize,
}

impl Default for Kiss {
    fn default() -> Self {
        Self { port: None, max: FRAME_BYTES_MAX }
    }
}

impl Kiss {
    pub(crate) const fn check(&self) -> Result<(), &'static str> {
        if self.max < 2 {
            return Err("max must be at least 2");
        }
        if matches!(self.port, Some(16..)) {
            return Err("port must be 0 to 15");
        }
        Ok(())
    }

    pub(crate) const fn cut(self) -> CutKiss {
        CutKiss { kiss: self, searched: 0, place: Place::Unknown, ert_ns: None }
    }
}

/// Appends `data` as a frame of `port`.
pub fn encode(port: u8, data: &[u8], out: &mut Vec<u8>) {
    encode_command(port << 4, data, out);
}

/// Appends the reception time of the next frame, unix milliseconds, as gr-satellites sends it.
pub fn encode_time(unix_ms: u64, out: &mut Vec<u8>) {
    encode_command(COMMAND_TIME, &unix_ms.to_be_bytes(), out);
}

fn encode_command(command: u8, data: &[u8], out: &mut Vec<u8>) {
    out.push(FEND);
    for byte in [command].iter().chain(data) {
        match *byte {
            FEND => out.extend_from_slice(&[FESC, ESCAPED_FEND]),
            FESC => out.extend_from_slice(&[FESC, ESCAPED_FESC]),
            plain => out.push(plain),
        }
    }
    out.push(FEND);
}

/// Cuts frames out of a stream. What stands before the first delimiter is the rest of a frame and is skipped.
#[derive(Debug)]
pub(crate) struct CutKiss {
    /// What the configuration says of the frames.
    kiss: Kiss,
    /// Bytes at the front of the buffer that hold no delimiter.
    searched: usize,
    /// Where the front of the buffer is.
    place: Place,
    /// The reception time that stood before the next frame.
    ert_ns: Option<i64>,
}

/// Where the front of the buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first delimiter of the stream.
    Unknown,
    /// Behind a delimiter.
    InFrame,
    /// In a frame that is too long.
    InOversize,
}

impl Cut for CutKiss {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        loop {
            let Some(found) = memchr::memchr(FEND, &input.buffer[self.searched..]) else {
                self.wait(input);
                return Ok(None);
            };
            let length = self.searched + found;
            self.searched = 0;
            let place = std::mem::replace(&mut self.place, Place::InFrame);
            if place == Place::InFrame && length > self.kiss.max {
                input.counts.oversize += 1;
                input.lose_sync();
            }
            let unit = if place == Place::InFrame && (1..=self.kiss.max).contains(&length) {
                self.frame(input, length)
            } else {
                input.skip(length);
                None
            };
            drop(input.take(1));
            if unit.is_some() {
                return Ok(unit);
            }
        }
    }
}

impl CutKiss {
    /// Remembers that no delimiter has come. Skips what can be no frame.
    fn wait(&mut self, input: &mut Input) {
        self.searched = input.buffer.len();
        if self.place == Place::InFrame && self.searched > self.kiss.max {
            input.counts.oversize += 1;
            input.lose_sync();
            self.place = Place::InOversize;
        }
        if self.place != Place::InFrame {
            input.skip(self.searched);
            self.searched = 0;
        }
    }

    /// Takes the frame of `length` bytes at the front of the buffer, without its last delimiter.
    fn frame(&mut self, input: &mut Input, length: usize) -> Option<Unit> {
        let mut data = input.buffer.split_to(length);
        let is_whole = unescape(&mut data);
        let command = data[0];
        data.advance(1);
        let is_wanted = command & 0x0F == 0 && self.kiss.port.is_none_or(|port| port == command >> 4);
        let time = data.first_chunk().filter(|_| command == COMMAND_TIME && data.len() == 8);
        if !is_whole {
            input.lose_sync();
        } else if let Some(unix_ms) = time {
            self.ert_ns =
                i64::try_from(u64::from_be_bytes(*unix_ms)).ok().and_then(|ms| ms.checked_mul(1_000_000));
            input.counts.bytes += length as u64;
            return None;
        }
        let ert_ns = self.ert_ns.take();
        if !is_whole || !is_wanted || data.is_empty() {
            input.counts.skipped += length as u64;
            return None;
        }
        input.counts.bytes += length as u64;
        Some(Unit { ert_ns, ..input.unit(data) })
    }
}

/// Replaces the escapes in place. Returns `false` if an escape has no meaning.
fn unescape(data: &mut BytesMut) -> bool {
    let mut from = memchr::memchr(FESC, data).unwrap_or(data.len());
    let mut to = from;
    while from < data.len() {
        data[to] = match data.get(from + 1) {
            Some(&ESCAPED_FEND) => FEND,
            Some(&ESCAPED_FESC) => FESC,
            _ => return false,
        };
        from += 2;
        to += 1;
        let plain = memchr::memchr(FESC, &data[from..]).unwrap_or(data.len() - from);
        data.copy_within(from..from + plain, to);
        from += plain;
        to += plain;
    }
    data.truncate(to);
    true
}
