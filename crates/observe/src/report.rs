//! Makes the answers of `/api/v1/stats`, `/api/v1/sources` and `/api/v1/refusals`. Events use the same types.

use std::collections::HashMap;
use std::time::Duration;

use super::sampler::{LaneRate, Quantiles};
use super::{Handles, Rates, fleet};
use api::{
    AgeHold, Archive, ArchiveStatus, Books, CatalogReport, Connections, DaemonState, LaneStats, Latency,
    Policy, Process, RefusalCounts, Refusals, Refused, Service, Source, SourceLane, Stats, StreamState,
    Subscriber, Upload,
};
use archive::Status;
use connection::Listener;
use connection::refusals::Refusal;
use feed::SubscriberView;
use frame::{Lanes, unix_now_ns};
use ingest::SourceInfo;
use wire::{self, ErrorCode};

impl Handles {
    /// The state of the daemon now. `streams` is a recent copy of all streams.
    #[must_use]
    pub fn stats(&self, streams: &[ingest::StreamView]) -> Stats {
        let rates = self.rates.borrow().clone();
        let ((totals, rejected), latest) = (self.books.observed(), self.emergencies.newest());
        let counts = self.books.lanes();
        let lane = |lane| LaneStats {
            frames: counts[lane].frames,
            payload_bytes: counts[lane].payload_bytes,
            frames_per_s: rates.lanes[lane].frames_per_s,
            bytes_per_s: rates.lanes[lane].bytes_per_s,
            ack_latency: latency(rates.ack[lane]),
        };
        let subscribers = self.subscribers.views();
        let config = self.live.current();
        let connected = streams.iter().filter(|view| view.session_id.is_some() && !view.is_carried).count();
        let (head, catalog) = (self.history.watermark(), self.catalog.borrow().clone());
        Stats {
            service: Service::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if *self.draining.borrow() { DaemonState::Draining } else { DaemonState::Running },
            unready: self.unready(),
            time_ms: unix_now_ns() / 1_000_000,
            started_ms: self.started_ns / 1_000_000,
            frames: books(totals, rejected),
            missing: streams.iter().fold(0, |sum, view| sum.saturating_add(view.missing)),
            lanes: Lanes::from_fn(lane),
            archive: self.archive(&rates),
            connections: Connections {
                sources: connected,
                sources_max: config.ingest.max_connections.get(),
                subscribers: subscribers.len(),
                subscribers_max: config.feed.max_subscribers.get(),
            },
            fleet: fleet::count(streams),
            refusals: self.refusal_counts(),
            subscribers: subscribers.iter().map(|view| subscriber(view, head)).collect(),
            emergencies: latest,
            uploads: self.uploads.as_ref().map(|uploads| upload_report(uploads.status())),
            catalog: CatalogReport { version: catalog.version(), sets: catalog.sets().len() },
            process: Process {
                memory_bytes: rates.machine.memory_bytes,
                memory_limit_bytes: config.ingest.memory_limit,
                open_files: rates.machine.open_files,
            },
        }
    }

    /// The refused connections, with reasons.
    #[must_use]
    pub fn refused(&self) -> Refusals {
        let refused = |refusal: Refusal| Refused {
            time_ms: refusal.time_ns / 1_000_000,
            listener: api_listener(refusal.listener),
            peer: refusal.peer.to_string(),
            reason: refusal.reason.name().to_owned(),
            text: refusal.text,
        };
        let newest = self.refusals.newest().into_iter().map(refused).collect();
        Refusals { counts: self.refusal_counts(), newest }
    }

    fn refusal_counts(&self) -> RefusalCounts {
        let mut counts = RefusalCounts::default();
        for (listener, reason, count) in self.refusals.counts() {
            counts.0.entry(api_listener(listener)).or_default().insert(reason.name().to_owned(), count);
        }
        counts
    }

    fn archive(&self, rates: &Rates) -> Archive {
        use std::sync::atomic::Ordering::Relaxed;
        let (status, reason) = match self.archive_status() {
            Status::Ok => (ArchiveStatus::Ok, None),
            Status::Degraded { reason } => (ArchiveStatus::Degraded, Some(reason.to_string())),
            Status::Failed { error } => (ArchiveStatus::Failed, Some(error.to_string())),
        };
        let stats = &self.archive_stats;
        Archive {
            status,
            reason,
            first_offset: self.history.first_offset(),
            next_offset: self.history.watermark(),
            segments: stats.segments.load(Relaxed),
            segment_bytes: stats.segment_bytes.load(Relaxed),
            written_bytes: stats.bytes.load(Relaxed),
            commits: stats.commits.load(Relaxed),
            sync: latency(rates.sync),
            expired_frames: stats.expired_frames.load(Relaxed),
            age_hold: self.age_holds.current().map(|hold| AgeHold {
                reason: hold.reason,
                until_ms: hold.until_ns.map(|until_ns| until_ns / 1_000_000),
            }),
            upkeep_failing: stats.upkeep_failing.load(Relaxed),
            foreign_segments: stats.foreign_segments.load(Relaxed),
            file_shortages: stats.file_shortages.load(Relaxed),
            disk_free_bytes: rates.machine.disk_free_bytes,
            disk_bytes: rates.machine.disk_bytes,
        }
    }

