//! The shapes of what is told: `/api/v1/stats` and `/api/v1/sources`, and the same as events.
//!
//! Names end in their unit. Times are unix milliseconds by this host's clock; where there is nothing to tell, `null`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sampler::{LaneRate, Quantiles};
use super::{Emergency, Fleet, Rates, View};
use crate::archive::Status;
use crate::connection::refusals::Refusal;
use crate::feed::SubscriberView;
use crate::frame::{Lanes, unix_now_ns};
use crate::ingest::{StreamView, Totals};
use crate::pipeline::SourceInfo;
use crate::wire::{ErrorCode, Policy};

/// What tells the daemon's answers from those of another server.
pub const SERVICE: &str = "telemetry-aggregator";

/// The daemon as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// [`SERVICE`].
    pub service: String,
    /// Of this program.
    pub version: String,
    /// `running` or `draining`.
    pub state: String,
    /// Why it does not take in everything it is offered; empty when it does.
    pub unready: Vec<String>,
    /// Now.
    pub time_ms: i64,
    /// When it started.
    pub started_ms: i64,
    /// The books.
    pub frames: Books,
    /// Sequences that have not come, of the current epochs of all streams.
    pub missing: u64,
    /// By lane.
    pub lanes: Lanes<LaneStats>,
    /// The log.
    pub archive: ArchiveReport,
    /// Who is connected.
    pub connections: Connections,
    /// How the fleet is.
    pub fleet: Fleet,
    /// Connections refused since the start, by listener and reason, those alone that occurred.
    pub refusals: RefusalCounts,
    /// Who is subscribed.
    pub subscribers: Vec<Subscriber>,
    /// The newest emergencies, oldest first.
    pub emergencies: Vec<Emergency>,
    /// The orbital elements.
    pub catalog: CatalogReport,
    /// The process.
    pub process: Process,
}

/// received = archived + not_stored + duplicates + rejected + in_flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Frames read from sockets.
    pub received: u64,
    /// Synced to disk.
    pub archived: u64,
    /// Replays that passed and are not kept (`archive.store_replays = false`).
    pub not_stored: u64,
    /// Dropped because they had been accepted before.
    pub duplicates: u64,
    /// Refused, for any reason.
    pub rejected: u64,
    /// On their way.
    pub in_flight: u64,
    /// Refused, by the code the peer got.
    pub rejected_by: BTreeMap<String, u64>,
}

/// One lane of all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneStats {
    /// Frames accepted since the start.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Frames accepted per second, over the last second.
    pub frames_per_s: f64,
    /// The same in bytes of payload.
    pub bytes_per_s: f64,
    /// From the socket to stable storage, over the last ten seconds.
    pub ack_latency: Latency,
}

/// A distribution of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half take less.
    pub p50_ms: Option<f64>,
    /// 99 of 100 take less.
    pub p99_ms: Option<f64>,
    /// All take less.
    pub max_ms: Option<f64>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveReport {
    /// `ok`, `degraded` or `failed`.
    pub status: String,
    /// Why it is not ok, and the way out.
    pub reason: Option<String>,
    /// Offset of the oldest frame kept.
    pub first_offset: u64,
    /// Offset behind the newest durable frame.
    pub next_offset: u64,
    /// Segments kept, the one being written included.
    pub segments: u64,
    /// What they take, space allocated ahead included.
    pub segment_bytes: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Of the syncs, over the last ten seconds.
    pub sync: Latency,
    /// Frames removed by retention since the start.
    pub expired_frames: u64,
    /// Why `archive.retention_age` removes nothing for now.
    pub age_hold: Option<AgeHold>,
    /// Segments whose upkeep (index, export, removal) failed last time.
    pub upkeep_failing: u64,
    /// Segments of another archive that were set aside and wait in `lost/` for somebody to take them away.
    pub foreign_segments: u64,
    /// Times since the start that a file of the archive could not be opened, since too many are open.
    pub file_shortages: u64,
    /// Free on its disk.
    pub disk_free_bytes: u64,
    /// Size of its disk.
    pub disk_bytes: u64,
}

