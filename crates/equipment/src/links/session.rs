//! One connection of a link: reads bytes, cuts them into units and hands over the frames.
//!
//! The way of a unit:
//!
//! 1. [`Sorter::judge`] gives the unit a [`Fate`]: it is kept under a source and a lane, or dropped because it is idle
//!    or bad. A bad unit (wrong checksum, unreadable header, a spacecraft that is not listed) is kept only under a source
//!    that the configuration names ([`Sorter::bad`]).
//! 2. A good unit of a source that nothing vouches for waits in [`Candidates`] until the next unit of the source and
//!    channel has the next count. [`Streams::needs_confirmation`] says for which sources. A unit that waits in vain is
//!    treated as bad: the next one has another count, newer ones take its place, or the connection ends.
//! 3. [`Streams::gather`] collects the frames of one read. [`Streams::hand_over`] opens their streams, which may wait
//!    for the router, and puts the frames into the queues. It never waits for room in a queue: the session reads only
//!    while there is room.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tls::Socket;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::candidates::{Candidate, Candidates, Verdict};
use super::sorter::{Fate, Kept, Sorter};
use super::status::{Channel, LinkStatus};
use super::streams::Streams;
use super::udp::UdpReceiver;
use super::{Context, allows};
use actor::{Mailbox, Received};
use config::{Link, WhenFull};
use connection::Stop;
use frame::{FramePriority, Lanes, unix_now_ns};
use framing::{Counts, Deframer, FramingError, Header, Unit};
use ingest::{Carrier, StreamState};
use wire::{ErrorCode, WireError};

/// Most bytes of one read.
pub(super) const READ_BYTES: usize = 64 << 10;
/// One read takes at least this many bytes if the windows have any room. What exceeds the windows waits in the queues
/// all the same, and nothing is read until there is room.
const READ_BYTES_MIN: usize = 4 << 10;
/// One read takes at most this fraction (1/n) of the room in the windows, because the cost of a small frame is higher
/// than its bytes: at least 256. Units of 86 bytes or more then fit. Smaller ones may exceed the windows.
const ROOM_SHARE: u64 = 3;
/// Datagrams that are taken before other tasks get a turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// In a drain, a socket that stays empty for this long has no more data.
const DRAIN_QUIET: Duration = Duration::from_millis(100);

/// Where the bytes come from.
pub(super) enum Input {
    /// A stream of bytes, over TLS if the link says so.
    Tcp(Socket),
    /// Datagrams.
    Udp(UdpReceiver),
}

/// Why a connection of a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer has closed its writing side.
    #[error("the peer closed the connection")]
    Eof,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The bytes cannot be cut into units, and no place to go on is known.
    #[error("{0}")]
    Framing(#[from] FramingError),
    /// Nothing has come for `silence_timeout`.
    #[error("silent for {0:?} (silence_timeout)")]
    Silent(Duration),
    /// The actor of the link or the router has ordered the end.
    #[error("{0}")]
    Stopped(WireError),
    /// The daemon drains, and what was in the socket is read.
    #[error("the daemon is shutting down")]
    Drained,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Bytes are read as they come.
    Open,
    /// The daemon drains: what is in the socket is still read.
    Draining {
        /// When the socket counts as empty. Moves on with everything that comes.
        quiet_at: Instant,
        /// When reading ends even if bytes still come.
        read_until: Instant,
    },
}

/// A connection that is served.
struct Session {
    /// The configuration of the link.
    config: Arc<Link>,
    /// The state and the counts of the link.
    status: Arc<LinkStatus>,
    /// Where the bytes come from.
    input: Input,
    /// Cuts the bytes into units.
    deframer: Deframer,
    /// What the deframer had counted at the end of the last read.
    counted: Counts,
    /// Gives each unit its fate.
    sorter: Sorter,
    /// Units of sources that nothing vouches for yet.
    candidates: Candidates,
    /// The streams that the connection carries.
    streams: Streams,
    /// Notified when the queue of a stream has room, see [`Carrier::room`].
    room: Arc<Notify>,
    /// Whether the daemon drains.
    phase: Phase,
    /// When something last came.
    heard_at: Instant,
    /// The buffer of a read. Empty with datagrams, which have a buffer of their own.
    chunk: Vec<u8>,
    /// The last read was so large that other tasks get a turn before the next one.
    has_read_much: bool,
}

