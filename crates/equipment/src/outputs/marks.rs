//! Which bytes of a connection stand for which position in the log.

use std::collections::VecDeque;

use super::cursor::Position;

/// Positions by the bytes that lead to them: a reader that has all bytes up to a mark has come to its position.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(u64, Position)>);

impl Marks {
    /// Adds a mark behind the first `bytes` bytes of the connection. Marks come in order. Of several marks behind the
    /// same byte the last one counts.
    pub(super) fn push(&mut self, bytes: u64, position: Position) {
        match self.0.back_mut() {
            Some((last, latest)) if *last == bytes => *latest = position,
            _ => self.0.push_back((bytes, position)),
        }
    }

    /// Removes the marks within the first `bytes` bytes, and returns the position of the last of them.
    pub(super) fn reach(&mut self, bytes: u64) -> Option<Position> {
        let reached = self.0.partition_point(|(end, _)| *end <= bytes);
        self.0.drain(..reached).next_back().map(|(_, position)| position)
    }

    /// The number of marks that are not reached.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_reached_with_its_last_byte() {
        let mut marks = Marks::default();
        marks.push(0, Position::at(3));
        marks.push(10, Position::at(4));
        marks.push(10, Position::at(6));
        marks.push(20, Position { next_offset: 9, read_from: 7 });
        assert_eq!(marks.len(), 3);
        assert_eq!(marks.reach(0), Some(Position::at(3)));
        assert_eq!(marks.reach(9), None);
        assert_eq!(marks.reach(19), Some(Position::at(6)), "what the selection left out counts");
        assert_eq!(marks.reach(20), Some(Position { next_offset: 9, read_from: 7 }));
        assert_eq!((marks.reach(100), marks.len()), (None, 0));
    }
}
