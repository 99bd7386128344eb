//! What outlives a connection: a stream's epoch, positions and queue, and which session speaks for it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::acks::{AckSignal, Acks};
use super::books::{Books, LaneCount};
use super::flow::{LaneTimes, Position, StreamState, StreamView};
use super::sequences::Sequences;
use crate::pipeline::{SharedCost, SourceQueue};
use actor::Address;
use connection::{SessionId, Stop};
use frame::{FramePriority, FrameRun, Lanes, Origin, StreamKey, unix_now_ns};
use support::logging::{Kind, by_peer};
use wire::{ErrorCode, WireError};

mod earlier;
mod forget;
mod reset;

pub use earlier::EARLIER_MAX;
pub use forget::{FORGET_MAX, ForgetRefused, Forgetting, Selected, Selector, glob};
pub use reset::ResetRefused;

/// The time span over which takeovers are counted.
const TAKEOVER_SPAN: Duration = Duration::from_secs(60);

/// A stream. The session, the router and the commits of the archive share it. Locks are held only briefly.
#[derive(Debug)]
pub(super) struct Stream {
    /// Frames that wait for the fan-in.
    pub(super) queue: Arc<SourceQueue>,
    /// The counters of the stream, in all its epochs.
    pub(super) books: Arc<Books>,
    /// The link whose peer chose the source id, see [`StreamTable::of_link`].
    inventor: Option<Arc<str>>,
    /// Everything that changes together.
    state: Mutex<State>,
}

/// The state of a stream.
#[derive(Debug)]
struct State {
    /// The name of the stream, and its current epoch. Frames share it.
    origin: Arc<Origin>,
    /// One above the highest accepted sequence of the epoch, per lane.
    accepted_next: Lanes<u64>,
    /// Every accepted frame of the epoch below this sequence is on stable storage, per lane.
    durable_next: Lanes<u64>,
    /// Accepted frames that are not on stable storage and have not passed as frames that are not archived.
    in_flight: u64,
    /// Those of them that are of earlier epochs.
    in_flight_earlier: u64,
    /// Why no session may speak for the stream: an operator edits it.
    held_because: Option<&'static str>,
    /// Which sequences have not come.
    sequences: Sequences,
    /// When something last happened, per lane.
    times: Lanes<LaneTimes>,
    /// Whether anything was ever accepted, in this epoch or an earlier one.
    has_history: bool,
    /// The session or the link that speaks for the stream.
    owner: Option<StreamOwner>,
    /// The state without an owner, and since when in unix nanoseconds; 0 when the stream never had an owner.
    ended: (StreamState, i64),
    /// `None` while a session speaks for the stream.
    offline: Option<Offline>,
    /// The takeovers of the last [`TAKEOVER_SPAN`], oldest first.
    takeovers: VecDeque<Instant>,
}

/// When a stream lost its last connection, or became known without one.
#[derive(Clone, Copy, Debug)]
struct Offline {
    /// Monotonic time, to measure the duration.
    since: Instant,
    /// Unix nanoseconds, to report the time.
    since_ns: i64,
}

impl Offline {
    fn now() -> Self {
        Self { since: Instant::now(), since_ns: unix_now_ns() }
    }
}

/// The session that speaks for a stream.
#[derive(Clone, Debug)]
pub(super) struct StreamOwner {
    /// The session. Each stream of a link has one of its own.
    pub(super) session_id: SessionId,
    /// The address for the order to end.
    pub(super) session: Address<Stop>,
    /// Notified when frames have left the queue.
    pub(super) room: Arc<Notify>,
    /// Signals that the durable position has moved. `None` for a link, which acknowledges nothing.
    pub(super) acks: Option<Arc<AckSignal>>,
    /// HELLO said that both lanes share one sequence counter.
    pub(super) shares_sequence: bool,
    /// The link, if the stream comes from one. No connection takes a stream over from a link, and no link takes a
    /// stream over.
    pub(super) link: Option<LinkOwner>,
}

/// A link that speaks for a stream.
#[derive(Clone, Debug)]
pub(super) struct LinkOwner {
    /// The name of the link.
    pub(super) name: Arc<str>,
    /// What waits in the queues of all streams of the link.
    pub(super) queued: Arc<SharedCost>,
}