/// Serves one connection to its end.
///
/// # Errors
/// Why the connection ended.
pub(super) async fn run(
    config: Arc<Link>,
    status: Arc<LinkStatus>,
    input: Input,
    peer: SocketAddr,
    mut mailbox: Mailbox<Stop>,
    context: Arc<Context>,
) -> Result<(), Ended> {
    let room = Arc::new(Notify::new());
    let carrier = Carrier {
        link: config.name.as_str().into(),
        peer,
        session: mailbox.address(),
        room: Arc::clone(&room),
        queued: status.queued(),
    };
    let (router, pool) = (context.router.clone(), Arc::clone(&context.buffers));
    let streams =
        Streams::new(Arc::clone(&config), Arc::clone(&status), router, context.policy.clone(), carrier, pool);
    let sorter = Sorter::new(Arc::clone(&config));
    let mut session = Session {
        deframer: Deframer::with_check(&config.framing, sorter.unit_check()),
        counted: Counts::default(),
        sorter,
        candidates: Candidates::default(),
        chunk: if matches!(input, Input::Tcp(_)) { vec![0; READ_BYTES] } else { Vec::new() },
        config,
        status,
        input,
        streams,
        room,
        phase: Phase::Open,
        heard_at: Instant::now(),
        has_read_much: false,
    };
    let ended = session.serve(&mut mailbox, context.shutdown.clone(), context.drain_read_max()).await;
    session.finish().await;
    session.streams.end(state_after(&ended));
    Err(ended)
}

/// The state of the streams after a connection that ended with `ended`.
fn state_after(ended: &Ended) -> StreamState {
    match ended {
        Ended::Stopped(error) if error.code == ErrorCode::Removed => StreamState::Removed,
        Ended::Stopped(_) => StreamState::Ended,
        Ended::Drained => StreamState::Offline,
        Ended::Eof | Ended::Lost(_) | Ended::Framing(_) | Ended::Silent(_) => StreamState::Lost,
    }
}

impl Session {
    async fn serve(
        &mut self,
        mailbox: &mut Mailbox<Stop>,
        mut shutdown: watch::Receiver<bool>,
        drain_read_max: Duration,
    ) -> Ended {
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        let mut is_shut_down = false;
        loop {
            let can_read = self.read_bytes_max() > 0;
            let due = self.next_due();
            // The timer moves only to an earlier time. If it fires too early, `act_on_time` does nothing.
            if let Some(due) = due
                && (timer.is_elapsed() || due < timer.deadline())
            {
                timer.as_mut().reset(due);
            }
            let outcome = tokio::select! {
                biased;
                Some(received) = mailbox.recv() => match received {
                    Received::Message(Stop(error)) => Err(Ended::Stopped(error)),
                    _ => Ok(()),
                },
                () = drain_begins(&mut shutdown), if !is_shut_down => {
                    is_shut_down = true;
                    let now = Instant::now();
                    self.phase =
                        Phase::Draining { quiet_at: now + DRAIN_QUIET, read_until: now + drain_read_max };
                    Ok(())
                }
                () = self.room.notified(), if !can_read => Ok(()),
                () = &mut timer, if due.is_some() => Ok(()),
                readable = self.input.readable(), if can_read => match readable {
                    Ok(()) => self.read().await,
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(ended) = outcome {
                return ended;
            }
            if std::mem::take(&mut self.has_read_much) {
                // A socket that stays ready never suspends its task. Other tasks of this thread would wait.
                tokio::task::yield_now().await;
            }
            if let Some(ended) = self.act_on_time(Instant::now()) {
                return ended;
            }
        }
    }

    /// When [`Self::act_on_time`] has to be called; `None` if no time matters.
    fn next_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining { quiet_at, read_until } => Some(quiet_at.min(read_until)),
            Phase::Open => self.config.silence_timeout.map(|timeout| self.heard_at + timeout),
        }
    }