/// Why nothing expires by age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeHold {
    /// What was found, and the way out.
    pub reason: String,
    /// Until when by this host's clock; `null` until somebody sets the clock.
    pub until_ms: Option<i64>,
}

/// Who is connected, and how many may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Sources.
    pub sources: usize,
    /// `ingest.max_connections`.
    pub sources_max: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// `feed.max_subscribers`.
    pub subscribers_max: usize,
}

/// How many connections were refused, by listener (`ingest`, `feed`, `http`) and reason.
pub type RefusalCounts = BTreeMap<String, BTreeMap<String, u64>>;

/// Connections that were refused, or ended for what their peers did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Since the start.
    pub counts: RefusalCounts,
    /// The newest, oldest first.
    pub newest: Vec<Refused>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub time_ms: i64,
    /// Where it connected: `ingest`, `feed` or `http`.
    pub listener: String,
    /// Where it comes from.
    pub peer: String,
    /// The code it got, or `evicted`.
    pub reason: String,
    /// What it was told.
    pub text: String,
}

/// A subscriber of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// The connection; unique while the daemon runs.
    pub session: u64,
    /// Where it comes from.
    pub peer: String,
    /// `complete` or `timely`.
    pub policy: String,
    /// When it subscribed.
    pub since_ms: i64,
    /// What it gets next.
    pub next_offset: u64,
    /// Durable frames it has not been given yet.
    pub lag_frames: u64,
}

/// The orbital elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogReport {
    /// Of the text; 0 without any.
    pub version: u64,
    /// Satellites in it.
    pub sets: usize,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory.
    pub memory_bytes: u64,
    /// What all limits together may come to (`ingest.memory_limit`).
    pub memory_limit_bytes: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
}

/// Streams, or a part of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// How many there are of what was asked for.
    pub total: usize,
    /// By source, kind and station.
    pub sources: Vec<Source>,
}

/// One stream: a source of one kind at one station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The satellite or recording.
    pub source_id: u32,
    /// `live` or `replay`.
    pub kind: String,
    /// The ground station, may be empty.
    pub station: String,
    /// `connected`; `ended` with BYE; `lost` without; `removed` by an operator; `offline` since the daemon started.
    pub state: String,
    /// When its last connection ended.
    pub ended_ms: Option<i64>,
    /// Its connection, to be used with `DELETE /api/v1/sources/{session}`.
    pub session: Option<u64>,
    /// Where that comes from.
    pub peer: Option<String>,
    /// Since when it is connected.
    pub since_ms: Option<i64>,
    /// Since when it has no connection, as far as this daemon knows: the start at the earliest.
    pub offline_since_ms: Option<i64>,
    /// Its sequence space.
    pub epoch: u64,
    /// Since the start of the daemon.
    pub frames: Books,
    /// Sequences of its epoch that have not come since the daemon started, lost or on their way.
    pub missing: u64,
    /// Its newest client set SHARED_SEQUENCE: `missing` counts both lanes as one counter, else each lane by itself.
    pub shared_sequence: bool,
    /// Its newest client did not set SHARED_SEQUENCE, and looks as if it should.
    pub looks_shared: bool,
    /// When the newest frame was read.
    pub last_frame_ms: Option<i64>,
    /// By lane.
    pub lanes: Lanes<SourceLane>,
}

/// One lane of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceLane {
    /// Frames accepted since the start of the daemon.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Frames accepted per second, over the last second.
    pub frames_per_s: f64,
    /// The same in bytes of payload.
    pub bytes_per_s: f64,
    /// One past the highest sequence accepted.
    pub accepted_next: u64,
    /// One past the highest sequence on stable storage.
    pub durable_next: u64,
    /// When its newest frame was read.
    pub last_frame_ms: Option<i64>,
    /// Frames that wait for the processor.
    pub queued_frames: usize,
    /// Credit they use.
    pub credit_used_bytes: u64,
    /// Credit there is.
    pub credit_bytes: u64,
    /// From the socket to stable storage, of the slowest frame of the newest commit.
    pub ack_latency_ms: Option<f64>,
}