impl std::fmt::Display for StreamOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.link {
            Some(link) => write!(f, "link {}", link.name),
            None => write!(f, "session {}", self.session_id),
        }
    }
}

/// The session does not speak for the stream; nothing was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Displaced;

impl Stream {
    fn new(
        key: StreamKey,
        position: Position,
        queue: Arc<SourceQueue>,
        inventor: Option<Arc<str>>,
        books: Arc<Books>,
    ) -> Arc<Self> {
        let Position { epoch, accepted_next, durable_next } = position;
        // This also covers a stream that was recovered just after a reset of its epoch.
        let has_history = epoch != 0;
        let origin = Arc::new(Origin { stream: key, epoch });
        let (owner, takeovers) = (None, VecDeque::new());
        let (sequences, times) = (Sequences::from(accepted_next), Lanes::default());
        let state = State {
            origin,
            accepted_next,
            durable_next,
            in_flight: 0,
            in_flight_earlier: 0,
            held_because: None,
            sequences,
            times,
            has_history,
            owner,
            ended: (StreamState::Offline, 0),
            offline: Some(Offline::now()),
            takeovers,
        };
        Arc::new(Self { queue, books, inventor, state: Mutex::new(state) })
    }

    /// Makes `owner` the owner of the stream in `epoch`, and orders the predecessor to end. Without `epoch` the stream
    /// keeps its epoch; a new stream begins with epoch 1.
    ///
    /// From here on, nothing that the predecessor reads is accepted. The call does not wait for the
    /// predecessor.
    ///
    /// # Errors
    /// `busy` when the stream changes its owner too often, belongs to a link, or is edited by an operator; `fenced`
    /// when `epoch` is older than the current one.
    pub(super) fn open(
        &self,
        owner: StreamOwner,
        epoch: Option<u64>,
        takeovers_max: usize,
        now: Instant,
    ) -> Result<(Arc<Origin>, Position), WireError> {
        let mut state = self.lock();
        let current = state.origin.epoch;
        let epoch = epoch.unwrap_or(current.max(1));
        if let Some(why) = state.held_because {
            return Err(WireError::new(
                ErrorCode::Busy,
                format!("an operator is editing this stream: {why}"),
            ));
        }
        if let Some(current) = &state.owner
            && (current.link.is_some() || owner.link.is_some())
        {
            let text = format!("{current} speaks for stream {}", state.origin.stream);
            return Err(WireError::new(ErrorCode::Busy, text));
        }
        if epoch >= current && state.owner.is_some() {
            state.note_takeover(takeovers_max, now)?;
        }
        if epoch < current {
            let text = format!("epoch {epoch} is older than the stream's current epoch {current}");
            return Err(WireError::new(ErrorCode::Fenced, text).with_detail(current));
        }
        if epoch > current {
            state.origin = Arc::new(Origin { stream: state.origin.stream.clone(), epoch });
            state.accepted_next = Lanes::default();
            state.durable_next = Lanes::default();
            state.in_flight_earlier = state.in_flight;
            state.sequences.begin_epoch();
        }
        state.sequences.connected(owner.shares_sequence);
        state.offline = None;
        let shared = owner.link.as_ref().map(|link| Arc::clone(&link.queued));
        self.queue.listen(Arc::clone(&owner.room), shared);
        if let Some(predecessor) = state.owner.replace(owner) {
            let error = if epoch > current {
                WireError::new(ErrorCode::Fenced, format!("epoch {epoch} of this stream has connected"))
                    .with_detail(epoch)
            } else {
                WireError::new(ErrorCode::TakenOver, "another connection has taken over this stream")
            };
            // A full or closed mailbox means that the session is being stopped already.
            let _ = predecessor.session.try_send_urgent(Stop(error));
        }
        Ok((Arc::clone(&state.origin), state.position()))
    }

