//! What must hold for the frames of a log: each frame once, in the order of its lane, without a hole, content right.

use std::collections::HashMap;

use crate::content::{self, FrameId};
use crate::equipment;
use crate::source::{kind_of, station_of};
use crate::support::Archived;

/// Follows a log from its start. Collects what is wrong.
#[derive(Clone, Default)]
pub struct Track {
    /// Frames found so far, per source and lane. The next frame has this index.
    next: HashMap<(u32, usize), u64>,
    /// The next unit number, per source of a link.
    next_unit: HashMap<u32, u64>,
    /// Frames of sources found so far.
    pub frames: u64,
    /// Units of links found so far.
    pub units: u64,
    pub faults: Faults,
}

/// What is wrong with a log.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Acknowledged or preceding frames that are not there.
    pub lost: u64,
    /// Frames that are there a second time.
    pub doubled: u64,
    /// Frames with a wrong payload, kind, station or epoch, or which no source has sent.
    pub wrong: u64,
    /// The first faults in words.
    pub words: Vec<String>,
}

impl Faults {
    pub fn is_none(&self) -> bool {
        self.lost + self.doubled + self.wrong == 0
    }

    /// Notes that `frames` are not there.
    pub fn lose(&mut self, frames: u64, words: String) {
        self.lost += frames;
        self.note(words);
    }

    /// Compares what the archive has of a lane with what was acknowledged and what was written.
    pub fn compare(&mut self, source: u32, lane: usize, found: u64, acked: u64, written: u64) {
        if found < acked {
            self.lose(
                acked - found,
                format!("source {source} lane {lane}: {acked} acknowledged, {found} there"),
            );
        }
        if found > written {
            self.wrong += found - written;
            self.note(format!("source {source} lane {lane}: {written} written, {found} there"));
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        other.words.iter().for_each(|word| self.note(word.clone()));
    }

    fn note(&mut self, words: String) {
        if self.words.len() < 10 {
            self.words.push(words);
        }
    }
}

impl Track {
    /// Frames found so far of a lane of a source.
    pub fn found(&self, source: u32, lane: usize) -> u64 {
        self.next.get(&(source, lane)).copied().unwrap_or(0)
    }

    /// Checks the next frame of the log.
    pub fn take(&mut self, frame: &Archived) {
        if equipment::is_link(frame.source_id) {
            return self.take_unit(frame);
        }
        let Some(index) = content::index(frame.sequence) else {
            return self.wrong(frame, "this sequence was never sent");
        };
        let id = FrameId { source: frame.source_id, lane: frame.lane, index };
        let origin = (frame.kind, frame.station.as_str(), frame.epoch);
        if frame.payload != id.payload() {
            self.wrong(frame, "the payload differs");
        }
        if origin != (kind_of(id.source), station_of(id.source).as_str(), 1) {
            self.wrong(frame, "kind, station or epoch differs");
        }
        self.frames += 1;
        let next = self.next.entry((id.source, id.lane)).or_default();
        let expected = *next;
        *next = expected.max(index + 1);
        if index < expected {
            self.faults.doubled += 1;
            self.faults.note(format!("twice: {id:?} at offset {}", frame.offset));
        } else if index > expected {
            let words = format!("missing: {id:?} at offset {} follows {expected}", frame.offset);
            self.faults.lose(index - expected, words);
        }
    }

    /// A unit of a link: without acknowledgement, so units may be missing. None may come twice.
    fn take_unit(&mut self, frame: &Archived) {
        let Some(number) = equipment::number_of(frame.source_id, &frame.payload) else {
            return self.wrong(frame, "no equipment has sent this unit");
        };
        self.units += 1;
        let next = self.next_unit.entry(frame.source_id).or_default();
        if number < *next {
            self.faults.doubled += 1;
            self.faults.note(format!("unit {number} of link {} is behind {next}", frame.source_id));
        }
        *next = number + 1;
    }

    fn wrong(&mut self, frame: &Archived, why: &str) {
        self.faults.wrong += 1;
        let (offset, source, lane, sequence) = (frame.offset, frame.source_id, frame.lane, frame.sequence);
        self.faults.note(format!("{why}: offset {offset} source {source} lane {lane} sequence {sequence}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::sequence;
    use crate::support::ROUTINE;

    fn frame(index: u64) -> Archived {
        let source_id = 3;
        Archived {
            offset: index,
            source_id,
            kind: kind_of(source_id),
            station: station_of(source_id),
            epoch: 1,
            lane: ROUTINE,
            flags: 0,
            sequence: sequence(index),
            ert_ns: 0,
            received_ns: 0,
            payload: FrameId { source: source_id, lane: ROUTINE, index }.payload(),
        }
    }

    fn faults(frames: impl IntoIterator<Item = Archived>) -> (u64, u64, u64) {
        let mut track = Track::default();
        frames.into_iter().for_each(|frame| track.take(&frame));
        (track.faults.lost, track.faults.doubled, track.faults.wrong)
    }

    #[test]
    fn missing_doubled_and_wrong_frames_are_found() {
        assert_eq!(faults((0..200).map(frame)), (0, 0, 0));
        assert_eq!(faults([0, 1, 4].map(frame)), (2, 0, 0));
        assert_eq!(faults([0, 1, 1, 2].map(frame)), (0, 1, 0));
        let mut wrong = frame(0);
        wrong.payload[12] ^= 1;
        assert_eq!(faults([wrong]), (0, 0, 1));
        assert_eq!(faults([Archived { station: "NOWHERE".into(), ..frame(0) }]), (0, 0, 1));
        assert_eq!(faults([Archived { sequence: 50, ..frame(0) }]), (0, 0, 1));
        let mut faults = Faults::default();
        faults.compare(3, ROUTINE, 7, 9, 12);
        faults.compare(3, ROUTINE, 13, 9, 12);
        assert_eq!((faults.lost, faults.wrong), (2, 1));
    }
}
