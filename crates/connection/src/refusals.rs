//! Connections that were refused, or that ended because of what their peers did: counts by reason, and the
//! newest ones.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::unauthenticated::Group;
use frame::unix_now_ns;
use wire::ErrorCode;

/// Most refusals that are kept.
pub const NEWEST_MAX: usize = 64;
/// Most bytes that are kept of the text of each refusal.
const TEXT_BYTES_MAX: usize = 256;

/// Where a peer connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The listener for sources.
    Ingest,
    /// The listener for subscribers.
    Feed,
    /// The listener for operators.
    Http,
}

impl Listener {
    const ALL: [Self; 3] = [Self::Ingest, Self::Feed, Self::Http];

    /// The label of metrics and of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Feed => "feed",
            Self::Http => "http",
        }
    }
}

/// Why a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer got this ERROR, or the HTTP status with the same meaning.
    Code(ErrorCode),
    /// The connection was evicted for another one before it had identified itself.
    Evicted,
}

const REASONS: usize = ErrorCode::ALL.len() + 1;

impl Reason {
    /// All reasons, in the order of their places.
    fn all() -> impl Iterator<Item = Self> {
        ErrorCode::ALL.into_iter().map(Self::Code).chain([Self::Evicted])
    }

    /// The label of metrics and of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code(code) => code.name(),
            Self::Evicted => "evicted",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Code(code) => code as usize - 1,
            Self::Evicted => REASONS - 1,
        }
    }

    /// Whether the peer caused the refusal. Orders of the daemon, and takeovers by a stream's successor, do
    /// not count.
    const fn is_the_peers(self) -> bool {
        !matches!(
            self,
            Self::Code(
                ErrorCode::TakenOver | ErrorCode::Draining | ErrorCode::StorageFailed | ErrorCode::Removed
            )
        )
    }
}

/// One peer that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Time of the refusal, unix nanoseconds.
    pub time_ns: i64,
    /// The listener to which the peer connected.
    pub listener: Listener,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// The reason.
    pub reason: Reason,
    /// The text that the peer got; never its token.
    pub text: String,
}

/// All refusals since the start. Bounded, however often peers are refused.
#[derive(Debug, Default)]
pub struct Refusals {
    /// How often each listener refused for each reason, by [`Reason::place`].
    counts: [[AtomicU64; REASONS]; Listener::ALL.len()],
    /// The newest refusals, oldest first, at most [`NEWEST_MAX`].
    newest: Mutex<VecDeque<Refusal>>,
}

impl Refusals {
    /// Counts a refusal and keeps it among the newest.
    pub fn note(&self, listener: Listener, peer: SocketAddr, reason: Reason, text: &str) {
        if !reason.is_the_peers() {
            return;
        }
        self.counts[listener as usize][reason.place()].fetch_add(1, Relaxed);
        let text = text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        let refusal = Refusal { time_ns: unix_now_ns(), listener, peer, reason, text };
        let mut newest = self.lock();
        if newest.len() == NEWEST_MAX {
            let crowded = oldest_of_most(&newest);
            newest.remove(crowded);
        }
        newest.push_back(refusal);
    }

    /// How often each listener refused for each reason. Pairs that did not occur are left out.
    #[must_use]
    pub fn counts(&self) -> Vec<(Listener, Reason, u64)> {
        let count =
            |listener: Listener, reason: Reason| self.counts[listener as usize][reason.place()].load(Relaxed);
        let all = Listener::ALL
            .into_iter()
            .flat_map(|listener| Reason::all().map(move |reason| (listener, reason)));
        all.map(|(listener, reason)| (listener, reason, count(listener, reason)))
            .filter(|(_, _, count)| *count > 0)
            .collect()
    }

    /// The newest refusals, oldest first.
    #[must_use]
    pub fn newest(&self) -> Vec<Refusal> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the place of the oldest refusal of the most frequent pair of peer and reason in `newest`. So a
/// peer that is refused a hundred times a second does not push out a peer that comes every few seconds.
fn oldest_of_most(newest: &VecDeque<Refusal>) -> usize {
    let key = |refusal: &Refusal| (Group::of(refusal.peer.ip()), refusal.reason.place());
    let mut counts = HashMap::new();
    newest.iter().for_each(|refusal| *counts.entry(key(refusal)).or_insert(0_usize) += 1);
    let most = counts.values().copied().max().unwrap_or(0);
    newest.iter().position(|refusal| counts[&key(refusal)] == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_refusals_are_counted_and_the_newest_are_kept() {
        let refusals = Refusals::default();
        let peer = |port| SocketAddr::from(([192, 0, 2, 7], port));
        for port in 0..200 {
            refusals.note(Listener::Ingest, peer(port), Reason::Code(ErrorCode::Busy), "all are in use");
        }
        refusals.note(Listener::Feed, peer(1), Reason::Evicted, &"é".repeat(1_000));
        refusals.note(Listener::Ingest, peer(1), Reason::Code(ErrorCode::Draining), "the daemon is draining");
        let (busy, evicted) = (Reason::Code(ErrorCode::Busy), Reason::Evicted);
        assert_eq!(refusals.counts(), [(Listener::Ingest, busy, 200), (Listener::Feed, evicted, 1)]);
        let newest = refusals.newest();
        assert_eq!(newest.len(), NEWEST_MAX);
        assert_eq!((newest[0].peer, newest[0].listener), (peer(137), Listener::Ingest));
        assert_eq!(newest[NEWEST_MAX - 1].text, "é".repeat(TEXT_BYTES_MAX / 2));
    }

    #[test]
    fn a_peer_refused_often_does_not_displace_a_peer_refused_rarely() {
        let refusals = Refusals::default();
        let flood = |last: u8| {
            let peer = SocketAddr::from(([192, 0, 2, last], 1));
            (0..500)
                .for_each(|_| refusals.note(Listener::Ingest, peer, Reason::Evicted, "this one is closed"));
        };
        let station = SocketAddr::from(([198, 51, 100, 1], 1));
        flood(1);
        refusals.note(
            Listener::Ingest,
            station,
            Reason::Code(ErrorCode::Unauthorized),
            "the token is not known",
        );
        flood(2);
        flood(1);
        assert!(refusals.newest().iter().any(|refusal| refusal.peer == station));
        assert_eq!(refusals.newest().len(), NEWEST_MAX);
    }

    #[test]
    fn each_reason_has_its_own_index_and_name() {
        let all: Vec<_> = Reason::all().collect();
        assert!(all.iter().enumerate().all(|(place, reason)| reason.place() == place));
        let names: std::collections::BTreeSet<_> = all.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), REASONS);
    }
}