impl View {
    /// The daemon as a whole, now, with `streams` as they were just looked at.
    #[must_use]
    pub fn stats(&self, streams: &[StreamView]) -> Stats {
        let rates = self.rates.borrow().clone();
        let ((totals, rejected), latest) = (self.books.observed(), self.emergencies.newest());
        let counts = self.books.lanes();
        let lane = |lane| LaneStats {
            frames: counts[lane].frames,
            payload_bytes: counts[lane].payload_bytes,
            frames_per_s: rates.lanes[lane].frames_per_s,
            bytes_per_s: rates.lanes[lane].bytes_per_s,
            ack_latency: rates.ack[lane].into(),
        };
        let subscribers = self.subscribers.views();
        let config = self.live.current();
        let connected = streams.iter().filter(|view| view.session_id.is_some()).count();
        let (head, catalog) = (self.history.watermark(), self.catalog.current());
        Stats {
            service: SERVICE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if *self.draining.borrow() { "draining" } else { "running" }.to_owned(),
            unready: self.unready(),
            time_ms: unix_now_ns() / 1_000_000,
            started_ms: self.started_ns / 1_000_000,
            frames: Books::new(totals, rejected),
            missing: streams.iter().fold(0, |sum, view| sum.saturating_add(view.missing)),
            lanes: Lanes::from_fn(lane),
            archive: self.archive(&rates),
            connections: Connections {
                sources: connected,
                sources_max: config.ingest.max_connections.get(),
                subscribers: subscribers.len(),
                subscribers_max: config.feed.max_subscribers.get(),
            },
            fleet: Fleet::of(streams),
            refusals: self.refusal_counts(),
            subscribers: subscribers.iter().map(|view| Subscriber::new(view, head)).collect(),
            emergencies: latest,
            catalog: CatalogReport { version: catalog.version(), sets: catalog.sets().len() },
            process: Process {
                memory_bytes: rates.machine.memory_bytes,
                memory_limit_bytes: config.ingest.memory_limit,
                open_files: rates.machine.open_files,
            },
        }
    }

    /// Who was refused, and why.
    #[must_use]
    pub fn refused(&self) -> Refusals {
        let refused = |refusal: Refusal| Refused {
            time_ms: refusal.time_ns / 1_000_000,
            listener: refusal.listener.name().to_owned(),
            peer: refusal.peer.to_string(),
            reason: refusal.reason.name().to_owned(),
            text: refusal.text,
        };
        let newest = self.refusals.newest().into_iter().map(refused).collect();
        Refusals { counts: self.refusal_counts(), newest }
    }

    fn refusal_counts(&self) -> RefusalCounts {
        let mut counts = RefusalCounts::new();
        for (listener, reason, count) in self.refusals.counts() {
            counts.entry(listener.name().to_owned()).or_default().insert(reason.name().to_owned(), count);
        }
        counts
    }

