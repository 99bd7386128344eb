//! The shapes of `/api/v1/stats` and `/api/v1/sources`. Events use the same shapes.
//!
//! Names end in their unit. Times are unix milliseconds by this host's clock. An absent value is `null`.

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

/// The name that distinguishes the daemon's answers from those of another server.
pub const SERVICE: &str = "telemetry-aggregator";

/// The daemon as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// [`SERVICE`].
    pub service: String,
    /// Version of this program.
    pub version: String,
    /// `running` or `draining`.
    pub state: String,
    /// The reasons why the daemon does not accept all data that clients offer. Empty when it accepts everything.
    pub unready: Vec<String>,
    /// Time of this report.
    pub time_ms: i64,
    /// When the daemon started.
    pub started_ms: i64,
    /// The counters of frames.
    pub frames: Books,
    /// Missing sequences, in the current epochs of all streams.
    pub missing: u64,
    /// Counters and rates by lane.
    pub lanes: Lanes<LaneStats>,
    /// The log.
    pub archive: ArchiveReport,
    /// How many clients are connected.
    pub connections: Connections,
    /// The state of the fleet.
    pub fleet: Fleet,
    /// Connections refused since the start, by listener and reason. A reason that did not occur is absent.
    pub refusals: RefusalCounts,
    /// The subscribers of the feed.
    pub subscribers: Vec<Subscriber>,
    /// The newest emergencies, oldest first.
    pub emergencies: Vec<Emergency>,
    /// The orbital elements.
    pub catalog: CatalogReport,
    /// The process.
    pub process: Process,
}

/// Counters of frames. received = archived + not_stored + duplicates + rejected + in_flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Frames read from sockets.
    pub received: u64,
    /// Frames synced to disk.
    pub archived: u64,
    /// Replays that were processed but not stored (`archive.store_replays = false`).
    pub not_stored: u64,
    /// Frames dropped because they had been accepted before.
    pub duplicates: u64,
    /// Frames refused, for any reason.
    pub rejected: u64,
    /// Frames received and not counted in any other group yet.
    pub in_flight: u64,
    /// Frames refused, by the code that the peer got.
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
    /// Bytes of payload accepted per second, over the last second.
    pub bytes_per_s: f64,
    /// Time from the socket to stable storage, over the last ten seconds.
    pub ack_latency: Latency,
}

/// A distribution of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them take less.
    pub p50_ms: Option<f64>,
    /// 99 of 100 take less.
    pub p99_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveReport {
    /// `ok`, `degraded` or `failed`.
    pub status: String,
    /// Why the status is not `ok`, and what to do.
    pub reason: Option<String>,
    /// Offset of the oldest frame kept.
    pub first_offset: u64,
    /// Offset behind the newest durable frame.
    pub next_offset: u64,
    /// Segments kept. The segment being written counts.
    pub segments: u64,
    /// Disk space of the segments. Space that is allocated ahead counts.
    pub segment_bytes: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Durations of the syncs, over the last ten seconds.
    pub sync: Latency,
    /// Frames removed by retention since the start.
    pub expired_frames: u64,
    /// Why `archive.retention_age` removes nothing at the moment.
    pub age_hold: Option<AgeHold>,
    /// Segments whose maintenance (index, export, removal) failed last time.
    pub upkeep_failing: u64,
    /// Segments of another archive that were set aside in `lost/`. An operator must move them away.
    pub foreign_segments: u64,
    /// How often since the start a file of the archive could not be opened because too many files are open.
    pub file_shortages: u64,
    /// Free space on its disk.
    pub disk_free_bytes: u64,
    /// Size of its disk.
    pub disk_bytes: u64,
}

/// Why nothing expires by age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeHold {
    /// What was found, and what to do.
    pub reason: String,
    /// When the hold ends, by this host's clock. `null` if an operator must set the clock first.
    pub until_ms: Option<i64>,
}

