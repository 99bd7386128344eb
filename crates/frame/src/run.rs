//! Frames on their way through the daemon: runs of frames that share common data.
//!
//! The frames of one read have one origin and one time, and their payloads are in one buffer. A [`FrameRun`]
//! keeps this common data once, and 32 bytes per frame. No frame is counted or freed alone until the archive
//! writes it.
//!
//! A run keeps its buffer in memory as long as one of its frames waits. So the frames of a lane keep the
//! buffer of the read only if they cost enough for it ([`weight_max`]). Other frames are copied out of the
//! buffer, and consecutive small runs are joined.

use std::sync::Arc;

use super::{BufferPool, Frame, FrameMeta, FramePriority, FrameView, Lanes, Origin, ReadBuffer, weight_max};

/// Memory of a run besides its buffer, in bytes: its reference-counted part, its slot in a queue that
/// doubles, and the overhead of the allocator.
const RUN_BYTES: usize = 288;
/// Header length of a frame that no client sent, in bytes.
const HEADER_LEN: u8 = 20;

/// Frames of one origin and lane that were read together, or soon after one another, in order. Cheap to clone
/// and to split.
///
/// A clone, even of a part, keeps the whole buffer in memory.
#[derive(Clone, Debug)]
pub struct FrameRun {
    read: Arc<Read>,
    priority: FramePriority,
    from: u32,
    to: u32,
    cost: u64,
}

#[derive(Debug)]
struct Read {
    origin: Arc<Origin>,
    received_ns: i64,
    buffer: ReadBuffer,
    /// The pool that gets the buffer back, unless the frames were copied into a buffer of their own.
    pool: Option<Arc<BufferPool>>,
}

impl Drop for Read {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(std::mem::take(&mut self.buffer));
        }
    }
}

