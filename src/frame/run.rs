//! Frames on their way through the daemon: runs of them, that share what they have in common.
//!
//! What a session reads in one go has one origin and one time, and its payloads lie in one buffer. A [`Run`] keeps that
//! once for all of them, and 32 bytes for each: no frame is counted, copied or freed alone until the archive writes it.

use std::sync::Arc;

use super::{BufferPool, Frame, FrameFlags, FramePriority, FrameView, Origin, ReadBuffer};

/// What a frame has for itself: its header, and where in the run's buffer its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Strictly increasing within (epoch, lane).
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
    /// Where the payload begins, in bytes.
    pub payload_at: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Marks of the sender.
    pub flags: FrameFlags,
}

/// Frames of one origin and lane that were read together, in their order. Cheap to clone and to cut.
///
/// A clone, also of a part, keeps the buffer of all of them in memory.
#[derive(Clone, Debug)]
pub struct Run {
    read: Arc<Read>,
    priority: FramePriority,
    from: u32,
    to: u32,
}

#[derive(Debug)]
struct Read {
    origin: Arc<Origin>,
    received_ns: i64,
    buffer: ReadBuffer,
    /// Where the buffer goes in the end.
    pool: Option<Arc<BufferPool>>,
}

impl Drop for Read {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(std::mem::take(&mut self.buffer));
        }
    }
}

impl Run {
    /// The frames of `origin` that were found in `buffer`, a run for each lane that has some.
    ///
    /// With the last of them the buffer goes to `pool`.
    ///
    /// # Panics
    /// With more than 2^32 frames, and later when a head does not lie in the buffer.
    #[must_use]
    pub fn of_read(
        origin: Arc<Origin>,
        received_ns: i64,
        buffer: ReadBuffer,
        pool: Option<Arc<BufferPool>>,
    ) -> [Option<Self>; 2] {
        let read = Arc::new(Read { origin, received_ns, buffer, pool });
        FramePriority::ALL.map(|priority| {
            let frames = read.buffer.heads[priority.lane()].len();
            let to = u32::try_from(frames).expect("a read holds fewer than 2^32 frames");
            (to > 0).then(|| Self { read: Arc::clone(&read), priority, from: 0, to })
        })
    }

    /// The stream and epoch of all frames.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.read.origin
    }

    /// The lane of all frames.
    #[must_use]
    pub const fn priority(&self) -> FramePriority {
        self.priority
    }

    /// When the daemon read them from the socket, unix nanoseconds.
    #[must_use]
    pub fn received_ns(&self) -> i64 {
        self.read.received_ns
    }

    /// How many frames there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// What the frames have for themselves.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.read.buffer.heads[self.priority.lane()][self.from as usize..self.to as usize]
    }

    /// The payload of the frame with `head`.
    #[must_use]
    pub fn payload(&self, head: &Head) -> &[u8] {
        self.read.buffer.payload(head)
    }

    /// The frames, one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FrameView<'_>> {
        self.heads().iter().map(|head| self.view(head))
    }

    /// Takes the first `count` frames off.
    ///
    /// # Panics
    /// With more frames than there are.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        assert!(count <= self.len(), "{count} frames of a run of {}", self.len());
        let (from, to) = (self.from, self.from + count as u32);
        self.from = to;
        Self { read: Arc::clone(&self.read), priority: self.priority, from, to }
    }

    fn view(&self, head: &Head) -> FrameView<'_> {
        let Head { sequence, ert_ns, flags, .. } = *head;
        let Read { ref origin, received_ns, .. } = *self.read;
        let (priority, payload) = (self.priority, self.payload(head));
        FrameView { priority, flags, sequence, ert_ns, received_ns, origin, payload }
    }
}

impl From<Frame> for Run {
    fn from(frame: Frame) -> Self {
        let Frame { priority, flags, sequence, ert_ns, received_ns, origin, payload, .. } = frame;
        let payload_len = payload.len() as u32;
        let mut buffer = ReadBuffer { bytes: payload.into(), ..ReadBuffer::default() };
        let head = Head { sequence, ert_ns, payload_at: 0, payload_len, flags };
        buffer.heads[priority.lane()].push(head);
        let read = Arc::new(Read { origin, received_ns, buffer, pool: None });
        Self { read, priority, from: 0, to: 1 }
    }
}

/// A batch: runs that go on together, shared by all who see them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    runs: Arc<[Run]>,
    len: usize,
}

impl Frames {
    /// How many frames there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The frames, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = FrameView<'_>> {
        self.runs.iter().flat_map(Run::iter)
    }
}