    /// Reports `streams` in the given order. `registered` comes from [`Handles::registered`] and gives the connections.
    #[must_use]
    pub fn sources(&self, streams: Vec<ingest::StreamView>, registered: &[SourceInfo]) -> Vec<Source> {
        let connections: HashMap<_, _> = registered.iter().map(|info| (info.session_id, info)).collect();
        let rates = self.rates.borrow().clone();
        let windows = self.live.current().ingest_config().windows();
        let report = |view: ingest::StreamView| {
            let connection = view.session_id.and_then(|session| connections.get(&session).copied());
            let rates = rates.streams.get(&view.id()).copied().unwrap_or_default();
            source(&view, connection, rates, windows)
        };
        streams.into_iter().map(report).collect()
    }
}

fn upload_report(status: upload::Status) -> Upload {
    Upload {
        store: status.store,
        pending_segments: status.pending_segments,
        pending_bytes: status.pending_bytes,
        segments: status.segments,
        bytes: status.bytes,
        failures: status.failures,
        uploaded_ms: status.uploaded_ms,
        trouble: status.trouble,
    }
}

fn books(totals: ingest::Totals, rejected: Vec<(ErrorCode, u64)>) -> Books {
    Books {
        received: totals.received,
        archived: totals.archived,
        not_stored: totals.not_stored,
        duplicates: totals.duplicates,
        rejected: totals.rejected,
        in_flight: totals.in_flight(),
        rejected_by: rejected.into_iter().map(|(code, frames)| (code.name().to_owned(), frames)).collect(),
    }
}

fn latency(quantiles: Quantiles) -> Latency {
    let ms = |duration: Option<Duration>| duration.map(milliseconds);
    Latency { p50_ms: ms(quantiles.p50), p99_ms: ms(quantiles.p99), max_ms: ms(quantiles.max) }
}

/// Rounds down to a microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn subscriber(view: &SubscriberView, head: u64) -> Subscriber {
    Subscriber {
        session: view.session_id,
        peer: view.peer.to_string(),
        policy: match view.policy {
            wire::Policy::Complete => Policy::Complete,
            wire::Policy::Timely => Policy::Timely,
        },
        since_ms: view.since_ns / 1_000_000,
        next_offset: view.next_offset,
        lag_frames: head.saturating_sub(view.next_offset),
    }
}

fn source(
    view: &ingest::StreamView,
    connection: Option<&SourceInfo>,
    rates: Lanes<LaneRate>,
    windows: Lanes<u64>,
) -> Source {
    let lane = |lane| SourceLane {
        frames: view.lanes[lane].frames,
        payload_bytes: view.lanes[lane].payload_bytes,
        frames_per_s: rates[lane].frames_per_s,
        bytes_per_s: rates[lane].bytes_per_s,
        accepted_next: view.position.accepted_next[lane],
        durable_next: view.position.durable_next[lane],
        last_frame_ms: (view.times[lane].received_ns > 0).then_some(view.times[lane].received_ns / 1_000_000),
        queued_frames: view.queued_frames[lane],
        credit_used_bytes: view.queued_cost[lane],
        credit_bytes: windows[lane],
        ack_latency_ms: (view.times[lane].received_ns > 0)
            .then(|| milliseconds(view.times[lane].ack_latency)),
    };
    let last_frame_ns = view.times.values().map(|times| times.received_ns).max().unwrap_or(0);
    Source {
        source_id: view.key.source_id,
        kind: view.key.source_kind.into(),
        station: view.key.station.as_str().to_owned(),
        state: stream_state(view.state),
        ended_ms: (view.ended_ns > 0).then_some(view.ended_ns / 1_000_000),
        session: view.session_id,
        peer: connection.map(|info| info.peer.to_string()),
        via: connection.map(|info| info.via.as_str().to_owned()).filter(|via| !via.is_empty()),
        since_ms: connection.map(|info| info.since_ns / 1_000_000),
        offline_since_ms: view.offline_since_ns.map(|since| since / 1_000_000),
        epoch: view.position.epoch,
        frames: books(view.totals, view.rejected.clone()),
        missing: view.missing,
        shared_sequence: view.shared_sequence,
        looks_shared: view.looks_shared,
        last_frame_ms: (last_frame_ns > 0).then_some(last_frame_ns / 1_000_000),
        lanes: Lanes::from_fn(lane),
    }
}

/// The state of a stream as a report shows it.
const fn stream_state(state: ingest::StreamState) -> StreamState {
    match state {
        ingest::StreamState::Connected => StreamState::Connected,
        ingest::StreamState::Ended => StreamState::Ended,
        ingest::StreamState::Lost => StreamState::Lost,
        ingest::StreamState::Removed => StreamState::Removed,
        ingest::StreamState::Offline => StreamState::Offline,
    }
}

/// A listener as a report shows it.
const fn api_listener(listener: Listener) -> api::Listener {
    match listener {
        Listener::Ingest => api::Listener::Ingest,
        Listener::Feed => api::Listener::Feed,
        Listener::Http => api::Listener::Http,
    }
}