    /// Why the connection ends at `now`, if it does.
    fn act_on_time(&self, now: Instant) -> Option<Ended> {
        match self.phase {
            Phase::Draining { quiet_at, read_until } => {
                // A link that waits for room may have unread bytes.
                let is_quiet = now >= quiet_at && self.read_bytes_max() > 0;
                (is_quiet || now >= read_until).then_some(Ended::Drained)
            }
            Phase::Open => {
                let timeout = self.config.silence_timeout?;
                (now >= self.heard_at + timeout).then_some(Ended::Silent(timeout))
            }
        }
    }

    /// How many bytes to read at most; 0 means none. Datagrams are always read. With [`WhenFull::DropRoutine`] only the
    /// room of the emergency lane counts.
    fn read_bytes_max(&self) -> usize {
        if matches!(self.input, Input::Udp(_)) {
            return READ_BYTES;
        }
        let Lanes { emergency, routine } = self.streams.room();
        let room =
            if self.config.when_full == WhenFull::DropRoutine { emergency } else { emergency.min(routine) };
        match room {
            0 => 0,
            room => {
                usize::try_from(room / ROOM_SHARE).unwrap_or(READ_BYTES).clamp(READ_BYTES_MIN, READ_BYTES)
            }
        }
    }

    /// Reads what is there and hands over the frames.
    async fn read(&mut self) -> Result<(), Ended> {
        let read_max = self.read_bytes_max();
        let now_ns = unix_now_ns();
        let outcome = match &mut self.input {
            Input::Tcp(socket) => match socket.try_read_buf(&mut &mut self.chunk[..read_max]) {
                Ok(0) => Err(Ended::Eof),
                Ok(bytes) => {
                    self.has_read_much = bytes > READ_BYTES / 4;
                    self.deframer.push(&self.chunk[..bytes]);
                    self.note_received(now_ns, None);
                    self.cut(now_ns).await.map_err(Ended::from)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A part of a TLS record has come.
                    if socket.take_heard() {
                        self.note_received(now_ns, None);
                    }
                    return Ok(());
                }
                Err(error) => Err(error.into()),
            },
            Input::Udp(_) => self.receive(now_ns).await,
        };
        self.streams.hand_over(now_ns).await;
        outcome
    }

    fn note_received(&mut self, now_ns: i64, sender: Option<SocketAddr>) {
        self.heard_at = Instant::now();
        self.status.note_received(now_ns, sender);
        if let Phase::Draining { quiet_at, .. } = &mut self.phase {
            *quiet_at = self.heard_at + DRAIN_QUIET;
        }
    }

