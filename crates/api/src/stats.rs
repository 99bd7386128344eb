//! `/api/v1/stats`: the daemon as a whole.

use std::collections::BTreeMap;

use frame::Lanes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Kind, RefusalCounts, Service};

/// The daemon as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// The name of this daemon.
    pub service: Service,
    /// Version of this program.
    pub version: String,
    /// Whether it takes new connections.
    pub state: DaemonState,
    /// The reasons why the daemon does not accept all data that clients offer. Empty when it accepts everything.
    pub unready: Vec<String>,
    /// Time of this report. Unix milliseconds.
    pub time_ms: i64,
    /// When the daemon started. Unix milliseconds.
    pub started_ms: i64,
    /// The counters of frames.
    pub frames: Books,
    /// Missing sequences, in the current epochs of all streams.
    pub missing: u64,
    /// Counters and rates by lane.
    #[schema(value_type = StatsLanes)]
    pub lanes: Lanes<LaneStats>,
    /// The log.
    pub archive: Archive,
    /// How many clients are connected.
    pub connections: Connections,
    /// The state of the fleet.
    pub fleet: Fleet,
    /// Connections refused since the start, by listener and reason.
    pub refusals: RefusalCounts,
    /// The subscribers of the feed.
    pub subscribers: Vec<Subscriber>,
    /// The newest emergencies, oldest first.
    pub emergencies: Vec<Emergency>,
    /// The uploads of exports to object storage. Absent without `export.store`.
    #[schema(required)]
    pub uploads: Option<Upload>,
    /// The orbital elements.
    pub catalog: CatalogReport,
    /// The process.
    pub process: Process,
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

/// Whether the daemon takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// It takes new connections.
    Running,
    /// It ends, and takes no new connections.
    Draining,
}

/// Counters of frames since the start: received = archived + not_stored + duplicates + rejected + in_flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Frames refused, by the name of the code that the peer got (see docs/protocol.md).
    pub rejected_by: BTreeMap<String, u64>,
}

by_lane!(StatsLanes, LaneStats);

/// One lane of all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneStats {
    /// Frames accepted since the start.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Frames accepted per second, over the last second.
    #[schema(minimum = 0)]
    pub frames_per_s: f64,
    /// Bytes of payload accepted per second, over the last second.
    #[schema(minimum = 0)]
    pub bytes_per_s: f64,
    /// Time from the socket to stable storage, over the last ten seconds.
    pub ack_latency: Latency,
}

/// A distribution of durations. `null` without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Half of them take less.
    #[schema(required, minimum = 0)]
    pub p50_ms: Option<f64>,
    /// 99 of 100 take less.
    #[schema(required, minimum = 0)]
    pub p99_ms: Option<f64>,
    /// The longest.
    #[schema(required, minimum = 0)]
    pub max_ms: Option<f64>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Archive {
    /// Whether the archive works.
    pub status: ArchiveStatus,
    /// Why the status is not `ok`, and what to do.
    #[schema(required)]
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
    #[schema(required)]
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

/// The uploads of exports to object storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// The URL of the store.
    pub store: String,
    /// Exported segments that are not in the store.
    pub pending_segments: u64,
    /// Size of their files in bytes.
    pub pending_bytes: u64,
    /// Segments uploaded since the start.
    pub segments: u64,
    /// Bytes of files uploaded since the start.
    pub bytes: u64,
    /// Tries that failed since the start.
    pub failures: u64,
    /// When the last segment was uploaded since the start. Unix milliseconds.
    #[schema(required)]
    pub uploaded_ms: Option<i64>,
    /// Why the last try failed, and what to do.
    #[schema(required)]
    pub trouble: Option<String>,
}

/// Whether the archive works. `degraded`: an operator must do something. `failed`: it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveStatus {
    /// It works.
    Ok,
    /// An operator must do something.
    Degraded,
    /// It has ended.
    Failed,
}

/// Why nothing expires by age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgeHold {
    /// What was found, and what to do.
    pub reason: String,
    /// When the hold ends, by this host's clock. `null` if an operator must set the clock first. Unix milliseconds.
    #[schema(required)]
    pub until_ms: Option<i64>,
}

/// How many clients are connected, and their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// Connections of sources that speak the daemon's protocol. `fleet` also counts what links carry.
    pub sources: usize,
    /// Limit for sources, `ingest.max_connections`.
    pub sources_max: usize,
    /// Connected subscribers.
    pub subscribers: usize,
    /// Limit for subscribers, `feed.max_subscribers`.
    pub subscribers_max: usize,
}

/// Counts of sources by the state of their connections.
///
/// Each source counts once, even if several stations know it. It counts as connected if any of its streams is
/// connected. Otherwise it counts like its stream that ended last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// The state of the fleet.
    pub state: FleetState,
    /// Sources with a connection.
    pub connected: u64,
    /// Sources that said BYE.
    pub ended: u64,
    /// Sources that vanished without BYE.
    pub lost: u64,
    /// Sources whose connections an operator ended.
    pub removed: u64,
    /// Sources that the archive knows and that have not connected since the daemon started.
    pub offline: u64,
}

/// The state of the fleet. `ok`: some are connected and none is lost. `degraded`: some are connected and some are lost.
/// `lost`: none is connected and some are lost. `idle`: none is connected and none is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FleetState {
    /// Some are connected and none is lost.
    Ok,
    /// Some are connected and some are lost.
    Degraded,
    /// None is connected and some are lost.
    Lost,
    /// None is connected and none is lost.
    #[default]
    Idle,
}

/// A subscriber of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscriber {
    /// Id of the session, unique while the daemon runs.
    pub session: u64,
    /// Address and port of the peer.
    pub peer: String,
    /// Whether it gets every frame.
    pub policy: Policy,
    /// When the client subscribed. Unix milliseconds.
    pub since_ms: i64,
    /// Offset of the frame that the subscriber gets next.
    pub next_offset: u64,
    /// Durable frames that the daemon has not sent to the subscriber yet.
    pub lag_frames: u64,
}

/// Whether a subscriber gets every frame (`complete`), or skips frames when it is late (`timely`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It gets every frame.
    Complete,
    /// It skips frames when it is late.
    Timely,
}

/// One emergency frame that is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Emergency {
    /// Its offset in the archive.
    pub offset: u64,
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of its stream.
    pub kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// The sequence of the frame.
    pub sequence: u64,
    /// When it was read from the socket. Unix milliseconds.
    pub received_ms: i64,
    /// Size of its payload.
    pub payload_bytes: usize,
    /// The text that its payload begins with, such as `SAFE_MODE`. Empty without such a text. `null` for a request that
    /// `/api/v1/frames` would refuse (401, 403).
    #[schema(required)]
    pub label: Option<String>,
}

/// The orbital elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogReport {
    /// Version of the catalog. 0 without a catalog.
    pub version: u64,
    /// Satellites in it.
    pub sets: usize,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Resident memory.
    pub memory_bytes: u64,
    /// The sum of all memory limits may be at most this (`ingest.memory_limit`).
    pub memory_limit_bytes: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
}
