//! Datagrams: each is a unit.

use std::collections::VecDeque;

use crate::cut::{Cut, Input};
use crate::{Fault, Unit};

/// The longest payload of a UDP datagram over IPv4, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Every push is a unit, unless it is empty or longer than `max`.
#[derive(Debug)]
pub(crate) struct CutDatagrams {
    /// Longest unit in bytes.
    max: usize,
    /// The lengths of the pushes in the input that are not cut yet, oldest first. They are the only borders of the
    /// units.
    lengths: VecDeque<usize>,
}

impl CutDatagrams {
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, lengths: VecDeque::new() }
    }
}

impl Cut for CutDatagrams {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        while let Some(length) = self.lengths.pop_front() {
            if length > self.max {
                input.counts.oversize += 1;
                input.skip(length);
            } else if length > 0 {
                let data = input.take(length);
                return Ok(Some(input.unit(data)));
            }
        }
        Ok(None)
    }

    fn pushed(&mut self, length: usize) {
        self.lengths.push_back(length);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Deframer, Framing};

    #[test]
    fn a_datagram_is_a_unit_and_a_long_one_is_dropped() {
        let mut deframer = Deframer::new(&Framing::Datagram { max: 3 });
        for datagram in [&b"abc"[..], b"", b"four", b"d"] {
            deframer.push(datagram);
        }
        assert_eq!(deframer.next_unit().unwrap().unwrap().data, "abc");
        assert_eq!(deframer.next_unit().unwrap().unwrap().data, "d");
        assert_eq!(deframer.next_unit().unwrap(), None);
        let counts = deframer.counts();
        assert_eq!((counts.units, counts.bytes, counts.skipped, counts.oversize), (2, 4, 4, 1));
    }
}