    /// Accepts `lanes` from `session_id` and returns their counts. From here on, the daemon must keep
    /// everything below `accepted_next`, which lies behind the frames of `lanes`.
    ///
    /// # Errors
    /// [`Displaced`] when another owner has come. The caller counts the frames as rejected.
    pub(super) fn accept(
        &self,
        session_id: SessionId,
        accepted_next: Lanes<u64>,
        lanes: Lanes<Option<FrameRun>>,
    ) -> Result<Lanes<LaneCount>, Displaced> {
        let mut state = self.lock();
        if !state.is_owned_by(session_id) {
            return Err(Displaced);
        }
        state.has_history |= accepted_next != Lanes::default();
        state.accepted_next = accepted_next;
        let mut counts = Lanes::<LaneCount>::default();
        for run in lanes.values().flatten() {
            let priority = run.priority();
            counts[priority] = LaneCount::of(run);
            state.in_flight += counts[priority].frames;
            state.sequences.add(run);
            state.times[priority].received_ns = run.received_ns();
        }
        let begins_to_look_shared = state.sequences.begins_to_look_shared();
        // Pushed under the lock, so that a successor's frames cannot come before these.
        self.queue.push(lanes);
        let stream = begins_to_look_shared.then(|| Arc::clone(&state.origin));
        drop(state);
        if let Some(origin) = stream {
            by_peer!(
                Kind::Hinted, WARN, session = session_id, stream = %origin.stream,
                "both lanes seem to share one sequence counter, but HELLO did not set SHARED_SEQUENCE: frames \
                 counted as missing in one lane are in the other lane. Set the flag in the client (docs/protocol.md)"
            );
        }
        Ok(counts)
    }

    /// Notes that `frames` frames of `origin` in this lane, everything below `next`, are on stable storage.
    /// The slowest frame took `latency`. Emergencies wake the session at once. Routine wakes the session
    /// through `acks`.
    pub(super) fn advance_durable(
        &self,
        acks: &Acks,
        origin: &Origin,
        priority: FramePriority,
        next: u64,
        frames: u64,
        latency: Duration,
    ) {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(frames);
        state.times[priority].ack_latency = latency;
        if state.origin.epoch != origin.epoch {
            state.in_flight_earlier = state.in_flight_earlier.saturating_sub(frames);
            return;
        }
        let durable_next = &mut state.durable_next[priority];
        *durable_next = next.max(*durable_next);
        if let Some(signal) = state.owner.as_ref().and_then(|owner| owner.acks.as_ref()) {
            match priority {
                FramePriority::Emergency => signal.changed().notify_one(),
                FramePriority::Routine => acks.list(signal),
            }
        }
    }

    /// Releases the stream of a session that has ended as `ended` says. The next session to speak is not a
    /// takeover.
    ///
    /// `None` stands for a session that was never served.
    pub(super) fn release(&self, session_id: SessionId, ended: Option<StreamState>) {
        let mut state = self.lock();
        if state.is_owned_by(session_id) {
            state.owner = None;
            if let Some(ended) = ended {
                state.ended = (ended, unix_now_ns());
            }
            state.offline = Some(Offline::now());
            self.queue.detach();
        }
    }

    pub(super) fn position(&self) -> Position {
        self.lock().position()
    }

    fn view(&self) -> StreamView {
        let (queued_frames, queued_cost) = (self.queue.queued_frames(), self.queue.queued_cost());
        let (totals, rejected) = self.books.observed();
        let state = self.lock();
        StreamView {
            key: state.origin.stream.clone(),
            session_id: state.owner.as_ref().map(|owner| owner.session_id),
            is_carried: state.owner.as_ref().is_some_and(|owner| owner.link.is_some()),
            state: if state.owner.is_some() { StreamState::Connected } else { state.ended.0 },
            ended_ns: state.ended.1,
            offline_since_ns: state.offline.map(|offline| offline.since_ns),
            position: state.position(),
            totals,
            lanes: self.books.lanes(),
            rejected,
            missing: state.sequences.missing(),
            is_invented: self.inventor.is_some(),
            shared_sequence: state.sequences.is_shared(),
            looks_shared: state.sequences.looks_shared(),
            times: state.times,
            queued_frames,
            queued_cost,
        }
    }

    /// Whether frames wait although no session speaks for the stream.
    pub(super) fn is_unfinished(&self) -> bool {
        self.lock().owner.is_none() && self.queue.queued_frames() != Lanes::default()
    }

