//! The state and the counts of a link, as operators see them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Link;
use crate::frame::unix_now_ns;
use crate::framing::{self, Continuity, Count, Step};

/// A connected link counts as silent when nothing has come for this long.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);
/// Most counters of a link. The frames of further channels are not checked for gaps.
const CHANNELS_MAX: usize = 4_096;

/// The state and the counts of one link. The link writes them; readers take a [`LinkView`].
#[derive(Debug)]
pub(super) struct LinkStatus {
    state: Mutex<State>,
    pub(super) counts: Counters,
    channels: Mutex<BTreeMap<Channel, Continuity>>,
}

/// A counter of a spacecraft, as it comes over the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// The source that the frames belong to.
    pub source: u32,
    /// The virtual channel, or the application process of packets.
    pub channel: u32,
    /// Of USLP: frames with the bypass flag, which have a count of their own.
    pub is_bypass: bool,
}

#[derive(Debug)]
struct State {
    config: Arc<Link>,
    phase: Phase,
    since_ns: i64,
    /// Why the last connection ended or failed.
    trouble: Option<String>,
    /// The streams that the link may not carry, and why.
    refused: Option<String>,
    /// When something was last received, unix nanoseconds; 0 if nothing was.
    heard_ns: i64,
    /// The address that the link listens on or receives at.
    address: Option<SocketAddr>,
    /// What the kernel granted as receive buffer of a UDP link, in bytes.
    receive_buffer: Option<u64>,
}

/// The phase of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The configuration or an operator has switched the link off.
    Disabled,
    /// The link waits for a peer to connect.
    Listening,
    /// The link connects, or waits before it tries again.
    Connecting,
    /// A peer is connected. A UDP link is always connected; its peer is the last sender.
    Connected(Option<SocketAddr>),
    /// The link has ended for an error.
    Failed,
}

/// Counters of a link. `units` = kept + idle_dropped + bad_dropped + full_dropped + refused.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) units: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) idle: AtomicU64,
    pub(super) idle_dropped: AtomicU64,
    pub(super) bad: AtomicU64,
    pub(super) bad_dropped: AtomicU64,
    pub(super) full_dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) oversize: AtomicU64,
    pub(super) sync_losses: AtomicU64,
    pub(super) skipped_bytes: AtomicU64,
    pub(super) kernel_drops: AtomicU64,
    pub(super) strangers: AtomicU64,
    pub(super) connects: AtomicU64,
}

/// The counts of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Units that the framing has cut.
    pub units: u64,
    /// Bytes of the units, framing included.
    pub bytes: u64,
    /// Units that became frames.
    pub kept: u64,
    /// Idle units.
    pub idle: u64,
    /// Idle units that were dropped, as configured.
    pub idle_dropped: u64,
    /// Units whose check failed, that cannot be decoded, or that come from a spacecraft that is not in the list.
    pub bad: u64,
    /// Bad units that were dropped, as configured, or because no source is configured for them.
    pub bad_dropped: u64,
    /// Units that were dropped because the window was full.
    pub full_dropped: u64,
    /// Units of streams that the link may not carry.
    pub refused: u64,
    /// Units that were longer than the limit of the framing.
    pub oversize: u64,
    /// How often the framing lost the synchronisation.
    pub sync_losses: u64,
    /// Bytes that belong to no unit.
    pub skipped_bytes: u64,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub kernel_drops: u64,
    /// Connections and datagrams from addresses that are not in `peers`.
    pub strangers: u64,
    /// Connections so far.
    pub connects: u64,
}

/// A snapshot of a link.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// The configuration in force.
    pub config: Arc<Link>,
    /// The phase.
    pub phase: Phase,
    /// Since when, unix nanoseconds.
    pub since_ns: i64,
    /// Since when a connected link is silent, unix nanoseconds.
    pub silent_since_ns: Option<i64>,
    /// Why the last connection ended or failed, or which stream the link may not carry.
    pub trouble: Option<String>,
    /// When something was last received, unix nanoseconds; 0 if nothing was.
    pub heard_ns: i64,
    /// The address that the link listens on or receives at, once it does.
    pub address: Option<SocketAddr>,
    /// The receive buffer that the kernel granted to a UDP link, in bytes.
    pub receive_buffer: Option<u64>,
    /// The counts since the daemon started.
    pub counts: LinkCounts,
    /// The continuity of the spacecraft's own counts.
    pub channels: Vec<(Channel, Continuity)>,
}

impl LinkStatus {
    pub(super) fn new(config: Arc<Link>) -> Arc<Self> {
        let state = State {
            config,
            phase: Phase::Disabled,
            since_ns: unix_now_ns(),
            trouble: None,
            refused: None,
            heard_ns: 0,
            address: None,
            receive_buffer: None,
        };
        Arc::new(Self { state: Mutex::new(state), counts: Counters::default(), channels: Mutex::default() })
    }

