//! The state and the counts of an output, as operators see them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Output;
use crate::frame::unix_now_ns;

/// The state and the counts of one output. The output writes them; readers take an [`OutputView`].
#[derive(Debug)]
pub(super) struct OutputStatus {
    state: Mutex<State>,
    pub(super) counts: Counters,
}

#[derive(Debug)]
struct State {
    config: Arc<Output>,
    phase: Phase,
    since_ns: i64,
    /// Why the last connection ended or failed.
    trouble: Option<String>,
    /// The address that the output listens on.
    address: Option<SocketAddr>,
    /// The position of the cursor.
    cursor: Option<u64>,
    clients: BTreeMap<u64, Arc<ClientStatus>>,
    client_next: u64,
}

/// The phase of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An operator has switched the output off.
    Disabled,
    /// The output waits for readers to connect.
    Listening,
    /// The output connects, or waits before it tries again.
    Connecting,
    /// The output failed. It tries again unless it failed too often.
    Failed,
}

/// A connected reader.
#[derive(Debug)]
pub(super) struct ClientStatus {
    pub(super) peer: SocketAddr,
    since_ns: i64,
    /// Every frame below this offset was handed over to the connection, or was left out.
    pub(super) next_offset: AtomicU64,
    /// The reader has closed its writing side. It may have gone.
    pub(super) is_half_closed: AtomicBool,
}

/// A reader among those of its output. Dropping it removes the reader.
#[derive(Debug)]
pub(super) struct Client {
    id: u64,
    pub(super) status: Arc<ClientStatus>,
    output: Arc<OutputStatus>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.output.lock().clients.remove(&self.id);
    }
}

/// Counters of an output, over all its readers.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) undecoded: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) encapsulated: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) missing: AtomicU64,
    pub(super) too_long: AtomicU64,
    pub(super) unreachable: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) connects: AtomicU64,
}

/// A snapshot of the counts of an output, over all its readers. A frame counts for each reader that gets it, and again
/// where it is repeated. `frames`, `filtered` and `undecoded` are the frames that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputCounts {
    /// Frames that went out, or whose packets did.
    pub frames: u64,
    /// Space packets that were taken out of frames and went out.
    pub packets: u64,
    /// Bytes handed over to the kernel, framing included.
    pub bytes: u64,
    /// Frames that the selection left out: by station, quality or because they are idle.
    pub filtered: u64,
    /// Frames without packets to take out: no link decodes the source, or the frame's header or checksum is wrong.
    pub undecoded: u64,
    /// Packets that began and did not end, because frames are missing.
    pub cut: u64,
    /// Packets of the encapsulation protocol, which are left out.
    pub encapsulated: u64,
    /// Offsets that a timely reader was too slow for.
    pub skipped: u64,
    /// Gaps in the history: frames that retention has removed, or that cannot be read.
    pub gaps: u64,
    /// The offsets in these gaps.
    pub missing: u64,
    /// Frames and packets that are too long for the length field or for a datagram.
    pub too_long: u64,
    /// Datagrams that no program received: the host of the reader reported it.
    pub unreachable: u64,
    /// Connections from addresses that are not in `peers`, or for which there was no place.
    pub refused: u64,
    /// Connections so far.
    pub connects: u64,
}

/// A snapshot of a connected reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// The address of the reader.
    pub peer: SocketAddr,
    /// When it connected, unix nanoseconds.
    pub since_ns: i64,
    /// Every frame below this offset was handed over to the connection, or was left out.
    pub next_offset: u64,
}

