//! Units of one length, without anything between them.

use crate::cut::{Cut, Input};
use crate::{Fault, Unit};

/// Cuts units of `length` bytes.
#[derive(Debug)]
pub(crate) struct CutFixed {
    /// In bytes. [`Framing::check`](crate::Framing::check) refuses 0, which would be a unit without bytes for ever.
    pub(crate) length: usize,
}

impl Cut for CutFixed {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        if input.buffer.len() < self.length {
            return Ok(None);
        }
        let data = input.take(self.length);
        Ok(Some(input.unit(data)))
    }
}