    /// Takes the datagrams that are there.
    async fn receive(&mut self, now_ns: i64) -> Result<(), Ended> {
        self.has_read_much = true;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Input::Udp(receiver) = &mut self.input else { return Ok(()) };
            let before = receiver.dropped();
            let Some(datagram) = receiver.receive()? else {
                self.has_read_much = false;
                return Ok(());
            };
            let dropped = receiver.dropped().wrapping_sub(before);
            if dropped > 0 {
                self.status.count(|counts| counts.kernel_drops += u64::from(dropped));
            }
            if !datagram.sender.is_some_and(|sender| allows(&self.config, sender.ip())) {
                self.status.count(|counts| counts.strangers += 1);
                continue;
            }
            self.deframer.push(receiver.content(&datagram));
            self.note_received(now_ns, datagram.sender);
            let cut = self.cut(now_ns).await;
            if let Err(error) = &cut {
                self.status.note_trouble(error.to_string());
            }
            // A datagram holds whole units, so its end is also the end of the last unit.
            if cut.is_err() || self.deframer.pending() > 0 {
                self.restart_framing();
            }
        }
        Ok(())
    }

    /// Takes the complete units out of the deframer. Hands over when many are gathered, so that small units do not take
    /// much more memory than their bytes.
    async fn cut(&mut self, now_ns: i64) -> Result<(), FramingError> {
        let cut = loop {
            match self.deframer.next_unit() {
                Ok(Some(unit)) => self.take_unit(unit),
                Ok(None) => break Ok(()),
                Err(error) => {
                    tracing::debug!(link = self.config.name, bytes = error.hex(), "{error}");
                    self.status.note_bytes(error.clone());
                    break Err(error);
                }
            }
            if self.streams.is_full() {
                self.streams.hand_over(now_ns).await;
            }
        };
        self.count_framing();
        cut
    }

    fn count_framing(&mut self) {
        let counts = self.deframer.counts();
        self.status.count_framing(&self.counted, &counts);
        self.counted = counts;
    }

    /// Takes the units that the end of the bytes completes, then begins with a new deframer.
    fn restart_framing(&mut self) {
        while let Some(unit) = self.deframer.finish() {
            self.take_unit(unit);
        }
        self.count_framing();
        self.deframer = Deframer::with_check(&self.config.framing, self.sorter.unit_check());
        self.counted = Counts::default();
    }

    /// Counts a unit and decides what becomes of it.
    fn take_unit(&mut self, unit: Unit) {
        // Without a header the unit is bad. A unit that the equipment has marked as bad may have a header too.
        let (fate, header) = self.sorter.judge(&unit);
        if header.is_some_and(|header| header.is_idle) {
            self.status.count(|counts| counts.idle += 1);
        }
        if header.is_none() || unit.bad_quality {
            self.status.count(|counts| counts.bad += 1);
        }
        match (fate, header) {
            (Fate::Keep(kept), Some(header)) if !kept.is_bad => self.confirm(kept, header, unit),
            // Dropped, or kept as bad. The header of a bad unit is not believed, so its count is not followed.
            (fate, _) => self.settle(fate, None, &unit),
        }
    }

    /// Takes a good unit. It waits if nothing vouches for its source ([`Streams::needs_confirmation`]). An emergency
    /// never waits: its one unit may be all that comes.
    fn confirm(&mut self, kept: Kept, header: Header, unit: Unit) {
        if kept.priority == FramePriority::Emergency || !self.streams.needs_confirmation(kept.source) {
            return self.settle(Fate::Keep(kept), Some(header), &unit);
        }
        // The copy does not keep the whole read in memory.
        let unit = Unit { data: Bytes::copy_from_slice(&unit.data), ..unit };
        match self.candidates.add(Candidate { unit, kept, header }) {
            Verdict::Follows(first, second) => {
                for Candidate { unit, kept, header } in [first, second] {
                    self.settle(Fate::Keep(kept), Some(header), &unit);
                }
            }
            Verdict::Waits { in_vain: Some(candidate) } => self.refuse(candidate),
            Verdict::Waits { in_vain: None } => {}
        }
    }

    /// Treats a unit that no other unit has confirmed as bad.
    fn refuse(&mut self, candidate: Candidate) {
        self.status.count(|counts| counts.bad += 1);
        self.settle(self.sorter.bad(), None, &candidate.unit);
    }

    /// Does what `fate` says. With a `header`, follows the count of its channel to notice missing units.
    fn settle(&mut self, fate: Fate, header: Option<Header>, unit: &Unit) {
        let is_gap = match (fate, header) {
            (Fate::Keep(kept), Some(Header { channel, is_bypass, count: Some(count), .. })) => {
                let channel = Channel { source: kept.source, channel, is_bypass };
                self.status.note_count(channel, count, &self.config, self.heard_at)
            }
            _ => false,
        };
        match fate {
            Fate::Keep(kept) => {
                self.streams.gather(kept, unit, is_gap || unit.discontinuity, self.heard_at);
            }
            Fate::DropIdle => self.status.count(|counts| counts.idle_dropped += 1),
            Fate::DropBad => self.status.count(|counts| counts.bad_dropped += 1),
        }
    }

    /// Hands over what the end of the connection completes.
    async fn finish(&mut self) {
        self.restart_framing();
        while let Some(candidate) = self.candidates.pop() {
            self.refuse(candidate);
        }
        self.streams.hand_over(unix_now_ns()).await;
    }
}

/// Completes when the daemon drains. Cancel safe.
async fn drain_begins(shutdown: &mut watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

impl Input {
    /// Waits until there is something to read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.readable().await,
            Self::Udp(receiver) => receiver.readable().await,
        }
    }
}
