//! Channel access data units, CCSDS 131.0-B, sections 9 and 10: a marker (ASM), then a block of fixed length.
//!
//! The search is byte-aligned. A block behind an exact marker is a unit if one of these holds:
//!
//! * a second marker, or the end of the stream, stands at the right distance: that is the lock;
//! * the [`UnitCheck`] finds its checksum right;
//! * the `UnitCheck` accepts its header, and the next marker begins before a second block would be complete.
//!
//! Two units that are accepted one behind the other make the lock too.
//!
//! In lock, a block is delivered as soon as it is complete if its marker is right; it is not checked. A block whose
//! marker is missing waits until one of the next two markers confirms the lock. Three missing markers in a row end the
//! lock. The search then begins at the first of them, so that bytes lost or added between two units cost no unit, and
//! noise behind the last unit makes none.
//!
//! A block that the check refuses may be a bad frame or begin at a false marker. In the search it is a unit if three
//! markers in a row, or one and the end of the stream, confirm it. If a unit that the check accepts begins in a block
//! that the check refuses, the block is no unit, and the other one is taken.
//!
//! No byte is in two units. Checks cost time, and a hostile stream may be full of markers. So a stream may have
//! `CHECKS_MAX` checks for each block length of its bytes: what is checked, and what is searched behind it, is at most
//! `CHECKS_MAX` times the stream. A block for which no check is left counts as refused.

use std::ops::Range;

use bytes::Buf;
use memchr::memmem::Finder;

use crate::cut::{Cut, Input};
use crate::randomizer::randomize;
use crate::{Fault, Unit, UnitCheck};

/// The marker of 131.0-B for uncoded, convolutional and Reed-Solomon telemetry.
pub const ASM: [u8; 4] = [0x1A, 0xCF, 0xFC, 0x1D];
/// Missing markers in a row that the lock survives.
const MISSING_MAX: usize = 2;
/// Blocks that are checked at most while one block length of the stream passes. Random noise has a marker of four bytes
/// once in 4 GiB, so only a stream that is made to waste time needs more.
const CHECKS_MAX: usize = 8;

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

    pub(crate) fn cut(&self, check: Option<UnitCheck>) -> CutCadus {
        CutCadus {
            cadu: self.clone(),
            finder: Finder::new(&self.asm).into_owned(),
            check,
            sync: Sync::Search,
            front: Front::default(),
            credit: CHECKS_MAX * self.length,
        }
    }
}

/// Finds units in a stream.
#[derive(Debug)]
pub(crate) struct CutCadus {
    /// What the configuration says of the units.
    cadu: Cadu,
    /// Finds the marker in the input.
    finder: Finder<'static>,
    /// Recognises a unit without its neighbours; `None` if only markers tell.
    check: Option<UnitCheck>,
    /// What the units before the front of the input have shown.
    sync: Sync,
    /// What the search already knows of the front of the input, so that it is not found out again at every push.
    front: Front,
    /// Bytes that may be checked.
    credit: usize,
}

/// What is known of the synchronisation at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// Nothing.
    Search,
    /// A unit ends here that was accepted alone.
    Single,
    /// Units follow one another.
    Lock,
}

/// What was found out about the block at the front of the input.
#[derive(Clone, Copy, Debug, Default)]
struct Front {
    /// Whether the check accepts the block.
    is_accepted: Option<bool>,
    /// The search for another marker continues at this byte.
    searched: usize,
}

/// What happens at the front of the input.
enum Step {
    /// A unit is delivered. Behind it the synchronisation is this.
    Deliver(Sync),
    /// This many bytes belong to no unit.
    Skip(usize),
    /// The synchronisation is lost.
    Lose,
    /// A unit that the check accepts begins at this byte, and what is in front of it is none.
    Begin(usize),
}

impl Cut for CutCadus {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        while let Some(step) = self.step(input) {
            match step {
                Step::Deliver(sync) => {
                    self.sync = sync;
                    return Ok(Some(self.unit(input)));
                }
                Step::Skip(count) => self.skip(input, count),
                Step::Lose => self.lose(input),
                Step::Begin(at) => {
                    self.skip(input, at);
                    self.front.is_accepted = Some(true);
                }
            }
        }
        Ok(None)
    }
}

impl CutCadus {
    /// The next step; `None` if that needs more bytes. It depends on the bytes alone, not on how many more have come.
    fn step(&mut self, input: &mut Input) -> Option<Step> {
        match self.sync {
            Sync::Lock => {
                if self.has_marker(input, 0)? {
                    self.is_complete(input).then_some(Step::Deliver(Sync::Lock))
                } else {
                    self.step_without_marker(input)
                }
            }
            Sync::Single if !self.has_marker(input, 0)? => Some(Step::Lose),
            Sync::Single | Sync::Search => self.search(input),
        }
    }

    /// In lock, at a marker that is missing.
    fn step_without_marker(&mut self, input: &mut Input) -> Option<Step> {
        if self.check.is_some() {
            if !self.is_complete(input) {
                return input.has_ended.then_some(Step::Lose);
            }
            if !self.accepts_front(input)
                && let Some(begin) = self.find_within(input)?
            {
                return Some(Step::Begin(begin));
            }
        }
        for distance in 1..=MISSING_MAX {
            if self.has_marker(input, distance)? {
                return Some(Step::Deliver(Sync::Lock));
            }
        }
        Some(Step::Lose)
    }