    /// Whether forgetting this stream loses nothing: no session speaks for it, and no frame of it was ever
    /// accepted.
    fn is_blank(&self) -> bool {
        let state = self.lock();
        state.owner.is_none() && !state.has_history && state.held_because.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn position(&self) -> Position {
        Position {
            epoch: self.origin.epoch,
            accepted_next: self.accepted_next,
            durable_next: self.durable_next,
        }
    }

    fn is_owned_by(&self, session_id: SessionId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.session_id == session_id)
    }

    /// Counts a takeover.
    ///
    /// # Errors
    /// `busy` when there were `takeovers_max` within [`TAKEOVER_SPAN`].
    fn note_takeover(&mut self, takeovers_max: usize, now: Instant) -> Result<(), WireError> {
        while self.takeovers.front().is_some_and(|at| now.duration_since(*at) >= TAKEOVER_SPAN) {
            self.takeovers.pop_front();
        }
        if self.takeovers.len() >= takeovers_max {
            let text = format!("this stream was taken over {takeovers_max} times within a minute");
            return Err(WireError::new(ErrorCode::Busy, text));
        }
        self.takeovers.push_back(now);
        Ok(())
    }
}

/// All named streams by key, and the streams of connections without an epoch by the epoch that they were
/// given.
#[derive(Debug)]
pub struct StreamTable {
    /// The streams.
    tables: RwLock<Tables>,
    /// The sessions for which the current commit holds routine frames.
    pub(super) acks: Acks,
    /// The books of all streams together, including streams that are gone.
    books: Arc<Books>,
}

/// How many named streams there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of all sources together, `ingest.max_streams`. Invented streams do not count.
    pub total: usize,
    /// Of one source id, `ingest.max_streams_per_source`. Invented streams do not count.
    pub per_source: usize,
    /// Invented streams: the peer of a link chose their source ids.
    pub invented: usize,
}

/// The streams, and how many of them count for each limit.
#[derive(Debug, Default)]
struct Tables {
    /// The streams whose position is kept.
    named: HashMap<StreamKey, Arc<Stream>>,
    /// How many of `named` each source id has, without those that were invented.
    per_source: HashMap<u32, usize>,
    /// How many of `named` the peer of each link has invented.
    per_inventor: HashMap<Arc<str>, usize>,
    /// How many of them there may be.
    limits: StreamLimits,
    /// The room for invented streams at the start.
    invented_max: usize,
    /// The streams of connections without an epoch, by the epoch that they were given.
    anonymous: HashMap<u64, Arc<Stream>>,
    /// Streams in epochs that are over, at most [`EARLIER_MAX`].
    earlier: HashMap<Arc<Origin>, Arc<Stream>>,
}

impl StreamTable {
    /// An empty table with room for `limits` named streams.
    #[must_use]
    pub fn new(limits: StreamLimits) -> Self {
        let tables = RwLock::new(Tables { limits, invented_max: limits.invented, ..Tables::default() });
        Self { tables, acks: Acks::default(), books: Arc::default() }
    }

    /// The books of all streams together.
    #[must_use]
    pub fn books(&self) -> Arc<Books> {
        Arc::clone(&self.books)
    }

    /// Changes the room for named streams to `limits`. Existing streams stay. There is never more room for invented
    /// streams than at the start: the segments have room for the positions of so many.
    pub fn set_limits(&self, limits: StreamLimits) {
        let mut tables = self.write();
        let invented = tables.invented_max.min(limits.invented);
        tables.limits = StreamLimits { invented, ..limits };
    }

    /// Adds a recovered stream, also beyond the limits, because positions are never dropped. `inventor` is the link
    /// whose peer may have chosen the source id.
    ///
    /// Everything recovered is durable, so the accepted positions are the durable positions.
    pub fn restore(
        &self,
        key: StreamKey,
        epoch: u64,
        durable_next: Lanes<u64>,
        queue: Arc<SourceQueue>,
        inventor: Option<Arc<str>>,
    ) {
        let position = Position { epoch, accepted_next: durable_next, durable_next };
        let stream = Stream::new(key.clone(), position, queue, inventor, self.books_of_stream());
        self.write().insert(key, stream);
    }

