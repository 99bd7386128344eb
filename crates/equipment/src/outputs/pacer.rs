//! Paces what an output sends over UDP.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may be sent at once, at least: the longest datagram.
const BURST_BYTES_MIN: u64 = 64 << 10;
/// What the rate allows in this time may be sent at once.
const BURST_TIME: Duration = Duration::from_millis(20);

/// A bucket of bytes that fills at a constant rate.
#[derive(Debug)]
pub(super) struct Pacer {
    /// The rate.
    bytes_per_s: u64,
    /// Bytes that may be sent at [`Pacer::at`].
    bytes: u64,
    /// When the bucket had [`Pacer::bytes`].
    at: Instant,
}

impl Pacer {
    /// A full bucket.
    pub(super) fn new(bytes_per_s: u64, now: Instant) -> Self {
        Self { bytes_per_s, bytes: burst(bytes_per_s), at: now }
    }

    /// Takes `bytes` out of the bucket; no more than the bucket can hold, so that a long datagram goes too.
    ///
    /// # Errors
    /// The time at which the bucket will have as many, if it does not have them yet. Nothing is taken then.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        let wanted = (bytes as u64).min(burst(self.bytes_per_s));
        let elapsed_ns = now.duration_since(self.at).as_nanos();
        // Saturates after 584 years at one byte a nanosecond.
        let earned =
            u64::try_from(elapsed_ns * u128::from(self.bytes_per_s) / 1_000_000_000).unwrap_or(u64::MAX);
        if earned > 0 {
            // The part of a byte that was earned meanwhile is given up. Then the rate is kept, not reached.
            (self.bytes, self.at) = (self.bytes.saturating_add(earned).min(burst(self.bytes_per_s)), now);
        }
        if self.bytes >= wanted {
            self.bytes -= wanted;
            return Ok(());
        }
        let missing = u128::from(wanted - self.bytes);
        let wait_ns = (missing * 1_000_000_000).div_ceil(u128::from(self.bytes_per_s));
        Err(self.at + Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX)))
    }
}

/// What the bucket can hold, in bytes.
fn burst(bytes_per_s: u64) -> u64 {
    let in_time = u128::from(bytes_per_s) * BURST_TIME.as_millis() / 1_000;
    BURST_BYTES_MIN.max(u64::try_from(in_time).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends datagrams of `bytes` for `time` and returns how many bytes were sent.
    fn sent_in(bytes_per_s: u64, bytes: usize, time: Duration) -> u64 {
        let began = Instant::now();
        let (mut now, mut sent) = (began, 0);
        let mut pacer = Pacer::new(bytes_per_s, began);
        loop {
            match pacer.take(bytes, now) {
                Ok(()) => sent += bytes as u64,
                Err(at) => {
                    assert!(at > now, "it is due later");
                    now = at;
                    if now > began + time {
                        return sent;
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_sent_follows_the_rate() {
        for (bytes_per_s, bytes) in [(1_024, 7), (4 << 20, 1_115), (1 << 30, 65_507), (10 << 30, 100)] {
            let time = Duration::from_secs(if bytes_per_s > 1 << 28 { 1 } else { 100 });
            let sent = sent_in(bytes_per_s, bytes, time);
            let allowed = bytes_per_s * time.as_secs() + burst(bytes_per_s);
            assert!(sent <= allowed + bytes as u64, "{bytes_per_s}: {sent} of {allowed}");
            assert!(sent >= allowed / 100 * 95, "{bytes_per_s}: {sent} of {allowed}");
        }
    }

    #[test]
    fn the_longest_datagram_passes_at_the_lowest_rate() {
        assert!(sent_in(1_024, 65_507, Duration::from_secs(200)) >= 65_507 * 3);
    }
}
