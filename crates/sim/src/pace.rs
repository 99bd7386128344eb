//! The times of events: frames by rate, the end of the feed.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::resend_buffer::Due;

/// Frame `k` is due at `start + k / rate`. The times are absolute, so that they do not drift and late frames
/// catch up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Instant,
    /// Frames per second; 0 is flat out.
    rate: f64,
}

impl Schedule {
    pub(super) fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate }
    }

    /// The frames that may be sent by `now`.
    pub(super) fn due(&self, now: Instant) -> Due {
        let frames = |elapsed: Duration| (elapsed.as_secs_f64() * self.rate) as u64;
        match now.checked_duration_since(self.start) {
            _ if !self.is_limited() => Due::FlatOut,
            Some(elapsed) => Due::Below(frames(elapsed).saturating_add(1)),
            None => Due::Below(0),
        }
    }

    /// Whether there is a rate. Any value but a number above 0 means flat out.
    fn is_limited(&self) -> bool {
        self.rate > 0.0
    }

    /// When more is due than at `now`; `None` when flat out.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self.due(now) {
            Due::Below(sequence) => {
                let wait = Duration::try_from_secs_f64(sequence as f64 / self.rate).ok()?;
                self.start.checked_add(wait)
            }
            Due::FlatOut | Due::Nothing => None,
        }
    }
}

/// Whether the feed lasts. It ends when it is stopped, when its time is up, or after its last frame.
#[derive(Debug)]
pub(super) struct Feed {
    stop: watch::Receiver<bool>,
    until: Option<Instant>,
    linger: Duration,
    over_since: Option<Instant>,
}

impl Feed {
    /// A feed that lasts until `until` at most. After its end it waits for missing acknowledgements for
    /// `linger`.
    pub(super) fn new(stop: watch::Receiver<bool>, until: Option<Instant>, linger: Duration) -> Self {
        Self { stop, until, linger, over_since: None }
    }

    /// Whether no more frames are generated.
    pub(super) fn is_over(&self) -> bool {
        self.over_since.is_some()
    }

    /// When the generation of frames ended.
    pub(super) fn over_since(&self) -> Option<Instant> {
        self.over_since
    }

    /// Whether the feed was stopped from outside. A dropped sender counts as a stop.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Notes that the last frame is generated.
    pub(super) fn end(&mut self, now: Instant) {
        self.over_since.get_or_insert(now);
    }

    /// When to stop waiting for missing acknowledgements; `None` while the feed lasts.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        self.over_since.map(|since| since + self.linger)
    }

    /// Waits for the end of the feed. Cancel safe.
    pub(super) async fn over(&mut self) {
        if self.over_since.is_some() {
            return;
        }
        let time_is_up = async {
            match self.until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = time_is_up => {}
        }
        self.end(Instant::now());
    }

    /// Waits until further attempts are useless: the linger time after the end, or at once if the feed was
    /// stopped and nothing is missing. Cancel safe.
    pub(super) async fn given_up(&mut self, nothing_is_missing: bool) {
        self.over().await;
        if nothing_is_missing && self.is_stopped() {
            return;
        }
        if let Some(deadline) = self.gives_up_at() {
            sleep_until(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_without_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 300.0);
        let mut now = start;
        for sequence in 1..=100_000u64 {
            assert_eq!(schedule.due(now), Due::Below(sequence));
            now = schedule.next(now).unwrap() + Duration::from_nanos(1);
        }
        let elapsed = (now - start).as_secs_f64();
        assert!((elapsed - 100_000.0 / 300.0).abs() < 1e-3, "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_before_the_start_and_late_frames_are_caught_up() {
        let start = Instant::now() + Duration::from_secs(1);
        let schedule = Schedule::new(start, 1000.0);
        assert_eq!(schedule.due(Instant::now()), Due::Below(0));
        assert_eq!(schedule.next(Instant::now()), Some(start));
        assert_eq!(schedule.due(start + Duration::from_secs(7)), Due::Below(7001));
        assert_eq!(Schedule::new(start, 0.0).due(start), Due::FlatOut);
        assert_eq!(Schedule::new(start, 0.0).next(start), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_ends_by_stop_or_time_or_with_its_owner_and_then_lingers() {
        let (start, linger) = (Instant::now(), Duration::from_secs(10));
        let (stop, stopped) = watch::channel(false);
        let mut feed = Feed::new(stopped.clone(), Some(start + Duration::from_secs(3)), linger);
        feed.given_up(false).await;
        assert_eq!(start.elapsed().as_secs(), 13);
        assert!(feed.is_over() && !feed.is_stopped());

        let mut feed = Feed::new(stopped.clone(), None, linger);
        stop.send_replace(true);
        feed.over().await;
        assert!(feed.is_stopped());

        stop.send_replace(false);
        let mut feed = Feed::new(stopped, None, linger);
        drop(stop);
        feed.over().await;
        assert!(feed.is_stopped());
    }
}
