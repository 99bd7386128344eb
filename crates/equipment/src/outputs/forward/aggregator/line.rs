//! What all connections of a forwarder share: the way to the other aggregator, and the line, which may be thin.
//!
//! While an emergency waits for its turn on any connection, no connection begins a routine frame. Routine frames under way
//! are limited so that they wait in the line for little longer than the line takes anyway: an emergency, which comes behind them,
//! does not wait for long either.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tls::Socket;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::lock;
use crate::outputs::status::OutputStatus;
use client::Refusal;
use config::{AggregatorTransport, Config, FORWARDED_BYTES};
use frame::{Origin, Station};
use wire::{Hello, HelloFlags, Welcome};

/// Routine bytes that may be under way at first, and always.
const WINDOW_MIN: u64 = 64 << 10;
/// Longest time that routine frames may wait in the line.
const QUEUED_MAX: Duration = Duration::from_millis(300);
/// After this time the shortest way of a frame is measured again.
const SHORTEST_FOR: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Line {
    /// `host:port` of the other aggregator.
    address: String,
    /// TLS, if connections are encrypted.
    tls: Option<tls::Client>,
    /// The credential.
    token: String,
    /// The name of this daemon there.
    via: Station,
    /// What operators see.
    pub(super) status: Arc<OutputStatus>,
    /// One permit for each connection.
    places: Semaphore,
    /// Streams that wait for a place.
    waiting: AtomicUsize,
    /// Streams with an emergency that waits for its turn on an open connection.
    urgent: AtomicUsize,
    /// The routine frames under way.
    window: Mutex<Window>,
    /// A stream waits until the window or the emergencies let it send.
    is_awaited: AtomicBool,
    /// Open connections.
    open: AtomicUsize,
    /// Changes when a stream may have something to do. Its value says that the forwarder ends.
    turns: watch::Sender<bool>,
}

/// How many bytes of routine frames may be under way.
#[derive(Debug)]
struct Window {
    under_way: u64,
    limit: u64,
    /// The shortest time from writing a frame to its acknowledgement, and when it was measured.
    shortest: Option<(Duration, Instant)>,
    /// Before this instant, frames that were sent with a larger window are acknowledged.
    cut_until: Instant,
}

/// A stream has an emergency that waits for its turn.
pub(super) struct Urgent(Arc<Line>);

impl Line {
    /// The line to the aggregator of the output that `status` shows, where this daemon is called `via`.
    pub(super) fn new(
        to: &AggregatorTransport,
        via: Station,
        config: &Config,
        status: Arc<OutputStatus>,
    ) -> Self {
        let tls = config.tls.files.sides.connecting_link.clone().filter(|_| to.tls);
        let now = Instant::now();
        Self {
            address: to.to.as_str().to_owned(),
            tls,
            token: to.token.as_ref().map_or_else(String::new, |token| token.expose().to_owned()),
            via,
            status,
            places: Semaphore::new(to.connections),
            waiting: AtomicUsize::new(0),
            urgent: AtomicUsize::new(0),
            window: Mutex::new(Window { under_way: 0, limit: WINDOW_MIN, shortest: None, cut_until: now }),
            is_awaited: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            turns: watch::Sender::new(false),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits for a place for a connection.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn place(&self) -> SemaphorePermit<'_> {
        if let Ok(place) = self.places.try_acquire() {
            return place;
        }
        self.waiting.fetch_add(1, SeqCst);
        let waiting = scopeguard(&self.waiting);
        self.wake();
        let place = self.places.acquire().await;
        drop(waiting);
        place.expect("the semaphore is never closed")
    }

    /// Whether streams wait for a place.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Connects for the stream of `origin`.
    ///
    /// # Errors
    /// As [`client::open`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn open(
        &self,
        origin: &Origin,
        shares_sequence: bool,
    ) -> Result<(Socket, Welcome, BytesMut), Refusal> {
        let mut hello = Hello::new(origin.stream.clone(), origin.epoch);
        let shared = if shares_sequence { HelloFlags::SHARED_SEQUENCE } else { HelloFlags::default() };
        hello.flags = HelloFlags::ZSTD.and(shared);
        hello.via = self.via.clone();
        hello.token.clone_from(&self.token);
        client::open(&self.address, self.tls.as_ref(), &hello).await
    }

