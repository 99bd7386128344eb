//! The heartbeat of a connection: when to ask, and when to give up.

use std::time::Duration;

use tokio::time::Instant;

/// Heartbeats of silence after which a connection is idle.
const SILENT_HEARTBEATS_MAX: u32 = 3;
/// Due time of a clock that stands still.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// Runs only while the session is willing to read; asks with a PING after each silent heartbeat.
#[derive(Debug)]
pub(crate) struct Clock {
    heartbeat: Duration,
    /// Start of the silence, as far as the session listened.
    heard: Instant,
    /// When the next PING goes out.
    ping_at: Instant,
    reading: bool,
    nonce: u64,
}

/// What the time asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send PING with this nonce.
    Ping(u64),
    /// The peer has been silent for too long.
    Idle(Duration),
}

impl Clock {
    pub(crate) fn new(heartbeat: Duration, now: Instant) -> Self {
        Self { heartbeat, heard: now, ping_at: now + heartbeat, reading: true, nonce: 0 }
    }

    /// Any byte is a sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.ping_at = now + self.heartbeat;
    }

    /// Says whether the session is willing to read; while it is not, silence does not count.
    ///
    /// True when it has become willing again.
    pub(crate) fn set_reading(&mut self, reading: bool, now: Instant) -> bool {
        let begins = reading && !self.reading;
        if begins {
            self.heard = now;
        }
        self.reading = reading;
        begins
    }

    /// Whether the session was willing to read when it last said so.
    pub(crate) const fn is_reading(&self) -> bool {
        self.reading
    }

    /// When to call [`Clock::act`] next.
    pub(crate) fn next_due(&self) -> Instant {
        let idle_at = self.heard + self.idle_after();
        if self.reading { self.ping_at.min(idle_at) } else { self.ping_at }
    }

    /// What is due at `now`.
    pub(crate) fn act(&mut self, now: Instant) -> Option<Due> {
        if self.reading && now >= self.heard + self.idle_after() {
            return Some(Due::Idle(now - self.heard));
        }
        if now < self.ping_at {
            return None;
        }
        self.ping_at = now + self.heartbeat;
        self.nonce += 1;
        Some(Due::Ping(self.nonce))
    }

    /// Stands still from now on: nothing more can be heard.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.reading = false;
        self.ping_at = now + NEVER;
    }

    fn idle_after(&self) -> Duration {
        self.heartbeat * SILENT_HEARTBEATS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silence_is_asked_about_twice_then_idle() {
        let start = Instant::now();
        let mut clock = Clock::new(BEAT, start);
        assert_eq!(clock.act(start + BEAT - Duration::from_millis(1)), None);
        assert_eq!(clock.act(start + BEAT), Some(Due::Ping(1)));
        assert_eq!(clock.act(start + BEAT), None);
        assert_eq!(clock.act(start + BEAT * 2), Some(Due::Ping(2)));
        assert_eq!(clock.next_due(), start + BEAT * 3);
        assert_eq!(clock.act(start + BEAT * 3), Some(Due::Idle(BEAT * 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn any_byte_starts_the_silence_anew() {
        let start = Instant::now();
        let mut clock = Clock::new(BEAT, start);
        clock.heard(start + BEAT * 2);
        assert_eq!(clock.act(start + BEAT * 3 - Duration::from_millis(1)), None);
        assert_eq!(clock.act(start + BEAT * 3), Some(Due::Ping(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_is_read_silence_does_not_count_but_pings_go_out() {
        let start = Instant::now();
        let mut clock = Clock::new(BEAT, start);
        assert!(!clock.set_reading(false, start));
        assert_eq!(clock.act(start + BEAT * 5), Some(Due::Ping(1)));
        assert!(clock.set_reading(true, start + BEAT * 6));
        assert_eq!(clock.act(start + BEAT * 6), Some(Due::Ping(2)));
        assert_eq!(clock.act(start + BEAT * 9), Some(Due::Idle(BEAT * 3)));
    }
}
