//! The state and the counts of a link, as operators see them.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::recent::{Recent, Room};
use crate::switchboard::Status;
use api::{self, LinkChannel, LinkCounts, LinkState};
use config::Link;
use frame::unix_now_ns;
use framing::{self, Continuity, Count, FramingError, Step};
use ingest::pipeline::SharedCost;
use support::logging::{Kind, by_peer};

/// A connected link counts as silent when nothing has come for this long.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// The state and the counts of one link. The link writes them; readers take a report.
#[derive(Debug, Default)]
pub struct LinkStatus {
    /// What operators see of the connection.
    state: Mutex<State>,
    /// The counts since the daemon started.
    counts: Mutex<LinkCounts>,
    /// The counters of the spacecraft.
    channels: Mutex<Channels>,
    /// What waits in the queues of all streams of the link.
    queued: Arc<SharedCost>,
}

/// The channels whose gaps the link notices.
#[derive(Debug, Default)]
struct Channels {
    /// The channels that are followed, at most `Link::channels_max`.
    followed: Recent<Channel, Continuity>,
    /// Units that were missing in channels that gave way.
    missing_before: u64,
}

impl Channels {
    /// The channels in `wanted`, in order, the number of all, and the missing units of all.
    fn report(&self, wanted: Range<usize>) -> (Vec<LinkChannel>, usize, u64) {
        let mut all: Vec<_> = self.followed.iter().collect();
        all.sort_unstable_by_key(|(channel, _)| **channel);
        let missing = all.iter().map(|(_, continuity)| continuity.missing).sum::<u64>();
        let channels =
            all.iter().skip(wanted.start).take(wanted.len()).map(|one| link_channel(*one)).collect();
        (channels, all.len(), missing + self.missing_before)
    }
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

/// The state of a link, as far as it does not depend on the time.
#[derive(Debug)]
struct State {
    /// Never [`LinkState::Silent`], which depends on the time of the report.
    state: LinkState,
    /// When the state was entered, in unix nanoseconds.
    since_ns: i64,
    /// The peer of a connected link. Of UDP, the last sender.
    peer: Option<SocketAddr>,
    /// Why the last connection ended or failed.
    trouble: Option<String>,
    /// The last unit that could not be cut. Its bytes belong to the trouble that ends with its text.
    uncut: Option<FramingError>,
    /// The streams that the link may not carry, and why.
    refused: Option<String>,
    /// When something was last received, unix nanoseconds; 0 if nothing was.
    heard_ns: i64,
    /// The address that the link listens on or receives at.
    address: Option<SocketAddr>,
    /// What the kernel granted as receive buffer of a UDP link, in bytes.
    receive_buffer: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            state: LinkState::Disabled,
            since_ns: unix_now_ns(),
            peer: None,
            trouble: None,
            uncut: None,
            refused: None,
            heard_ns: 0,
            address: None,
            receive_buffer: None,
        }
    }
}

impl State {
    fn enter(&mut self, state: LinkState) {
        if self.state != state {
            (self.state, self.since_ns) = (state, unix_now_ns());
        }
        (self.peer, self.refused) = (None, None);
    }

    /// What hinders the link.
    fn trouble(&self) -> Option<&String> {
        self.refused.as_ref().or(self.trouble.as_ref())
    }

    /// The bytes that the trouble is about, in hexadecimal digits.
    fn trouble_bytes(&self) -> Option<String> {
        let (trouble, uncut) = (self.trouble()?, self.uncut.as_ref()?);
        trouble.ends_with(&uncut.to_string()).then(|| uncut.hex())
    }

    /// The state as operators see it.
    fn shown(&self) -> LinkState {
        let silence = Duration::from_nanos(u64::try_from(unix_now_ns() - self.heard_ns).unwrap_or(0));
        let is_silent = self.state == LinkState::Connected && silence >= SILENT_AFTER;
        if is_silent { LinkState::Silent } else { self.state }
    }
}

impl LinkStatus {
    /// Enters `state`.
    pub(super) fn enter(&self, state: LinkState) {
        self.state().enter(state);
    }

    /// A peer has connected, or the link receives datagrams. Clears the trouble.
    pub(super) fn connected(&self, peer: Option<SocketAddr>) {
        self.count(|counts| counts.connects += 1);
        let mut state = self.state();
        state.enter(LinkState::Connected);
        (state.since_ns, state.heard_ns) = (unix_now_ns(), unix_now_ns());
        (state.peer, state.trouble) = (peer, None);
    }

    /// Notes why a connection ended or failed.
    pub(super) fn note_trouble(&self, why: impl Into<String>) {
        self.state().trouble = Some(why.into());
    }

    /// Notes the unit that cannot be cut. The trouble is noted apart.
    pub(super) fn note_bytes(&self, uncut: FramingError) {
        self.state().uncut = Some(uncut);
    }

