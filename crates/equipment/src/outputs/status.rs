//! The state and the counts of an output, as operators see them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::forward::lag::lanes;
use crate::switchboard::Status;
use api::{self, Forwarding, OutputCounts, OutputReader, OutputState};
use config::Output;
use frame::{FramePriority, unix_now_ns};

/// The state and the counts of one output. The output writes them; operators see a report.
#[derive(Debug, Default)]
pub struct OutputStatus {
    /// What operators see of the connections.
    state: Mutex<State>,
    /// The counts since the daemon started.
    counts: Mutex<OutputCounts>,
}

/// The state of an output.
#[derive(Debug)]
struct State {
    /// Never [`OutputState::Connected`], which follows from the readers.
    state: OutputState,
    /// When the state was entered, in unix nanoseconds.
    since_ns: i64,
    /// Why the last connection ended or failed.
    trouble: Option<String>,
    /// A forwarder does not reach the other side.
    is_cut_off: bool,
    /// The address that the output listens on.
    address: Option<SocketAddr>,
    /// The position of the cursor, or of the cursors of the two lanes.
    cursors: [Option<u64>; 2],
    /// When the oldest frame of each lane was received that a forwarder has read and the other side has not stored, in unix
    /// nanoseconds.
    waiting: [Option<i64>; 2],
    /// Below this offset, gaps were counted.
    gaps_counted_to: u64,
    /// The last save of the cursor failed.
    is_cursor_unsaved: bool,
    /// The readers by id, which ascends in the order in which they came.
    clients: BTreeMap<u64, Arc<ClientStatus>>,
    /// The id of the next reader.
    client_next: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            state: OutputState::Disabled,
            since_ns: unix_now_ns(),
            trouble: None,
            is_cut_off: false,
            address: None,
            cursors: [None; 2],
            waiting: [None; 2],
            gaps_counted_to: 0,
            is_cursor_unsaved: false,
            clients: BTreeMap::new(),
            client_next: 1,
        }
    }
}

impl State {
    fn enter(&mut self, state: OutputState) {
        if self.state != state {
            (self.state, self.since_ns) = (state, unix_now_ns());
        }
    }

    /// The state as operators see it.
    fn shown(&self) -> OutputState {
        match self.state {
            OutputState::Listening | OutputState::Connecting
                if !self.clients.is_empty() && !self.is_cut_off =>
            {
                OutputState::Connected
            }
            state => state,
        }
    }
}

/// A connected reader.
#[derive(Debug)]
pub(super) struct ClientStatus {
    /// The address of the reader.
    pub(super) peer: String,
    /// When it came, in unix nanoseconds.
    since_ns: i64,
    /// Every frame below this offset was handed over to the connection, or was left out.
    pub(super) next_offset: AtomicU64,
    /// The reader has closed its writing side. It may have gone.
    pub(super) is_half_closed: AtomicBool,
}

impl ClientStatus {
    fn report(&self) -> OutputReader {
        OutputReader {
            peer: self.peer.clone(),
            since_ms: self.since_ns / 1_000_000,
            next_offset: self.next_offset.load(Relaxed),
        }
    }
}

/// A reader among those of its output. Dropping it removes the reader.
#[derive(Debug)]
pub(super) struct Client {
    /// Its key among the readers of the output.
    id: u64,
    /// What operators see of it.
    pub(super) status: Arc<ClientStatus>,
    /// Where it is removed.
    output: Arc<OutputStatus>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.output.state().clients.remove(&self.id);
    }
}

impl OutputStatus {
    /// Enters `state`.
    pub(super) fn enter(&self, state: OutputState) {
        self.state().enter(state);
    }

    /// Notes why a connection ended or failed.
    pub(super) fn note_trouble(&self, why: impl Into<String>) {
        self.state().trouble = Some(why.into());
    }

    /// The trouble is over.
    pub(super) fn clear_trouble(&self) {
        self.state().trouble = None;
    }

    /// The other side of a forwarder has stored `bytes`.
    pub(super) fn forwarded(&self, bytes: usize) {
        self.count(|counts| counts.bytes += bytes as u64);
        self.clear_trouble();
    }

    /// Notes whether a forwarder reaches the other side.
    pub(super) fn reaches(&self, is_reached: bool) {
        let mut state = self.state();
        if state.is_cut_off == is_reached {
            (state.is_cut_off, state.since_ns) = (!is_reached, unix_now_ns());
        }
    }

    pub(super) fn bound(&self, address: Option<SocketAddr>) {
        self.state().address = address;
    }