impl FrameRun {
    /// The frames of `origin` that were found in `buffer`, one run per lane that has frames.
    ///
    /// Each lane is decided alone. A lane keeps `buffer` if the cost of its frames allows that
    /// ([`weight_max`]). Otherwise its frames are copied into memory of exactly their size. Without credit
    /// (`has_credit`), the size of the frames counts in place of a higher cost. The buffer returns to `pool`
    /// when the last frame that needs it is gone, or at once.
    ///
    /// # Panics
    /// With more than 2^32 frames, and later when the payload of a meta is not within the buffer.
    #[must_use]
    pub fn of_read(
        origin: &Arc<Origin>,
        received_ns: i64,
        mut buffer: ReadBuffer,
        has_credit: bool,
        pool: &Arc<BufferPool>,
    ) -> Lanes<Option<Self>> {
        let costs = buffer.metas.each_ref().map(|metas| metas.iter().map(FrameMeta::cost).sum::<u64>());
        let counts = buffer.metas.each_ref().map(Vec::len);
        let allowed = Lanes::from_fn(|priority| {
            let cost = costs[priority];
            let bytes = if has_credit { u64::MAX } else { buffer.compact_weight(priority) as u64 };
            weight_max(cost.min(bytes))
        });
        let keep = |weight: usize| allowed.map(|allowed| (weight + RUN_BYTES) as u64 <= allowed);
        let mut keeps = keep(buffer.weight());
        if keeps == Lanes::both(false) && keep(buffer.trimmed_weight()) != Lanes::both(false) {
            buffer.trim();
            keeps = keep(buffer.weight());
        }
        let is_copied = |priority: FramePriority| counts[priority] > 0 && !keeps[priority];
        let copies = Lanes::from_fn(|priority| is_copied(priority).then(|| buffer.compact(priority)));
        let read = |buffer, pool| Arc::new(Read { origin: Arc::clone(origin), received_ns, buffer, pool });
        let mut reads = copies.map(|copy| copy.map(|buffer| read(buffer, None)));
        if keeps == Lanes::both(false) {
            pool.give(buffer);
        } else {
            let kept = read(buffer, Some(Arc::clone(pool)));
            for (priority, _) in keeps.into_iter().filter(|(_, keeps)| *keeps) {
                reads[priority] = Some(Arc::clone(&kept));
            }
        }
        Lanes::from_fn(|priority| {
            let to = u32::try_from(counts[priority]).expect("a read holds fewer than 2^32 frames");
            reads[priority].take().map(|read| Self { read, priority, from: 0, to, cost: costs[priority] })
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

    /// When the daemon read the first frame from the socket, unix nanoseconds.
    #[must_use]
    pub fn received_ns(&self) -> i64 {
        self.metas().first().map_or(self.read.received_ns, |meta| self.received_ns_of(meta))
    }

    /// When the daemon read the frame with `meta` from the socket, unix nanoseconds.
    #[must_use]
    #[inline]
    pub fn received_ns_of(&self, meta: &FrameMeta) -> i64 {
        self.read.received_ns + i64::from(meta.received_after_us) * 1_000
    }

    /// The part of a window that the frames use.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// The memory in bytes that stays in use until the last frame has left.
    #[must_use]
    pub fn weight(&self) -> u64 {
        (self.read.buffer.weight() + RUN_BYTES) as u64
    }

    /// The number of frames.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Whether there are no frames.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// The metas of the frames.
    #[must_use]
    #[inline]
    pub fn metas(&self) -> &[FrameMeta] {
        &self.read.buffer.metas[self.priority][self.from as usize..self.to as usize]
    }

    /// The payload of the frame with `meta`.
    #[must_use]
    #[inline]
    pub fn payload(&self, meta: &FrameMeta) -> &[u8] {
        self.read.buffer.payload(meta)
    }

    /// The frames, one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FrameView<'_>> {
        self.metas().iter().map(|meta| self.view(meta))
    }

    /// Splits off the first `count` frames.
    ///
    /// # Panics
    /// When the run has fewer frames.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        assert!(count <= self.len(), "{count} frames of a run of {}", self.len());
        let (from, to) = (self.from, self.from + count as u32);
        let cost =
            if to == self.to { self.cost } else { self.metas()[..count].iter().map(FrameMeta::cost).sum() };
        self.from = to;
        self.cost -= cost;
        Self { read: Arc::clone(&self.read), priority: self.priority, from, to, cost }
    }

    /// Appends the frames of `next`, which was read later. Returns `false` if the runs cannot be joined.
    ///
    /// Runs can be joined while this run is small, that is, while it keeps more memory than its frames allow.
    /// Both runs must have one origin and must be copied out of their read buffers. This run must be whole
    /// and not shared.
    pub fn join(&mut self, next: &Self) -> bool {
        let is_small = self.weight() > weight_max(self.cost);
        if !is_small
            || self.from > 0
            || next.read.pool.is_some()
            || self.priority != next.priority
            || !Arc::ptr_eq(&self.read.origin, &next.read.origin)
        {
            return false;
        }
        let after_ns = next.read.received_ns - self.read.received_ns;
        let (Ok(after_us), Some(read)) = (u32::try_from(after_ns / 1_000), Arc::get_mut(&mut self.read))
        else {
            return false;
        };
        if read.pool.is_some() || after_ns < 0 {
            return false;
        }
        read.buffer.append(self.priority, next.metas(), &next.read.buffer, after_us);
        self.to += next.len() as u32;
        self.cost += next.cost;
        true
    }

    /// The same frames in memory of exactly their size.
    #[must_use]
    pub fn compact(&self) -> Self {
        let read = &*self.read;
        let buffer = read.buffer.compact_part(self.priority, self.metas());
        let read =
            Read { origin: Arc::clone(&read.origin), received_ns: read.received_ns, buffer, pool: None };
        Self {
            read: Arc::new(read),
            priority: self.priority,
            from: 0,
            to: self.len() as u32,
            cost: self.cost,
        }
    }

    fn view(&self, meta: &FrameMeta) -> FrameView<'_> {
        let FrameMeta { sequence, ert_ns, flags, .. } = *meta;
        let (origin, received_ns) = (&self.read.origin, self.received_ns_of(meta));
        let (priority, payload) = (self.priority, self.payload(meta));
        FrameView { priority, flags, sequence, ert_ns, received_ns, origin, payload }
    }
}