impl From<Vec<Run>> for Frames {
    fn from(runs: Vec<Run>) -> Self {
        let len = runs.iter().map(Run::len).sum();
        Self { runs: runs.into(), len }
    }
}

impl From<Vec<Frame>> for Frames {
    /// Each frame as a run of its own.
    fn from(frames: Vec<Frame>) -> Self {
        frames.into_iter().map(Run::from).collect::<Vec<_>>().into()
    }
}

impl FromIterator<Frame> for Frames {
    /// Each frame as a run of its own.
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        frames.into_iter().collect::<Vec<Frame>>().into()
    }
}

/// One run of all `frames`, which must be of one origin, lane and time; `None` if there are none.
#[cfg(test)]
pub(crate) fn joined(frames: &[Frame]) -> Option<Run> {
    let first = frames.first()?;
    let mut buffer = ReadBuffer::default();
    for frame in frames {
        assert_eq!((&frame.origin, frame.priority), (&first.origin, first.priority));
        assert_eq!(frame.received_ns, first.received_ns);
        let (payload_at, payload_len) = (buffer.bytes.len() as u32, frame.payload.len() as u32);
        buffer.bytes.extend_from_slice(&frame.payload);
        let Frame { sequence, ert_ns, flags, .. } = *frame;
        buffer.heads[first.priority.lane()].push(Head { sequence, ert_ns, payload_at, payload_len, flags });
    }
    Run::of_read(Arc::clone(&first.origin), first.received_ns, buffer, None).into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{SourceKind, Station, StreamKey};

    fn run() -> Run {
        run_in(None)
    }

    fn run_in(pool: Option<Arc<BufferPool>>) -> Run {
        let stream =
            StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station: Station::default() };
        let head = |sequence, payload_at, payload_len| Head {
            sequence,
            ert_ns: -1,
            payload_at,
            payload_len,
            flags: FrameFlags(2),
        };
        let heads = [vec![head(3, 1, 2), head(4, 5, 0), head(9, 5, 3)], vec![]];
        let buffer = ReadBuffer { bytes: b"_ab__cde_".to_vec(), heads };
        let origin = Arc::new(Origin { stream, epoch: 5 });
        let [emergencies, routine] = Run::of_read(origin, 11, buffer, pool);
        assert!(routine.is_none());
        emergencies.expect("three frames")
    }

    fn seen(run: &Run) -> Vec<(u64, &[u8])> {
        run.iter().map(|frame| (frame.sequence, frame.payload)).collect()
    }

    #[test]
    fn a_run_is_cut_between_frames() {
        let mut rest = run();
        let first = rest.split_to(1);
        assert_eq!(seen(&first), [(3, &b"ab"[..])]);
        assert_eq!(seen(&rest), [(4, &b""[..]), (9, &b"cde"[..])]);
        assert_eq!((first.len(), rest.len()), (1, 2));
        assert!(rest.split_to(2).len() == 2 && rest.is_empty());
    }

    #[test]
    fn a_compact_buffer_holds_the_payloads_alone() {
        let compact = run().read.buffer.compact();
        assert_eq!(compact.bytes, b"abcde");
        let again = Run::of_read(Arc::clone(run().origin()), 11, compact, None);
        assert_eq!(seen(again[0].as_ref().expect("three frames")), seen(&run()));
    }

    #[test]
    fn the_buffer_goes_back_with_the_last_frame() {
        let pool = BufferPool::new(9, 1);
        let mut run = run_in(Some(Arc::clone(&pool)));
        let at = run.read.buffer.bytes.as_ptr();
        let last = run.split_to(2);
        drop(run);
        assert_ne!(pool.take().bytes.as_ptr(), at, "a part of the run still needs it");
        drop(last);
        assert_eq!(pool.take().bytes.as_ptr(), at);
    }

    #[test]
    fn a_frame_taken_out_is_the_frame_put_in() {
        let frame = run().iter().last().expect("three frames").to_frame();
        let back = Run::from(frame.clone());
        let again = back.iter().next().expect("one frame").to_frame();
        assert_eq!(format!("{frame:?}"), format!("{again:?}"));
        assert_eq!((again.source_id, again.sequence, &again.payload[..]), (7, 9, &b"cde"[..]));
        assert_eq!((again.ert_ns, again.received_ns, again.flags), (-1, 11, FrameFlags(2)));
    }

    #[test]
    fn a_batch_counts_the_frames_of_its_runs() {
        let batch = Frames::from(vec![run(), run()]);
        assert_eq!(batch.len(), 6);
        assert_eq!(batch.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [3, 4, 9, 3, 4, 9]);
        assert!(Frames::default().is_empty());
    }
}