    fn archive(&self, rates: &Rates) -> ArchiveReport {
        use std::sync::atomic::Ordering::Relaxed;
        let (status, reason) = match self.archive_status() {
            Status::Ok => ("ok", None),
            Status::Degraded { reason } => ("degraded", Some(reason.to_string())),
            Status::Failed { error } => ("failed", Some(error.to_string())),
        };
        let stats = &self.archive_stats;
        ArchiveReport {
            status: status.to_owned(),
            reason,
            first_offset: self.history.first_offset(),
            next_offset: self.history.watermark(),
            segments: stats.segments.load(Relaxed),
            segment_bytes: stats.segment_bytes.load(Relaxed),
            written_bytes: stats.bytes.load(Relaxed),
            commits: stats.commits.load(Relaxed),
            sync: rates.sync.into(),
            expired_frames: stats.expired_frames.load(Relaxed),
            age_hold: self.archive_tuning.age_hold().map(|hold| AgeHold {
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

    /// `streams` in their order, with the connections of [`View::registered`].
    #[must_use]
    pub fn sources(&self, streams: Vec<StreamView>, registered: &[SourceInfo]) -> Vec<Source> {
        let connections: HashMap<_, _> = registered.iter().map(|info| (info.session_id, info)).collect();
        let rates = self.rates.borrow().clone();
        let windows = self.live.current().ingest_config().windows();
        let source = |view: StreamView| {
            let connection = view.session_id.and_then(|session| connections.get(&session).copied());
            let rates = rates.streams.get(&view.id()).copied().unwrap_or_default();
            Source::new(&view, connection, rates, windows)
        };
        streams.into_iter().map(source).collect()
    }
}

impl Stats {
    /// Takes out what comes from payloads, for a reader who may not read them.
    #[must_use]
    pub fn without_payloads(mut self) -> Self {
        for emergency in &mut self.emergencies {
            emergency.label = None;
        }
        self
    }
}

impl Books {
    fn new(totals: Totals, rejected: Vec<(ErrorCode, u64)>) -> Self {
        Self {
            received: totals.received,
            archived: totals.archived,
            not_stored: totals.not_stored,
            duplicates: totals.duplicates,
            rejected: totals.rejected,
            in_flight: totals.in_flight(),
            rejected_by: rejected
                .into_iter()
                .map(|(code, frames)| (code.name().to_owned(), frames))
                .collect(),
        }
    }
}

impl From<Quantiles> for Latency {
    fn from(quantiles: Quantiles) -> Self {
        let ms = |duration: Option<Duration>| duration.map(milliseconds);
        Self { p50_ms: ms(quantiles.p50), p99_ms: ms(quantiles.p99), max_ms: ms(quantiles.max) }
    }
}

/// To a microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

impl Subscriber {
    fn new(view: &SubscriberView, head: u64) -> Self {
        let policy = match view.policy {
            Policy::Complete => "complete",
            Policy::Timely => "timely",
        };
        Self {
            session: view.session_id,
            peer: view.peer.to_string(),
            policy: policy.to_owned(),
            since_ms: view.since_ns / 1_000_000,
            next_offset: view.next_offset,
            lag_frames: head.saturating_sub(view.next_offset),
        }
    }
}

impl Source {
    fn new(
        view: &StreamView,
        connection: Option<&SourceInfo>,
        rates: Lanes<LaneRate>,
        windows: Lanes<u64>,
    ) -> Self {
        let lane = |lane| SourceLane {
            frames: view.lanes[lane].frames,
            payload_bytes: view.lanes[lane].payload_bytes,
            frames_per_s: rates[lane].frames_per_s,
            bytes_per_s: rates[lane].bytes_per_s,
            accepted_next: view.position.accepted_next[lane],
            durable_next: view.position.durable_next[lane],
            last_frame_ms: (view.times[lane].received_ns > 0)
                .then_some(view.times[lane].received_ns / 1_000_000),
            queued_frames: view.queued_frames[lane],
            credit_used_bytes: view.queued_cost[lane],
            credit_bytes: windows[lane],
            ack_latency_ms: (view.times[lane].received_ns > 0)
                .then(|| milliseconds(view.times[lane].ack_latency)),
        };
        let last_frame_ns = view.times.values().map(|times| times.received_ns).max().unwrap_or(0);
        Self {
            source_id: view.key.source_id,
            kind: view.key.source_kind.name().to_owned(),
            station: view.key.station.as_str().to_owned(),
            state: view.state.name().to_owned(),
            ended_ms: (view.ended_ns > 0).then_some(view.ended_ns / 1_000_000),
            session: view.session_id,
            peer: connection.map(|info| info.peer.to_string()),
            since_ms: connection.map(|info| info.since_ns / 1_000_000),
            offline_since_ms: view.offline_since_ns.map(|since| since / 1_000_000),
            epoch: view.position.epoch,
            frames: Books::new(view.totals, view.rejected.clone()),
            missing: view.missing,
            shared_sequence: view.shared_sequence,
            looks_shared: view.looks_shared,
            last_frame_ms: (last_frame_ns > 0).then_some(last_frame_ns / 1_000_000),
            lanes: Lanes::from_fn(lane),
        }
    }
}