/// How many clients are connected, and their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Connected sources.
    pub sources: usize,
    /// Limit for sources, `ingest.max_connections`.
    pub sources_max: usize,
    /// Connected subscribers.
    pub subscribers: usize,
    /// Limit for subscribers, `feed.max_subscribers`.
    pub subscribers_max: usize,
}

/// How many connections were refused, by listener (`ingest`, `feed`, `http`) and reason.
pub type RefusalCounts = BTreeMap<String, BTreeMap<String, u64>>;

/// Connections that were refused, or ended because of an error of the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Counts since the start.
    pub counts: RefusalCounts,
    /// The newest refusals, oldest first.
    pub newest: Vec<Refused>,
}

/// One refused connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When it was refused.
    pub time_ms: i64,
    /// The listener that it connected to: `ingest`, `feed` or `http`.
    pub listener: String,
    /// Address of the peer.
    pub peer: String,
    /// The code that the peer got, or `evicted`.
    pub reason: String,
    /// The text of the refusal.
    pub text: String,
}

/// A subscriber of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// Id of the session, unique while the daemon runs.
    pub session: u64,
    /// Address of the peer.
    pub peer: String,
    /// `complete` or `timely`.
    pub policy: String,
    /// When the client subscribed.
    pub since_ms: i64,
    /// Offset of the frame that the subscriber gets next.
    pub next_offset: u64,
    /// Durable frames that the daemon has not sent to the subscriber yet.
    pub lag_frames: u64,
}

/// The orbital elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogReport {
    /// Version of the catalog. 0 without a catalog.
    pub version: u64,
    /// Satellites in it.
    pub sets: usize,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory.
    pub memory_bytes: u64,
    /// The sum of all memory limits may be at most this (`ingest.memory_limit`).
    pub memory_limit_bytes: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
}

/// Streams, or a part of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// How many streams match the request.
    pub total: usize,
    /// Streams in order of source, kind and station.
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
    /// `connected`; `ended` with BYE; `lost` without BYE; `removed` by an operator; `offline` since the daemon started.
    pub state: String,
    /// When its last connection ended.
    pub ended_ms: Option<i64>,
    /// Id of its session, for `DELETE /api/v1/sources/{session}`.
    pub session: Option<u64>,
    /// Address of its peer.
    pub peer: Option<String>,
    /// When the connection began.
    pub since_ms: Option<i64>,
    /// When its last connection ended. At the earliest the start of the daemon.
    pub offline_since_ms: Option<i64>,
    /// Its sequence space.
    pub epoch: u64,
    /// Counters since the start of the daemon.
    pub frames: Books,
    /// Sequences of its epoch that have not come since the daemon started. They are lost or on their way.
    pub missing: u64,
    /// Its newest client set SHARED_SEQUENCE. If true, `missing` counts both lanes as one counter. If false, it counts
    /// each lane separately.
    pub shared_sequence: bool,
    /// Its newest client did not set SHARED_SEQUENCE, but its sequences look shared.
    pub looks_shared: bool,
    /// When the newest frame was read.
    pub last_frame_ms: Option<i64>,
    /// Counters of each lane.
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
    /// Bytes of payload accepted per second, over the last second.
    pub bytes_per_s: f64,
    /// One past the highest sequence accepted.
    pub accepted_next: u64,
    /// One past the highest sequence on stable storage.
    pub durable_next: u64,
    /// When its newest frame was read.
    pub last_frame_ms: Option<i64>,
    /// Frames that wait for the processor.
    pub queued_frames: usize,
    /// Credit in use.
    pub credit_used_bytes: u64,
    /// Total credit.
    pub credit_bytes: u64,
    /// Time from the socket to stable storage of the slowest frame in the newest commit.
    pub ack_latency_ms: Option<f64>,
}

impl View {
    /// The state of the daemon now. `streams` is a recent copy of all streams.
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

    /// The refused connections, with reasons.
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

    /// Reports `streams` in the given order. `registered` comes from [`View::registered`] and gives the connections.
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
    /// Removes everything that comes from payloads, for a reader who may not read payloads.
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

/// Rounds down to a microsecond.
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