    /// Returns the stream of `key`. Creates it with `queue` when it is new.
    ///
    /// When a limit is reached, a stream that never had a frame is forgotten first.
    ///
    /// # Errors
    /// `limit` when the table is full, or the source id has as many streams as one may have.
    pub(super) fn named(
        &self,
        key: &StreamKey,
        queue: impl Fn() -> Arc<SourceQueue>,
    ) -> Result<Arc<Stream>, WireError> {
        let mut tables = self.write();
        if let Some(stream) = tables.named.get(key) {
            return Ok(Arc::clone(stream));
        }
        tables.make_room(key)?;
        let stream = Stream::new(key.clone(), Position::default(), queue(), None, self.books_of_stream());
        tables.insert(key.clone(), Arc::clone(&stream));
        Ok(stream)
    }

    /// Returns the stream of `key`, whose source id the peer of `link` chose. Creates it with `queue` when it is new.
    /// Streams that such a peer invents have a limit of their own, so that they take no room from others.
    ///
    /// `None` when the stream is new and `invented_max` streams of the link have a position already, or all links
    /// together have as many as they may. A stream that never had a frame is forgotten first.
    pub(super) fn of_link(
        &self,
        key: &StreamKey,
        link: &Arc<str>,
        invented_max: usize,
        queue: impl Fn() -> Arc<SourceQueue>,
    ) -> Option<Arc<Stream>> {
        let mut tables = self.write();
        if let Some(stream) = tables.named.get(key) {
            return Some(Arc::clone(stream));
        }
        tables.make_room_for_invented(link, invented_max).then(|| {
            let (position, inventor) = (Position::default(), Some(Arc::clone(link)));
            let stream = Stream::new(key.clone(), position, queue(), inventor, self.books_of_stream());
            tables.insert(key.clone(), Arc::clone(&stream));
            stream
        })
    }

    /// Creates a stream for one connection only. `epoch` must be unique.
    pub(super) fn anonymous(&self, key: StreamKey, epoch: u64, queue: Arc<SourceQueue>) -> Arc<Stream> {
        let position = Position { epoch, ..Position::default() };
        let stream = Stream::new(key, position, queue, None, self.books_of_stream());
        self.write().anonymous.insert(epoch, Arc::clone(&stream));
        stream
    }

    /// Forgets the stream of a connection that has ended.
    pub(super) fn remove_anonymous(&self, epoch: u64) {
        self.write().anonymous.remove(&epoch);
    }

    /// Notes that `frames` frames of `origin`, everything below `next`, are on stable storage. The frame that waited
    /// longest took `latency`. [`StreamTable::end_commit`] must follow when all streams of a commit are noted.
    pub fn advance_in_commit(
        &self,
        origin: &Origin,
        priority: FramePriority,
        next: u64,
        frames: u64,
        latency: Duration,
    ) {
        match self.of_origin(origin) {
            Some(stream) => {
                stream.books.add_archived(frames);
                stream.advance_durable(&self.acks, origin, priority, next, frames, latency);
            }
            // The connection without an epoch of its own is gone.
            None => self.books.add_archived(frames),
        }
    }

    /// Ends a commit after everything durable is noted. Sessions whose ACK of routine is due are woken.
    pub fn end_commit(&self) {
        self.acks.flush();
    }

    /// Notes that `frames` frames of `origin`, everything below `next`, have passed and are not archived. The
    /// frames of a replay are on stable storage at their origin. The position is kept in memory only.
    pub fn advance_not_stored(&self, origin: &Origin, priority: FramePriority, next: u64, frames: u64) {
        match self.of_origin(origin) {
            Some(stream) => {
                stream.books.add_not_stored(frames);
                stream.advance_durable(&self.acks, origin, priority, next, frames, Duration::ZERO);
            }
            None => self.books.add_not_stored(frames),
        }
        self.end_commit();
    }

    fn of_origin(&self, origin: &Origin) -> Option<Arc<Stream>> {
        let tables = self.read();
        if origin.is_anonymous() {
            return tables.anonymous.get(&origin.epoch).cloned();
        }
        let named = tables.named.get(&origin.stream);
        if tables.earlier.is_empty() || named.is_some_and(|stream| stream.position().epoch == origin.epoch) {
            return named.cloned();
        }
        tables.earlier.get(origin).or(named).cloned()
    }