/// A snapshot of an output.
#[derive(Clone, Debug)]
pub struct OutputView {
    /// The configuration in force.
    pub config: Arc<Output>,
    /// The phase.
    pub phase: Phase,
    /// Since when, unix nanoseconds.
    pub since_ns: i64,
    /// Why the last connection ended or failed, or why the cursor cannot be kept.
    pub trouble: Option<String>,
    /// The address that the output listens on, once it does.
    pub address: Option<SocketAddr>,
    /// With a cursor: the offset below which the reader's kernel has everything.
    pub cursor: Option<u64>,
    /// The counts since the daemon started.
    pub counts: OutputCounts,
    /// The connected readers, in the order in which they connected.
    pub clients: Vec<ClientView>,
}

impl OutputStatus {
    pub(super) fn new(config: Arc<Output>) -> Arc<Self> {
        let state = State {
            config,
            phase: Phase::Disabled,
            since_ns: unix_now_ns(),
            trouble: None,
            address: None,
            cursor: None,
            clients: BTreeMap::new(),
            client_next: 1,
        };
        Arc::new(Self { state: Mutex::new(state), counts: Counters::default() })
    }

    /// Replaces the configuration. The counts go on.
    pub(super) fn set_config(&self, config: Arc<Output>) {
        let mut state = self.lock();
        (state.config, state.cursor) = (config, None);
    }

    pub(super) fn config(&self) -> Arc<Output> {
        Arc::clone(&self.lock().config)
    }

    /// Enters `phase`.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        if phase == Phase::Disabled {
            (state.trouble, state.address) = (None, None);
        }
        if state.phase != phase {
            (state.phase, state.since_ns) = (phase, unix_now_ns());
        }
    }

    /// Notes why a connection ended or failed.
    pub(super) fn note_trouble(&self, why: impl Into<String>) {
        self.lock().trouble = Some(why.into());
    }

    pub(super) fn bound(&self, address: Option<SocketAddr>) {
        self.lock().address = address;
    }

    pub(super) fn cursor_at(&self, next_offset: u64) {
        self.lock().cursor = Some(next_offset);
    }

    /// Adds a reader.
    pub(super) fn connected(self: &Arc<Self>, peer: SocketAddr) -> Client {
        self.counts.connects.fetch_add(1, Relaxed);
        let status = Arc::new(ClientStatus {
            peer,
            since_ns: unix_now_ns(),
            next_offset: AtomicU64::new(0),
            is_half_closed: AtomicBool::new(false),
        });
        let mut state = self.lock();
        state.trouble = None;
        let id = state.client_next;
        state.client_next += 1;
        state.clients.insert(id, Arc::clone(&status));
        Client { id, status, output: Arc::clone(self) }
    }

    pub(super) fn view(&self) -> OutputView {
        let state = self.lock();
        let clients = state.clients.values().map(|client| ClientView {
            peer: client.peer,
            since_ns: client.since_ns,
            next_offset: client.next_offset.load(Relaxed),
        });
        OutputView {
            config: Arc::clone(&state.config),
            phase: state.phase,
            since_ns: state.since_ns,
            trouble: state.trouble.clone(),
            address: state.address,
            cursor: state.cursor,
            counts: self.counts.snapshot(),
            clients: clients.collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    pub(super) fn snapshot(&self) -> OutputCounts {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        OutputCounts {
            frames: get(&self.frames),
            packets: get(&self.packets),
            bytes: get(&self.bytes),
            filtered: get(&self.filtered),
            undecoded: get(&self.undecoded),
            cut: get(&self.cut),
            encapsulated: get(&self.encapsulated),
            skipped: get(&self.skipped),
            gaps: get(&self.gaps),
            missing: get(&self.missing),
            too_long: get(&self.too_long),
            unreachable: get(&self.unreachable),
            refused: get(&self.refused),
            connects: get(&self.connects),
        }
    }
}

impl OutputView {
    /// The state that the API uses: `disabled`, `listening`, `connecting`, `connected` or `failed`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Disabled => "disabled",
            Phase::Failed => "failed",
            Phase::Listening | Phase::Connecting if !self.clients.is_empty() => "connected",
            Phase::Listening => "listening",
            Phase::Connecting => "connecting",
        }
    }
}