impl From<Frame> for FrameRun {
    fn from(frame: Frame) -> Self {
        let Frame { priority, flags, sequence, ert_ns, received_ns, origin, payload, .. } = frame;
        let payload_len = payload.len() as u32;
        let mut buffer = ReadBuffer { bytes: payload.into(), ..ReadBuffer::default() };
        let meta = FrameMeta {
            sequence,
            ert_ns,
            payload_len,
            flags,
            header_len: HEADER_LEN,
            ..FrameMeta::default()
        };
        buffer.metas[priority].push(meta);
        let read = Arc::new(Read { origin, received_ns, buffer, pool: None });
        Self { read, priority, from: 0, to: 1, cost: meta.cost() }
    }
}

#[cfg(any(test, feature = "test-support"))]
/// Returns `frames` as one run; `None` when `frames` is empty.
///
/// # Panics
/// When the frames differ in origin, lane or time of receipt.
#[must_use]
pub fn joined(frames: &[Frame]) -> Option<FrameRun> {
    let first = frames.first()?;
    let mut buffer = ReadBuffer::default();
    for frame in frames {
        assert_eq!((&frame.origin, frame.priority), (&first.origin, first.priority));
        assert_eq!(frame.received_ns, first.received_ns);
        let (payload_at, payload_len) = (buffer.bytes.len() as u32, frame.payload.len() as u32);
        buffer.bytes.extend_from_slice(&frame.payload);
        let Frame { sequence, ert_ns, flags, .. } = *frame;
        let (received_after_us, header_len) = (0, HEADER_LEN);
        let meta =
            FrameMeta { sequence, ert_ns, payload_at, payload_len, received_after_us, header_len, flags };
        buffer.metas[first.priority].push(meta);
    }
    let pool = BufferPool::new(0, 0);
    FrameRun::of_read(&first.origin, first.received_ns, buffer, true, &pool).into_values().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameFlags, SourceKind, Station, StreamKey};

    fn origin() -> Arc<Origin> {
        let stream =
            StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station: Station::default() };
        Arc::new(Origin { stream, epoch: 5 })
    }

    fn run() -> FrameRun {
        run_in(&BufferPool::new(9, 1))
    }

    fn run_in(pool: &Arc<BufferPool>) -> FrameRun {
        let meta = |sequence, payload_at, payload_len| FrameMeta {
            sequence,
            ert_ns: -1,
            payload_at,
            payload_len,
            flags: FrameFlags(2),
            ..FrameMeta::default()
        };
        let metas = Lanes::new(vec![meta(3, 1, 2), meta(4, 5, 0), meta(9, 5, 3)], vec![]);
        let buffer = ReadBuffer { bytes: b"_ab__cde_".to_vec(), metas };
        let Lanes { emergency, routine } = FrameRun::of_read(&origin(), 11, buffer, true, pool);
        assert!(routine.is_none());
        emergency.expect("three frames")
    }

    fn seen(run: &FrameRun) -> Vec<(u64, &[u8])> {
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
    fn a_compact_run_holds_only_its_payloads() {
        let mut whole = run();
        let first = whole.split_to(1).compact();
        assert_eq!((&first.read.buffer.bytes[..], first.len(), first.cost()), (&b"ab"[..], 1, 256));
        assert_eq!(seen(&first), [(3, &b"ab"[..])]);
        assert_eq!(seen(&whole.compact()), seen(&whole));
    }

    #[test]
    fn the_buffer_is_returned_with_the_last_frame() {
        let pool = BufferPool::new(9, 1);
        let mut run = run_in(&pool);
        let at = run.read.buffer.bytes.as_ptr();
        let last = run.split_to(2);
        drop(run);
        assert_ne!(pool.take().bytes.as_ptr(), at, "a part of the run still needs it");
        drop(last);
        assert_eq!(pool.take().bytes.as_ptr(), at);
    }

    const READ_BYTES: usize = 64 << 10;

    /// A read buffer of 64 KiB with frames of these lanes and payload lengths, one after the other.
    fn read_of(frames: &[(FramePriority, usize)]) -> ReadBuffer {
        let mut buffer = ReadBuffer { bytes: Vec::with_capacity(READ_BYTES), ..ReadBuffer::default() };
        for (sequence, (priority, payload_len)) in (0..).zip(frames) {
            buffer.bytes.extend_from_slice(&[0; 4 + HEADER_LEN as usize]);
            let (payload_at, payload_len) = (buffer.bytes.len() as u32, *payload_len as u32);
            buffer.bytes.resize(buffer.bytes.len() + payload_len as usize, sequence as u8);
            let meta = FrameMeta {
                sequence,
                payload_at,
                payload_len,
                header_len: HEADER_LEN,
                ..FrameMeta::default()
            };
            buffer.metas[*priority].push(meta);
        }
        buffer
    }

    /// The weight of a run made for the frames of `run` alone.
    fn exact_weight(run: &FrameRun) -> u64 {
        let payloads: usize = run.iter().map(|frame| frame.payload.len()).sum();
        (payloads + run.len() * size_of::<FrameMeta>() + RUN_BYTES) as u64
    }

    use FramePriority::{Emergency, Routine};

    #[test]
    fn a_lane_is_judged_by_its_own_cost() {
        let pool = BufferPool::new(READ_BYTES, 4);
        let read = |emergency_bytes: usize, has_credit: bool| {
            let frames: Vec<_> = std::iter::repeat_n((Emergency, 1_004), emergency_bytes / 1_024)
                .chain([(Routine, 0)])
                .collect();
            let Lanes { emergency, routine } =
                FrameRun::of_read(&origin(), 1, read_of(&frames), has_credit, &pool);
            (emergency.unwrap(), routine.unwrap())
        };
        let (emergencies, routine) = read(60 << 10, true);
        assert!(emergencies.read.pool.is_some(), "they cost enough for the buffer");
        assert!(emergencies.weight() <= weight_max(emergencies.cost()));
        assert_eq!((routine.weight(), routine.cost()), (exact_weight(&routine), 256));
        let (emergencies, routine) = read(45 << 10, true);
        assert_eq!(emergencies.weight(), exact_weight(&emergencies));
        assert_eq!(routine.weight(), exact_weight(&routine));
        assert!(
            seen(&emergencies).iter().all(|(sequence, payload)| *payload == vec![*sequence as u8; 1_004])
        );
    }

    #[test]
    fn both_lanes_keep_one_buffer_if_each_costs_enough() {
        let pool = BufferPool::new(READ_BYTES, 4);
        let frames: Vec<_> = [(Emergency, 0), (Routine, 0)].into_iter().cycle().take(2_000).collect();
        let lanes = |has_credit| FrameRun::of_read(&origin(), 1, read_of(&frames), has_credit, &pool);
        let Lanes { emergency: Some(emergencies), routine: Some(routine) } = lanes(true) else {
            panic!("two lanes")
        };
        assert!(Arc::ptr_eq(&emergencies.read, &routine.read));
        for run in lanes(false).values().flatten() {
            assert_eq!(run.weight(), exact_weight(run), "without credit a cost above the size is no excuse");
        }
    }

    #[test]
    fn unused_capacity_of_metas_is_freed_before_payloads_are_copied() {
        let pool = BufferPool::new(READ_BYTES, 4);
        let frames = vec![(Routine, 1_115); 57];
        let mut read = read_of(&frames);
        read.metas.values_mut().for_each(|metas| metas.reserve(2_000));
        let Lanes { routine: run, .. } = FrameRun::of_read(&origin(), 1, read, true, &pool);
        let run = run.unwrap();
        assert!(run.read.pool.is_some() && run.weight() <= weight_max(run.cost()), "{}", run.weight());
    }

    #[test]
    fn consecutive_small_runs_are_joined() {
        let pool = BufferPool::new(READ_BYTES, 4);
        let small = |sequence: u64, received_ns: i64, payload_len| {
            let mut read = read_of(&[(Routine, payload_len)]);
            read.metas.routine[0].sequence = sequence;
            let Lanes { routine: run, .. } =
                FrameRun::of_read(ORIGIN.get_or_init(origin), received_ns, read, true, &pool);
            run.unwrap()
        };
        static ORIGIN: std::sync::OnceLock<Arc<Origin>> = std::sync::OnceLock::new();
        for payload_len in [0, 1, 100, 236, 500, 1_115, 5_000] {
            let mut runs: Vec<FrameRun> = Vec::new();
            for sequence in 0..500 {
                let next = small(sequence, 5_000 * sequence as i64, payload_len);
                if !runs.last_mut().is_some_and(|last| last.join(&next)) {
                    runs.push(next);
                }
            }
            let (weight, cost) =
                (runs.iter().map(FrameRun::weight).sum::<u64>(), runs.iter().map(FrameRun::cost).sum());
            assert!(weight <= weight_max(cost) + RUN_BYTES as u64, "{payload_len}: {weight} for {cost}");
            let times: Vec<i64> =
                runs.iter().flat_map(FrameRun::iter).map(|frame| frame.received_ns).collect();
            assert_eq!(times, (0..500).map(|sequence| 5_000 * sequence).collect::<Vec<_>>());
            assert_eq!(runs.iter().map(FrameRun::len).sum::<usize>(), 500);
        }
        let mut first = small(1, 10, 236);
        assert!(!first.join(&small(2, 9, 236)), "the clock went back");
        assert!(!first.clone().join(&small(2, 11, 236)), "it is shared");
        let taken = first.split_to(0);
        drop(taken);
        assert!(first.join(&small(2, 11, 236)));
        drop(first.split_to(1));
        assert!(!first.join(&small(3, 12, 236)), "what a part of is gone would grow without end");
    }

    proptest::proptest! {
        /// For any read: a lane keeps no more memory than its cost allows, or than its frames need alone.
        #[test]
        fn no_lane_keeps_more_memory_than_its_cost_allows(
            frames in proptest::collection::vec((proptest::bool::ANY, 0_usize..3_000), 1..20),
            many in 1_usize..40,
            has_credit: bool,
        ) {
            let pool = BufferPool::new(READ_BYTES, 4);
            let lanes = |(is_emergency, len): &(bool, usize)| (if *is_emergency { Emergency } else { Routine }, *len);
            let frames: Vec<_> = frames.iter().map(lanes).cycle().take(frames.len() * many).collect();
            let lanes = FrameRun::of_read(&origin(), 1, read_of(&frames), has_credit, &pool);
            for run in lanes.values().flatten() {
                let allowed = if has_credit { run.cost() } else { run.cost().min(exact_weight(run)) };
                assert!(run.weight() <= weight_max(allowed).max(exact_weight(run)));
                let lane = frames.iter().enumerate().filter(|(_, (priority, _))| *priority == run.priority());
                let expected = lane.map(|(at, (_, len))| (at as u64, vec![at as u8; *len]));
                assert!(run.iter().map(|frame| (frame.sequence, frame.payload.to_vec())).eq(expected));
            }
        }
    }

    #[test]
    fn a_frame_read_from_a_run_is_the_frame_put_in() {
        let frame = run().iter().last().expect("three frames").to_frame();
        let back = FrameRun::from(frame.clone());
        let again = back.iter().next().expect("one frame").to_frame();
        assert_eq!(format!("{frame:?}"), format!("{again:?}"));
        assert_eq!((again.source_id, again.sequence, &again.payload[..]), (7, 9, &b"cde"[..]));
        assert_eq!((again.ert_ns, again.received_ns, again.flags), (-1, 11, FrameFlags(2)));
    }
}