    fn books_of_stream(&self) -> Arc<Books> {
        Arc::new(Books::of_stream(&self.books))
    }

    /// All streams in their current epochs, anonymous ones included, ordered by source, kind and station.
    #[must_use]
    pub fn views(&self) -> Vec<StreamView> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let streams: Vec<_> = tables.named.values().chain(tables.anonymous.values()).cloned().collect();
        drop(tables);
        let mut views: Vec<_> = streams.iter().map(|stream| stream.view()).collect();
        views.sort_by(|a, b| (&a.key, a.position.epoch).cmp(&(&b.key, b.position.epoch)));
        views
    }

    /// Whether both lanes of the stream share one sequence counter, as its newest source said or as it looks.
    #[must_use]
    pub fn shares_sequence(&self, key: &StreamKey) -> bool {
        self.find(key).is_some_and(|stream| {
            let state = stream.lock();
            state.sequences.is_shared() || state.sequences.looks_shared()
        })
    }

    pub(super) fn find(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.read().named.get(key).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Makes room for the new stream of `key`.
    fn make_room(&mut self, key: &StreamKey) -> Result<(), WireError> {
        const WAY_OUT: &str = "an operator can forget streams or raise the limit";
        let StreamLimits { total, per_source, .. } = self.limits;
        let StreamKey { source_id, .. } = *key;
        let of_source = self.per_source.get(&source_id).copied().unwrap_or(0);
        let is_claimed = |stream: &Stream| stream.inventor.is_none();
        if of_source >= per_source
            && !self.forget_blank(|key, stream| key.source_id == source_id && is_claimed(stream))
        {
            let text = format!(
                "stream {key} is new, and source {source_id} has {of_source} streams: \
                 ingest.max_streams_per_source = {per_source} is reached; {WAY_OUT}"
            );
            return Err(WireError::new(ErrorCode::Limit, text));
        }
        let claimed = self.named.len() - self.invented();
        if claimed >= total && !self.forget_blank(|_, stream| is_claimed(stream)) {
            let text = format!("stream {key} is new and ingest.max_streams = {total} is reached; {WAY_OUT}");
            return Err(WireError::new(ErrorCode::Limit, text));
        }
        Ok(())
    }

    /// Makes room for a new stream that the peer of `link` has invented. Returns whether there is room.
    fn make_room_for_invented(&mut self, link: &Arc<str>, invented_max: usize) -> bool {
        let of_link = self.per_inventor.get(link).copied().unwrap_or(0);
        if of_link >= invented_max {
            return self.forget_blank(|_, stream| stream.inventor.as_ref() == Some(link));
        }
        self.invented() < self.limits.invented || self.forget_blank(|_, stream| stream.inventor.is_some())
    }

    fn invented(&self) -> usize {
        self.per_inventor.values().sum()
    }

    /// Forgets one blank stream among those that `choose` accepts. Returns whether there was one.
    fn forget_blank(&mut self, choose: impl Fn(&StreamKey, &Stream) -> bool) -> bool {
        let blank = self.named.iter().find(|(key, stream)| choose(key, stream) && stream.is_blank());
        let blank = blank.map(|(key, _)| key.clone());
        blank.is_some_and(|key| self.remove(&key).is_some())
    }

    fn insert(&mut self, key: StreamKey, stream: Arc<Stream>) {
        let (source_id, inventor) = (key.source_id, stream.inventor.clone());
        if self.named.insert(key, stream).is_none() {
            match inventor {
                Some(link) => *self.per_inventor.entry(link).or_default() += 1,
                None => *self.per_source.entry(source_id).or_default() += 1,
            }
        }
    }

    fn remove(&mut self, key: &StreamKey) -> Option<Arc<Stream>> {
        let stream = self.named.remove(key)?;
        match &stream.inventor {
            Some(link) => count_down(&mut self.per_inventor, Arc::clone(link)),
            None => count_down(&mut self.per_source, key.source_id),
        }
        Some(stream)
    }
}

/// Takes one from the count of `key`. A count of 0 leaves the table.
fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests;