    /// Replaces the configuration. The counts go on; the counters of channels begin again.
    pub(super) fn set_config(&self, config: Arc<Link>) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.lock().config = config;
    }

    pub(super) fn config(&self) -> Arc<Link> {
        Arc::clone(&self.lock().config)
    }

    /// Enters `phase`. Entering [`Phase::Connected`] clears the trouble.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        if matches!(phase, Phase::Connected(_) | Phase::Disabled) {
            state.trouble = None;
        }
        if matches!(phase, Phase::Connected(_)) {
            self.counts.connects.fetch_add(1, Relaxed);
            state.heard_ns = unix_now_ns();
        }
        state.refused = None;
        (state.phase, state.since_ns) = (phase, unix_now_ns());
    }

    /// Notes why a connection ended or failed.
    pub(super) fn note_trouble(&self, why: impl Into<String>) {
        self.lock().trouble = Some(why.into());
    }

    /// Notes which stream the link may not carry; `None` when it carries all.
    pub(super) fn note_refused(&self, why: Option<String>) {
        self.lock().refused = why;
    }

    /// Notes that something has come at `now_ns`, from `sender` on a UDP link.
    pub(super) fn heard(&self, now_ns: i64, sender: Option<SocketAddr>) {
        let mut state = self.lock();
        state.heard_ns = now_ns;
        if sender.is_some() {
            state.phase = Phase::Connected(sender);
        }
    }

    /// Notes where the link listens or receives, and what the kernel granted as receive buffer.
    pub(super) fn bound(&self, address: Option<SocketAddr>, receive_buffer: Option<u64>) {
        let mut state = self.lock();
        (state.address, state.receive_buffer) = (address, receive_buffer);
    }

    /// Notes the `count` of a frame. Returns whether frames are missing before it, or the counter began again.
    pub(super) fn note_count(&self, channel: Channel, count: Count, max_gap: Option<u32>) -> bool {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = channels.contains_key(&channel);
        if !is_known && channels.len() >= CHANNELS_MAX {
            return false;
        }
        let continuity = channels.entry(channel).or_insert_with(|| Continuity::new(max_gap.map(u64::from)));
        continuity.take(count) != Step::Next
    }

    pub(super) fn view(&self) -> LinkView {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channels = channels.iter().map(|(channel, continuity)| (*channel, *continuity)).collect();
        let counts = self.counts.snapshot();
        let state = self.lock();
        let silence = Duration::from_nanos(u64::try_from(unix_now_ns() - state.heard_ns).unwrap_or(0));
        let is_silent = matches!(state.phase, Phase::Connected(_)) && silence >= SILENT_AFTER;
        LinkView {
            config: Arc::clone(&state.config),
            phase: state.phase,
            since_ns: state.since_ns,
            silent_since_ns: is_silent.then_some(state.heard_ns),
            trouble: state.refused.clone().or_else(|| state.trouble.clone()),
            heard_ns: state.heard_ns,
            address: state.address,
            receive_buffer: state.receive_buffer,
            counts,
            channels,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    /// Adds what the framing has counted between `before` and `after`.
    pub(super) fn add_framing(&self, before: &framing::Counts, after: &framing::Counts) {
        for (counter, before, after) in [
            (&self.units, before.units, after.units),
            (&self.bytes, before.bytes, after.bytes),
            (&self.skipped_bytes, before.skipped, after.skipped),
            (&self.sync_losses, before.sync_losses, after.sync_losses),
            (&self.oversize, before.oversize, after.oversize),
        ] {
            if after > before {
                counter.fetch_add(after - before, Relaxed);
            }
        }
    }

    fn snapshot(&self) -> LinkCounts {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        LinkCounts {
            kept: get(&self.kept),
            idle: get(&self.idle),
            idle_dropped: get(&self.idle_dropped),
            bad: get(&self.bad),
            bad_dropped: get(&self.bad_dropped),
            full_dropped: get(&self.full_dropped),
            refused: get(&self.refused),
            oversize: get(&self.oversize),
            sync_losses: get(&self.sync_losses),
            skipped_bytes: get(&self.skipped_bytes),
            kernel_drops: get(&self.kernel_drops),
            strangers: get(&self.strangers),
            connects: get(&self.connects),
            bytes: get(&self.bytes),
            units: get(&self.units),
        }
    }
}

impl Phase {
    /// The name that the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Connecting => "connecting",
            Self::Connected(_) => "connected",
            Self::Failed => "failed",
        }
    }
}

impl LinkView {
    /// The state that the API uses: the phase, or `silent`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        if self.silent_since_ns.is_some() { "silent" } else { self.phase.name() }
    }
}