    /// Notes which stream the link may not carry; `None` when it carries all.
    pub(super) fn note_refused(&self, why: Option<String>) {
        self.state().refused = why;
    }

    /// Notes that something has come at `now_ns`, from `sender` on a UDP link.
    pub(super) fn note_received(&self, now_ns: i64, sender: Option<SocketAddr>) {
        let mut state = self.state();
        state.heard_ns = now_ns;
        state.peer = sender.or(state.peer);
    }

    /// Notes where the link listens or receives, and what the kernel granted as receive buffer.
    pub(super) fn bound(&self, address: Option<SocketAddr>, receive_buffer: Option<u64>) {
        let mut state = self.state();
        (state.address, state.receive_buffer) = (address, receive_buffer);
    }

    /// Changes the counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut LinkCounts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds what the framing has counted between `before` and `after`.
    pub(super) fn count_framing(&self, before: &framing::Counts, after: &framing::Counts) {
        self.count(|counts| {
            counts.units += after.units.saturating_sub(before.units);
            counts.bytes += after.bytes.saturating_sub(before.bytes);
            counts.skipped_bytes += after.skipped.saturating_sub(before.skipped);
            counts.sync_losses += after.sync_losses.saturating_sub(before.sync_losses);
            counts.oversize += after.oversize.saturating_sub(before.oversize);
        });
    }

    /// What waits in the queues of all streams of the link.
    pub(super) fn queued(&self) -> Arc<SharedCost> {
        Arc::clone(&self.queued)
    }

    /// Notes the `count` of a frame that came at `now`. Returns whether frames are missing before it, or the counter
    /// began again. A channel that is idle gives its place to a new one. While every place is in use, a new channel is
    /// not followed.
    pub(super) fn note_count(&self, channel: Channel, count: Count, link: &Link, now: Instant) -> bool {
        let mut channels = self.channels();
        if let Some(continuity) = channels.followed.using(channel, now) {
            return continuity.take(count) != Step::Next;
        }
        match channels.followed.make_room(link.channels_max(), now) {
            Room::Free => {}
            Room::GaveWay(_, idle) => channels.missing_before += idle.missing,
            Room::Full => {
                drop(channels);
                self.note_unfollowed(channel, link);
                return false;
            }
        }
        let mut continuity = Continuity::new(link.max_gap.map(u64::from));
        let is_gap = continuity.take(count) != Step::Next;
        channels.followed.insert(channel, continuity, now);
        is_gap
    }

    fn note_unfollowed(&self, Channel { source, channel, .. }: Channel, link: &Link) {
        let mut units = 0;
        self.count(|counts| {
            counts.unfollowed += 1;
            units = counts.unfollowed;
        });
        if units.is_power_of_two() {
            by_peer!(
                Kind::Linked,
                WARN,
                link = link.name,
                source,
                channel,
                units,
                "gaps in this channel are not noticed: {} channels are followed and none of them is idle",
                link.channels_max()
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status<Link, api::Link> for LinkStatus {
    fn reconfigured(&self) {
        *self.channels() = Channels::default();
    }

    fn stopped(&self, failure: Option<String>) {
        let mut state = self.state();
        state.enter(if failure.is_some() { LinkState::Failed } else { LinkState::Disabled });
        (state.trouble, state.address) = (failure, None);
    }

    /// The report, without the rates, with the channels in `wanted`.
    fn report(&self, config: &Link, wanted: Range<usize>) -> api::Link {
        let (channels, channels_total, missing) = self.channels().report(wanted);
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        api::Link {
            name: config.name.clone(),
            description: config.to_string(),
            state: state.shown(),
            since_ms: state.since_ns / 1_000_000,
            trouble: state.trouble().cloned(),
            trouble_bytes: state.trouble_bytes(),
            address: state.address.map(|address| address.to_string()),
            peer: state.peer.map(|peer| peer.to_string()),
            heard_ms: (state.heard_ns > 0).then_some(state.heard_ns / 1_000_000),
            receive_buffer_bytes: state.receive_buffer,
            units_per_s: 0.0,
            bytes_per_s: 0.0,
            counts,
            missing,
            channels_total,
            channels,
        }
    }
}

fn link_channel((channel, continuity): (&Channel, &Continuity)) -> LinkChannel {
    LinkChannel {
        source: channel.source,
        channel: channel.channel,
        bypass: channel.is_bypass,
        expected: continuity.expected(),
        received: continuity.received,
        missing: continuity.missing,
        modulo: continuity.modulo(),
        restarts: continuity.restarts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_takes_no_more_memory_than_counted() {
        // A node of the tree has 11 entries and is at least half full. A report holds a copy.
        let entry = 2 * size_of::<(Channel, (Continuity, Instant))>();
        let takes = (entry + size_of::<LinkChannel>()) as u64;
        assert!(takes <= config::CHANNEL_BYTES, "{takes} bytes");
    }
}