    /// Searches the next unit.
    fn search(&mut self, input: &mut Input) -> Option<Step> {
        let Some(found) = self.finder.find(&input.buffer) else {
            // The last bytes may begin a marker.
            let beyond = (input.buffer.len() + 1).saturating_sub(self.cadu.asm.len());
            return (beyond > 0).then_some(Step::Skip(beyond));
        };
        if found > 0 {
            return Some(Step::Skip(found));
        }
        if !self.is_complete(input) {
            return input.has_ended.then_some(Step::Skip(1));
        }
        let is_accepted = self.accepts_front(input);
        let next = if self.sync == Sync::Single { Sync::Lock } else { Sync::Single };
        if is_accepted && self.is_proof() {
            return Some(Step::Deliver(next));
        }
        let is_confirmed = self.has_marker(input, 1)?;
        if is_confirmed && (is_accepted || self.check.is_none()) {
            return Some(Step::Deliver(Sync::Lock));
        }
        if is_confirmed {
            return self.search_refused(input);
        }
        let is_unit = is_accepted && self.is_followed(input)?;
        Some(if is_unit { Step::Deliver(next) } else { Step::Skip(1) })
    }

    /// In the search, at a block that the check refuses and the next marker confirms. Three markers in a row make it a
    /// bad frame.
    fn search_refused(&mut self, input: &mut Input) -> Option<Step> {
        if let Some(begin) = self.find_within(input)? {
            return Some(Step::Begin(begin));
        }
        let is_last = input.buffer.len() == self.cadu.length;
        let is_unit = is_last || self.sync == Sync::Single || self.has_marker(input, 2)?;
        Some(if is_unit { Step::Deliver(Sync::Lock) } else { Step::Skip(1) })
    }

    fn is_complete(&self, input: &Input) -> bool {
        input.buffer.len() >= self.cadu.length
    }

    /// Whether a marker stands `distance` units ahead; `None` if that needs more bytes. In the search, the end of the
    /// stream is as good as the second marker.
    fn has_marker(&self, input: &Input, distance: usize) -> Option<bool> {
        let at = distance * self.cadu.length;
        let Some(found) = input.buffer.get(at..at + self.cadu.asm.len()) else {
            let is_end = input.buffer.len() == at && self.sync != Sync::Lock;
            return (input.has_ended && at > 0).then_some(is_end);
        };
        let allowed = if self.sync == Sync::Lock { self.cadu.sync_errors } else { 0 };
        Some(found == self.cadu.asm || wrong_bits(found, &self.cadu.asm) <= allowed)
    }

    /// Whether the next marker behind the block at the front begins before a second block would be complete; `None` if
    /// that needs more bytes.
    fn is_followed(&mut self, input: &Input) -> Option<bool> {
        let length = self.cadu.length;
        self.next_marker(input, length..2 * length).map(|found| found.is_some())
    }

    /// Where a unit that the check accepts begins within the block at the front. The outer `None` means that more bytes
    /// are needed.
    fn find_within(&mut self, input: &mut Input) -> Option<Option<usize>> {
        if self.check.is_none() {
            return Some(None);
        }
        while let Some(at) = self.next_marker(input, 1..self.cadu.length)? {
            if input.buffer.len() < at + self.cadu.length {
                if input.has_ended {
                    break;
                }
                return None;
            }
            if self.accepts(input, at) {
                return Some(Some(at));
            }
            self.front.searched = at + 1;
        }
        Some(None)
    }

    /// Where the next exact marker begins in `range`. The outer `None` means that more bytes are needed. The next call
    /// continues where this one ended.
    fn next_marker(&mut self, input: &Input, range: Range<usize>) -> Option<Option<usize>> {
        let from = self.front.searched.max(range.start);
        let marker = self.cadu.asm.len();
        let end = range.end - 1 + marker;
        let known = &input.buffer[..input.buffer.len().min(end)];
        let found = known.get(from..).and_then(|bytes| self.finder.find(bytes));
        let known = known.len();
        self.front.searched =
            found.map_or((known + 1).saturating_sub(marker).max(from), |found| from + found);
        match found {
            Some(_) => Some(Some(self.front.searched)),
            None => (input.has_ended || known == end).then_some(None),
        }
    }

    /// Whether the check accepts the block at the front, which is complete. The result is kept, because more bytes may
    /// be needed for the next step.
    fn accepts_front(&mut self, input: &mut Input) -> bool {
        let is_accepted = self.front.is_accepted.unwrap_or_else(|| self.accepts(input, 0));
        self.front.is_accepted = Some(is_accepted);
        is_accepted
    }

    /// Whether the check accepts the block at `at`, which is complete.
    fn accepts(&mut self, input: &mut Input, at: usize) -> bool {
        let Some(check) = &self.check else { return false };
        let Some(credit) = self.credit.checked_sub(self.cadu.length) else { return false };
        self.credit = credit;
        let frame = &mut input.buffer[at + self.cadu.asm.len()..][..self.cadu.frame_length()];
        if !self.cadu.derandomize {
            return check.accepts(frame);
        }
        randomize(frame);
        let is_accepted = check.accepts(frame);
        // The bytes may be part of another block.
        randomize(frame);
        is_accepted
    }

    fn is_proof(&self) -> bool {
        self.check.as_ref().is_some_and(UnitCheck::is_proof)
    }

    fn skip(&mut self, input: &mut Input, count: usize) {
        if self.sync != Sync::Search {
            self.lose(input);
        }
        input.skip(count);
        self.advanced(count);
    }

    fn lose(&mut self, input: &mut Input) {
        input.lose_sync();
        self.sync = Sync::Search;
    }

    /// Takes note that the front has moved by `count` bytes.
    fn advanced(&mut self, count: usize) {
        self.front = Front::default();
        self.credit = (self.credit + CHECKS_MAX * count).min(CHECKS_MAX * self.cadu.length);
    }

    fn unit(&mut self, input: &mut Input) -> Unit {
        let mut data = input.take(self.cadu.length);
        self.advanced(self.cadu.length);
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
