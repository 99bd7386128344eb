//! Cuts the bytes of a link into units.

use crate::cut::{Cut, Input};
use crate::{Counts, Framing, FramingError, Unit, UnitCheck};

/// Least memory that the deframer allocates at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Cuts a byte stream into units, however the stream was cut into reads.
///
/// Call [`next_unit`](Self::next_unit) until it returns `None` after each [`push`](Self::push). Then the deframer holds
/// no more than three units of the longest allowed length.
#[derive(Debug)]
pub struct Deframer {
    /// The bytes that are not cut, and the counts.
    input: Input,
    /// The way to cut of the framing.
    cut: Box<dyn Cut>,
}

impl Deframer {
    /// A deframer at the beginning of a stream.
    ///
    /// # Panics
    /// If [`Framing::check`] refuses `framing`.
    #[must_use]
    pub fn new(framing: &Framing) -> Self {
        Self::with_check(framing, None)
    }

    /// A deframer that also finds units by `check`, if the framing searches its units: [`Framing::Cadu`].
    ///
    /// # Panics
    /// If [`Framing::check`] refuses `framing`.
    #[must_use]
    pub fn with_check(framing: &Framing, check: Option<UnitCheck>) -> Self {
        if let Err(error) = framing.check() {
            panic!("{framing}: {error}");
        }
        Self { input: Input::default(), cut: framing.cut(check) }
    }

    /// Appends bytes of the stream, or one datagram.
    pub fn push(&mut self, bytes: &[u8]) {
        let buffer = &mut self.input.buffer;
        if buffer.capacity() - buffer.len() < bytes.len() {
            buffer.reserve(bytes.len().max(buffer.len()).max(CHUNK_BYTES));
        }
        buffer.extend_from_slice(bytes);
        self.cut.pushed(bytes.len());
    }

    /// Takes the next complete unit; `None` if it needs more bytes.
    ///
    /// # Errors
    /// The stream cannot be cut from here on. Further calls return the same error.
    pub fn next_unit(&mut self) -> Result<Option<Unit>, FramingError> {
        self.cut.next(&mut self.input).map_err(|fault| self.input.error(fault))
    }

    /// Takes a unit that the end of the stream completes. Call it until it returns `None`. What is left then
    /// counts as skipped.
    pub fn finish(&mut self) -> Option<Unit> {
        self.input.has_ended = true;
        let unit = self.next_unit().ok().flatten();
        if unit.is_none() {
            self.input.skip(self.pending());
        }
        unit
    }

    /// The counts since the beginning of the stream.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.input.counts
    }

    /// Bytes that were pushed and neither delivered nor skipped.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.input.buffer.len()
    }
}