    /// Notes the outcome of a save of the cursor. Returns whether the save before had another outcome.
    pub(super) fn cursor_saved(&self, saved: &io::Result<()>) -> bool {
        let mut state = self.state();
        let has_changed = state.is_cursor_unsaved != saved.is_err();
        state.is_cursor_unsaved = saved.is_err();
        match saved {
            Err(error) => state.trouble = Some(format!("the cursor cannot be saved: {error}")),
            Ok(()) if has_changed => state.trouble = None,
            Ok(()) => {}
        }
        has_changed
    }

    pub(super) fn cursor_at(&self, lane: Option<FramePriority>, next_offset: u64) {
        self.state().cursors[lane.map_or(0, |lane| lane as usize)] = Some(next_offset);
    }

    /// The position of the cursor of a lane; `None` while it is not known.
    pub(super) fn cursor(&self, lane: FramePriority) -> Option<u64> {
        self.state().cursors[lane as usize]
    }

    /// The oldest frame of a lane that waits was received at `received_ns`; `None` if none waits.
    pub(super) fn waits_since(&self, lane: FramePriority, received_ns: Option<i64>) {
        self.state().waiting[lane as usize] = received_ns;
    }

    /// Whether a frame of a lane is known to wait.
    pub(super) fn waits(&self, lane: FramePriority) -> bool {
        self.state().waiting[lane as usize].is_some()
    }

    /// How many offsets of a gap were not counted before. Both lanes of a forwarder meet the same gaps, and meet them again
    /// after each connection.
    pub(super) fn count_gap(&self, offsets: &Range<u64>) -> u64 {
        let mut state = self.state();
        let counted_to = state.gaps_counted_to;
        state.gaps_counted_to = counted_to.max(offsets.end);
        offsets.end.saturating_sub(offsets.start.max(counted_to))
    }

    /// Adds a reader.
    pub(super) fn connected(self: &Arc<Self>, peer: impl ToString) -> Client {
        self.count(|counts| counts.connects += 1);
        let status = Arc::new(ClientStatus {
            peer: peer.to_string(),
            since_ns: unix_now_ns(),
            next_offset: AtomicU64::new(0),
            is_half_closed: AtomicBool::new(false),
        });
        let mut state = self.state();
        let id = state.client_next;
        state.client_next += 1;
        state.clients.insert(id, Arc::clone(&status));
        Client { id, status, output: Arc::clone(self) }
    }

    /// Changes the counts, over all readers. A frame counts for each reader that gets it, and again where it is
    /// repeated.
    pub(super) fn count(&self, change: impl FnOnce(&mut OutputCounts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The counts since the daemon started.
    pub(super) fn counts(&self) -> OutputCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status<Output, api::Output> for OutputStatus {
    fn reconfigured(&self) {
        let mut state = self.state();
        (state.cursors, state.waiting) = ([None; 2], [None; 2]);
    }

    fn stopped(&self, failure: Option<String>) {
        let mut state = self.state();
        match failure {
            Some(_) => state.enter(OutputState::Failed),
            None => {
                state.enter(OutputState::Disabled);
                state.address = None;
                state.waiting = [None; 2];
            }
        }
        state.trouble = failure;
    }

    /// The report, with the readers in `wanted`.
    fn report(&self, config: &Output, wanted: Range<usize>) -> api::Output {
        let counts = self.counts();
        let state = self.state();
        let readers = || state.clients.values();
        let forwarding = config.is_forwarder().then(|| Forwarding {
            oldest_ms: state.waiting.into_iter().flatten().min().map(|ns| ns / 1_000_000),
            lag_max_ms: config.lag_max.and_then(|lag| u64::try_from(lag.as_millis()).ok()),
            retention_hold: config.retention_hold,
            ..Forwarding::default()
        });
        api::Output {
            name: config.name.clone(),
            description: config.to_string(),
            state: state.shown(),
            since_ms: state.since_ns / 1_000_000,
            trouble: state.trouble.clone(),
            address: state.address.map(|address| address.to_string()),
            cursor: match config.is_forwarder() {
                // A lane whose cursor is not known may be the one that is further behind.
                true => lanes(config).map(|lane| state.cursors[lane as usize]).min().flatten(),
                false => state.cursors.into_iter().flatten().min(),
            },
            counts,
            forwarding,
            slowest_offset: readers().map(|client| client.next_offset.load(Relaxed)).min(),
            readers_total: state.clients.len(),
            readers: readers().skip(wanted.start).take(wanted.len()).map(|client| client.report()).collect(),
        }
    }
}