    /// A connection is open.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, SeqCst);
        self.status.reaches(true);
    }

    /// A connection has ended. `is_lost` says that frames still wait for one.
    pub(super) fn ended(&self, is_lost: bool) {
        if self.open.fetch_sub(1, SeqCst) == 1 && is_lost {
            self.status.reaches(false);
        }
    }

    /// A receiver that changes when a stream may have something to do.
    pub(super) fn turns(&self) -> watch::Receiver<bool> {
        self.turns.subscribe()
    }

    /// Lets all connections end once they have nothing to send.
    pub(super) fn close(&self) {
        self.turns.send_replace(true);
    }

    fn wake(&self) {
        self.turns.send_modify(|_| {});
    }

    /// Keeps routine frames back until the result is dropped.
    pub(super) fn urgent(self: &Arc<Self>) -> Urgent {
        self.urgent.fetch_add(1, SeqCst);
        Urgent(Arc::clone(self))
    }

    /// Takes room for a routine frame of `cost`. Returns false if there is none now.
    pub(super) fn begin(&self, cost: u64) -> bool {
        let may_begin = || {
            let mut window = lock(&self.window);
            let has_room = window.under_way == 0 || window.under_way + cost <= window.limit;
            if self.urgent.load(SeqCst) > 0 || !has_room {
                return false;
            }
            window.under_way += cost;
            true
        };
        if may_begin() {
            return true;
        }
        self.is_awaited.store(true, SeqCst);
        // What has changed before that is seen here, what changes later wakes the stream.
        may_begin()
    }

    /// Routine frames of `cost` are acknowledged, the newest of them `took` so long; or they are no longer under way because
    /// their connection has ended.
    pub(super) fn settle(&self, cost: u64, took: Option<Duration>, now: Instant) {
        let mut window = lock(&self.window);
        window.under_way = window.under_way.saturating_sub(cost);
        if let Some(took) = took {
            window.adapt(cost, took, now);
        }
        drop(window);
        self.go_on();
    }

    /// Wakes streams that wait for their turn.
    fn go_on(&self) {
        if self.is_awaited.swap(false, SeqCst) {
            self.wake();
        }
    }
}

impl Window {
    /// Takes in that a frame `took` so long, and that `cost` bytes are acknowledged.
    fn adapt(&mut self, cost: u64, took: Duration, now: Instant) {
        let shortest = match self.shortest {
            Some((shortest, at)) if shortest < took && now < at + SHORTEST_FOR => shortest,
            Some((shortest, _)) if shortest < took => {
                // The line runs empty, so that the way is measured again without frames that wait.
                (self.limit, self.shortest, self.cut_until) = (WINDOW_MIN, None, now + took);
                return;
            }
            None if now < self.cut_until => return,
            _ => {
                self.shortest = Some((took, now));
                took
            }
        };
        if took <= shortest + QUEUED_MAX {
            // The window is in use if what was acknowledged and what is left fill half of it.
            if 2 * (self.under_way + cost) >= self.limit {
                self.limit = (self.limit + cost.div_ceil(4)).min(2 * FORWARDED_BYTES);
            }
        } else if now >= self.cut_until {
            let wanted = (shortest + QUEUED_MAX / 2).as_secs_f64() / took.as_secs_f64();
            self.limit = ((self.limit as f64 * wanted) as u64).max(WINDOW_MIN);
            self.cut_until = now + took;
        }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if self.0.urgent.fetch_sub(1, SeqCst) == 1 {
            self.0.go_on();
        }
    }
}

/// Takes one from `count` when it is dropped.
fn scopeguard(count: &AtomicUsize) -> impl Drop + '_ {
    struct Guard<'a>(&'a AtomicUsize);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    Guard(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of `bytes_per_s` and `delay`, over which frames of `cost` go as fast as the window lets them. Returns the longest
    /// time that a frame took after the first ten seconds, and the bytes of a second at the end.
    fn simulate(bytes_per_s: u64, delay: Duration, cost: u64) -> (Duration, u64) {
        let start = Instant::now();
        let mut window = Window { under_way: 0, limit: WINDOW_MIN, shortest: None, cut_until: start };
        let mut under_way = std::collections::VecDeque::new();
        let (mut free_at, mut now) = (start, start);
        let (mut slowest, mut last_second) = (Duration::ZERO, 0);
        let end = start + Duration::from_secs(200);
        while now < end {
            while window.under_way + cost <= window.limit {
                free_at = free_at.max(now) + Duration::from_secs_f64(cost as f64 / bytes_per_s as f64);
                under_way.push_back((now, free_at + delay));
                window.under_way += cost;
            }
            let (sent_at, done_at) = under_way.pop_front().unwrap();
            now = done_at;
            window.under_way -= cost;
            window.adapt(cost, done_at - sent_at, now);
            if now > start + Duration::from_secs(10) {
                slowest = slowest.max(done_at - sent_at);
            }
            if now > end - Duration::from_secs(1) {
                last_second += cost;
            }
        }
        (slowest, last_second)
    }

    #[test]
    fn routine_frames_fill_the_line_and_wait_little_in_it() {
        for (bytes_per_s, delay_ms) in [(250_000, 600), (250_000, 20), (10_000_000, 100), (30_000, 1_000)] {
            let delay = Duration::from_millis(delay_ms);
            let (slowest, last_second) = simulate(bytes_per_s, delay, 1_000);
            let case = format!("{bytes_per_s} B/s, {delay:?}: {slowest:?}, {last_second} B");
            assert!(last_second * 10 >= bytes_per_s * 8, "{case}");
            // The smallest window may take longer on a very thin line.
            let least = Duration::from_secs_f64(WINDOW_MIN as f64 / bytes_per_s as f64);
            assert!(slowest <= delay + QUEUED_MAX * 2 + least, "{case}");
        }
    }
}
