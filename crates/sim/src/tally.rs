//! The counters that all sources of a run share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::catalogs::{CatalogCounts, Catalogs, Complete};
use super::resend_buffer::{Filled, Settled};
use client::Connections;
use frame::{FramePriority, Lanes};

/// Latencies of more than an hour count as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Counters of a run, updated while it runs. Share them with [`run`](super::run) and read
/// [`Progress::counts`].
#[derive(Debug, Default)]
pub struct Progress {
    /// The connections of all sources.
    pub connections: Connections,
    finished: AtomicU64,
    sent: AtomicU64,
    acked: AtomicU64,
    acked_bytes: AtomicU64,
    resent: AtomicU64,
    duplicates: AtomicU64,
    reconnects: AtomicU64,
    catalogs: Catalogs,
}

/// A snapshot of [`Progress`]. The counters are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sources with a connection past WELCOME.
    pub connected: u64,
    /// Sources that ended, with or without success.
    pub finished: u64,
    /// Distinct frames written at least once.
    pub sent: u64,
    /// Frames that the server called durable, by ACK or BYE.
    pub acked: u64,
    /// Payload bytes of these frames.
    pub acked_bytes: u64,
    /// Writes of frames that had been written before.
    pub resent: u64,
    /// Frames the server dropped as duplicates, by its ACKs.
    pub duplicates: u64,
    /// Connections past WELCOME after a source's first.
    pub reconnects: u64,
}

impl Progress {
    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            connected: self.connections.count(),
            finished: self.finished.load(Relaxed),
            acked: self.acked.load(Relaxed),
            acked_bytes: self.acked_bytes.load(Relaxed),
            sent: self.sent.load(Relaxed),
            resent: self.resent.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
        }
    }

    /// Counts of the catalogs received so far.
    #[must_use]
    pub fn catalog_counts(&self) -> CatalogCounts {
        self.catalogs.counts()
    }

    /// The text of the newest complete catalog, if it was to be kept.
    #[must_use]
    pub fn newest_catalog(&self) -> Option<Vec<u8>> {
        self.catalogs.newest()
    }

    pub(super) fn add_catalog(&self, complete: Complete) {
        self.catalogs.add(complete);
    }

    pub(super) fn add_filled(&self, filled: Filled) {
        self.sent.fetch_add(filled.sent, Relaxed);
        self.resent.fetch_add(filled.resent, Relaxed);
    }

    pub(super) fn add_settled(&self, settled: Settled) {
        self.acked.fetch_add(settled.frames, Relaxed);
        self.acked_bytes.fetch_add(settled.bytes, Relaxed);
    }

    pub(super) fn add_duplicates(&self, count: u64) {
        self.duplicates.fetch_add(count, Relaxed);
    }

    pub(super) fn add_reconnect(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn add_finished(&self) {
        self.finished.fetch_add(1, Relaxed);
    }
}

/// Quantiles of one lane in microseconds; 0 without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Quantiles {
    /// Half of the frames took at most this.
    pub p50: u64,
    /// 99 of 100 frames took at most this.
    pub p99: u64,
    /// 999 of 1000 frames took at most this.
    pub p999: u64,
    /// The slowest frame.
    pub max: u64,
}

/// Time from a frame's first write to the ACK that covers it, for all frames of all sources: 3 significant
/// digits, at most an hour.
#[derive(Debug)]
pub(super) struct Latency {
    lanes: Mutex<Lanes<Histogram<u64>>>,
}

impl Latency {
    pub(super) fn new() -> Self {
        let lane = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds of the histogram are sound");
        Self { lanes: Mutex::new(Lanes::both(lane)) }
    }

    /// Hands `record` a recorder for one lane. One lock covers all frames of an ACK.
    pub(super) fn record<T>(
        &self,
        priority: FramePriority,
        record: impl FnOnce(&mut dyn FnMut(Duration, u64)) -> T,
    ) -> T {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = &mut lanes[priority];
        record(&mut |latency, count| {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            lane.saturating_record_n(micros, count);
        })
    }

    pub(super) fn quantiles(&self) -> Lanes<Quantiles> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.each_ref().map(|lane| Quantiles {
            p50: lane.value_at_quantile(0.5),
            p99: lane.value_at_quantile(0.99),
            p999: lane.value_at_quantile(0.999),
            max: lane.max(),
        })
    }
}
