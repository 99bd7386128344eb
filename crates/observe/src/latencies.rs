//! How long frames take from the socket to stable storage. Their ACK is due then.

use super::elapsed;
use archive::Received;
use frame::Lanes;
use frame::histogram::{Counts, Histogram};

/// Latencies of all frames since the start, by lane.
#[derive(Debug, Default)]
pub struct Latencies(Lanes<Histogram>);

impl Latencies {
    /// Counts frames that are durable at `now_ns`, unix nanoseconds.
    pub fn note(&self, received: &[Received], now_ns: i64) {
        for read in received {
            let latency = elapsed(read.received_ns, now_ns);
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.0[read.priority].record(ns, u64::from(read.frames));
        }
    }

    /// A copy of the counts.
    #[must_use]
    pub fn snapshot(&self) -> Lanes<Counts> {
        self.0.each_ref().map(Histogram::snapshot)
    }
}
