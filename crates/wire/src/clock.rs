//! The heartbeat of a connection: when to send PING, and when to give up.
//!
//! Connections with the same heartbeat form groups. The connections of a group send their PINGs together,
//! because waking the daemon for each of thousands of idle connections costs more than the PINGs.

use std::time::Duration;

use tokio::time::Instant;

/// After this many silent heartbeats a connection is idle.
const SILENT_HEARTBEATS_MAX: u32 = 3;
/// The PINGs of one heartbeat go out at no more than this many times. So a PING is late by at most 2/256 of
/// the heartbeat.
const GROUPS: u32 = 256;
/// Delay until the due time of a stopped clock.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// The clock of one connection. Silence counts only while the session is willing to read. After each silent
/// heartbeat a PING is due.
#[derive(Debug)]
pub struct Clock {
    heartbeat: Duration,
    /// Time between two groups; zero without groups.
    group_gap: Duration,
    /// The instant from which the times of the groups are counted, the same for all connections.
    origin: Instant,
    /// Start of the silence, not counting time in which the session did not read.
    heard: Instant,
    /// When the next PING goes out.
    ping_at: Instant,
    reading: bool,
    nonce: u64,
}

/// The action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send PING with this nonce.
    Ping(u64),
    /// The peer has been silent for too long.
    Idle(Duration),
}

impl Clock {
    /// A clock that starts at `now` and belongs to no group.
    pub fn new(heartbeat: Duration, now: Instant) -> Self {
        let (group_gap, origin) = (Duration::ZERO, now);
        Self { heartbeat, group_gap, origin, heard: now, ping_at: now + heartbeat, reading: true, nonce: 0 }
    }

    /// A clock that starts at `now` and belongs to a group. PINGs go out at the times of the groups, counted
    /// from `origin`.
    pub fn grouped(heartbeat: Duration, origin: Instant, now: Instant) -> Self {
        let mut clock = Self { group_gap: heartbeat / GROUPS, origin, ..Self::new(heartbeat, now) };
        clock.heard(now);
        clock
    }

    /// Notes a sign of life. Any received byte is one.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.ping_at = self.group_time(now + self.heartbeat);
    }

    /// Sets whether the session is willing to read. While it is not, silence does not count.
    ///
    /// Returns true when the session becomes willing.
    pub fn set_reading(&mut self, reading: bool, now: Instant) -> bool {
        let begins = reading && !self.reading;
        if begins {
            self.heard = now;
        }
        self.reading = reading;
        begins
    }

    /// Whether the session is willing to read.
    pub const fn is_reading(&self) -> bool {
        self.reading
    }

    /// When to call [`Clock::act`] next.
    pub fn next_due(&self) -> Instant {
        let idle_at = self.heard + self.idle_after();
        if self.reading { self.ping_at.min(idle_at) } else { self.ping_at }
    }

    /// Returns the action that is due at `now`.
    pub fn act(&mut self, now: Instant) -> Option<Due> {
        if self.reading && now >= self.heard + self.idle_after() {
            return Some(Due::Idle(now - self.heard));
        }
        if now < self.ping_at {
            return None;
        }
        // One group later than the heartbeat requires, so that the answer does not move the timer.
        self.ping_at = self.group_time(now + self.heartbeat + self.group_gap);
        self.nonce += 1;
        Some(Due::Ping(self.nonce))
    }

    /// Stops the clock: no more bytes can come.
    pub fn stop(&mut self, now: Instant) {
        self.reading = false;
        self.ping_at = now + NEVER;
    }

    /// The first time of a group at or after `at`.
    fn group_time(&self, at: Instant) -> Instant {
        let gap_ns = self.group_gap.as_nanos().max(1) as u64;
        // Does not overflow: the daemon does not run for 584 years.
        let since_ns = at.saturating_duration_since(self.origin).as_nanos() as u64;
        self.origin + Duration::from_nanos(since_ns.next_multiple_of(gap_ns))
    }

    fn idle_after(&self) -> Duration {
        self.heartbeat * SILENT_HEARTBEATS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(10);

    fn clock(start: Instant) -> Clock {
        Clock::grouped(BEAT, start, start)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_causes_two_pings_and_then_idle() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert_eq!(clock.act(start + BEAT - Duration::from_millis(1)), None);
        assert_eq!(clock.act(start + BEAT), Some(Due::Ping(1)));
        assert_eq!(clock.act(start + BEAT), None);
        let second = start + BEAT * 2 + BEAT / GROUPS;
        assert_eq!(clock.next_due(), second);
        assert_eq!(clock.act(second), Some(Due::Ping(2)));
        assert_eq!(clock.next_due(), start + BEAT * 3);
        assert_eq!(clock.act(start + BEAT * 3), Some(Due::Idle(BEAT * 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn any_byte_restarts_the_silence() {
        let start = Instant::now();
        let mut clock = clock(start);
        clock.heard(start + BEAT * 2);
        assert_eq!(clock.act(start + BEAT * 3 - Duration::from_millis(1)), None);
        assert_eq!(clock.act(start + BEAT * 3), Some(Due::Ping(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_is_read_silence_does_not_count_and_pings_are_sent() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert!(!clock.set_reading(false, start));
        assert_eq!(clock.act(start + BEAT * 5), Some(Due::Ping(1)));
        assert!(clock.set_reading(true, start + BEAT * 6));
        assert_eq!(clock.act(start + BEAT * 6 + BEAT / GROUPS), Some(Due::Ping(2)));
        assert_eq!(clock.act(start + BEAT * 9), Some(Due::Idle(BEAT * 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_of_all_connections_are_due_at_the_same_ticks() {
        let origin = Instant::now();
        let gap = BEAT / GROUPS;
        let due = |after| Clock::grouped(BEAT, origin, origin + after).next_due();
        assert_eq!(due(gap / 4), due(gap / 2));
        assert_eq!(due(gap / 2), origin + BEAT + gap);
        assert_eq!(due(gap + gap / 2), origin + BEAT + gap * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_move_the_next_ping() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert_eq!(clock.act(start + BEAT), Some(Due::Ping(1)));
        let due = clock.next_due();
        clock.heard(start + BEAT + Duration::from_millis(1));
        assert_eq!(clock.next_due(), due);
    }
}
