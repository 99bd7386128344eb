//! Channel access data units, CCSDS 131.0-B, sections 9 and 10: a marker (ASM), then a block of fixed length.
//!
//! The search is byte-aligned. Two exact markers at the right distance make the lock. In the search, the end of the
//! stream at the right distance confirms a marker as a second marker does.
//!
//! In lock, a block is delivered as soon as it is complete if its marker is right. A block whose marker is missing
//! waits until one of the next two markers confirms the lock. Three missing markers in a row end the lock. The search
//! then begins at the first of them, so that bytes lost or added between two units cost no unit, and noise behind
//! the last unit makes none.

use bytes::Buf;
use memchr::memmem::Finder;

use crate::cut::{Cut, Input};
use crate::randomizer::randomize;
use crate::{Fault, Unit};

/// The marker of 131.0-B for uncoded, convolutional and Reed-Solomon telemetry.
pub const ASM: [u8; 4] = [0x1A, 0xCF, 0xFC, 0x1D];
/// Missing markers in a row that the lock survives.
const MISSING_MAX: usize = 2;

/// Format of the units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadu {
    /// Bytes of a unit, marker included.
    pub length: usize,
    /// The marker.
    pub asm: Vec<u8>,
    /// Whether everything after the marker is randomised.
    pub derandomize: bool,
    /// Check symbols at the end, in bytes.
    pub strip: usize,
    /// Bits of the marker that may be wrong in lock.
    pub sync_errors: u32,
}

impl Default for Cadu {
    /// Randomised units of 1,024 bytes, without check symbols.
    fn default() -> Self {
        Self { length: 1_024, asm: ASM.to_vec(), derandomize: true, strip: 0, sync_errors: 0 }
    }
}

impl Cadu {
    /// Bytes of the frame in a unit.
    ///
    /// # Panics
    /// If [`Framing::check`](crate::Framing::check) refuses the format.
    #[must_use]
    pub const fn frame_length(&self) -> usize {
        self.length - self.asm.len() - self.strip
    }

    /// Appends a unit with `frame`. The check symbols are zeros before they are randomised.
    ///
    /// # Panics
    /// Unless `frame` has [`frame_length`](Self::frame_length) bytes.
    pub fn encode(&self, frame: &[u8], out: &mut Vec<u8>) {
        assert_eq!(frame.len(), self.frame_length(), "the frame does not fit the CADU");
        out.extend_from_slice(&self.asm);
        let start = out.len();
        out.extend_from_slice(frame);
        out.resize(out.len() + self.strip, 0);
        if self.derandomize {
            randomize(&mut out[start..]);
        }
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.asm.is_empty() {
            return Err("asm must have at least one byte");
        }
        if self.asm.len().checked_add(self.strip).is_none_or(|around| around >= self.length) {
            return Err("length must be greater than the marker and strip together");
        }
        if u64::from(self.sync_errors) * 2 >= 8 * self.asm.len() as u64 {
            return Err("sync_errors must be less than half the bits of the marker");
        }
        Ok(())
    }

    pub(crate) fn cut(&self) -> CutCadus {
        CutCadus { cadu: self.clone(), finder: Finder::new(&self.asm).into_owned(), is_locked: false }
    }
}

/// Finds units in a stream.
#[derive(Debug)]
pub(crate) struct CutCadus {
    cadu: Cadu,
    finder: Finder<'static>,
    is_locked: bool,
}

impl Cut for CutCadus {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        loop {
            if !self.is_locked && !self.find_candidate(input) {
                return Ok(None);
            }
            match self.is_confirmed(input) {
                None => return Ok(None),
                Some(true) if input.buffer.len() < self.cadu.length => return Ok(None),
                Some(true) => {
                    self.is_locked = true;
                    return Ok(Some(self.unit(input)));
                }
                Some(false) if self.is_locked => {
                    self.is_locked = false;
                    input.lose_sync();
                }
                Some(false) => input.skip(1),
            }
        }
    }
}

impl CutCadus {
    /// Skips to the next marker. Without one, skips all bytes that cannot begin a marker.
    fn find_candidate(&self, input: &mut Input) -> bool {
        let found = self.finder.find(&input.buffer);
        let beyond = (input.buffer.len() + 1).saturating_sub(self.cadu.asm.len());
        input.skip(found.unwrap_or(beyond));
        found.is_some()
    }

    /// Whether a unit begins here; `None` if that needs more bytes.
    fn is_confirmed(&self, input: &Input) -> Option<bool> {
        let first = if self.is_locked { 0 } else { 1 };
        let last = if self.is_locked { MISSING_MAX } else { 1 };
        for distance in first..=last {
            if self.has_marker(input, distance)? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether a marker stands `distance` units ahead; `None` if that needs more bytes.
    fn has_marker(&self, input: &Input, distance: usize) -> Option<bool> {
        let at = distance * self.cadu.length;
        let Some(found) = input.buffer.get(at..at + self.cadu.asm.len()) else {
            let is_end = input.buffer.len() == at && !self.is_locked;
            return (input.has_ended && at > 0).then_some(is_end);
        };
        let allowed = if self.is_locked { self.cadu.sync_errors } else { 0 };
        Some(found == self.cadu.asm || wrong_bits(found, &self.cadu.asm) <= allowed)
    }

    fn unit(&self, input: &mut Input) -> Unit {
        let mut data = input.take(self.cadu.length);
        data.advance(self.cadu.asm.len());
        data.truncate(self.cadu.frame_length());
        if self.cadu.derandomize {
            randomize(&mut data);
        }
        input.unit(data)
    }
}

fn wrong_bits(found: &[u8], expected: &[u8]) -> u32 {
    found.iter().zip(expected).map(|(found, expected)| (found ^ expected).count_ones()).sum()
}
