//! `/api/v1/sources`: the streams.

use frame::Lanes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Books, Kind};

/// Which streams are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SourcesQuery {
    /// Only streams in this state. `disconnected` is every state but `connected`.
    #[param(value_type = StateChoice, required = false, inline)]
    pub state: Option<String>,
    /// Only streams of this source.
    #[param(nullable = false)]
    pub source: Option<u32>,
    /// How many of them come before this page.
    #[param(nullable = false)]
    pub offset: Option<usize>,
    /// At most this many streams on the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 1000)]
    pub limit: Option<usize>,
}

/// A state of streams, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateChoice {
    /// [`StreamState::Connected`].
    Connected,
    /// [`StreamState::Ended`].
    Ended,
    /// [`StreamState::Lost`].
    Lost,
    /// [`StreamState::Removed`].
    Removed,
    /// [`StreamState::Offline`].
    Offline,
    /// Every state but connected.
    Disconnected,
}

/// A page of the streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sources {
    /// How many streams match the request, on this page or not.
    pub total: usize,
    /// The streams on this page, in order of source, kind and station.
    pub sources: Vec<Source>,
}

/// One stream: a source of one kind at one station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of the stream.
    pub kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// What became of its connection.
    pub state: StreamState,
    /// When its last connection ended, if that was since the daemon started. Unix milliseconds.
    #[schema(required)]
    pub ended_ms: Option<i64>,
    /// Id of its session, for `DELETE /api/v1/sources/{session}`.
    #[schema(required)]
    pub session: Option<u64>,
    /// Address and port of its peer.
    #[schema(required)]
    pub peer: Option<String>,
    /// The name of the daemon that forwards it. Null for a source that connects itself.
    #[schema(required)]
    pub via: Option<String>,
    /// When the connection began. Unix milliseconds.
    #[schema(required)]
    pub since_ms: Option<i64>,
    /// When its last connection ended. At the earliest the start of the daemon. Unix milliseconds.
    #[schema(required)]
    pub offline_since_ms: Option<i64>,
    /// Its sequence space. From 2^63 on, the daemon gave it to a connection that asked for none.
    pub epoch: u64,
    /// Counters since the start of the daemon.
    pub frames: Books,
    /// Sequences of its epoch that have not come since the daemon started. They are lost or on their way.
    pub missing: u64,
    /// Whether its newest client set SHARED_SEQUENCE. If true, `missing` counts both lanes as one counter. If false, it
    /// counts each lane separately.
    pub shared_sequence: bool,
    /// Its newest client did not set SHARED_SEQUENCE, but each lane has the sequences that the other lacks: the client
    /// should set the flag.
    pub looks_shared: bool,
    /// When the newest frame was read. Unix milliseconds.
    #[schema(required)]
    pub last_frame_ms: Option<i64>,
    /// Counters of each lane.
    #[schema(value_type = SourceLanes)]
    pub lanes: Lanes<SourceLane>,
}

/// The state of a stream. `connected`: a connection speaks for it. `ended`: the last one said BYE. `lost`: the last one
/// vanished without BYE. `removed`: an operator ended the last one. `offline`: it has not connected since the daemon
/// started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// A connection speaks for it.
    Connected,
    /// The last connection said BYE.
    Ended,
    /// The last connection vanished without BYE.
    Lost,
    /// It has not connected since the daemon started.
    Offline,
    /// An operator ended the last connection.
    Removed,
}

by_lane!(SourceLanes, SourceLane);

/// One lane of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceLane {
    /// Frames accepted since the start of the daemon.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Frames accepted per second, over the last second.
    #[schema(minimum = 0)]
    pub frames_per_s: f64,
    /// Bytes of payload accepted per second, over the last second.
    #[schema(minimum = 0)]
    pub bytes_per_s: f64,
    /// One past the highest sequence accepted.
    pub accepted_next: u64,
    /// One past the highest sequence on stable storage.
    pub durable_next: u64,
    /// When its newest frame was read. Unix milliseconds.
    #[schema(required)]
    pub last_frame_ms: Option<i64>,
    /// Frames that wait for the processor.
    pub queued_frames: usize,
    /// Credit in use.
    pub credit_used_bytes: u64,
    /// Total credit.
    pub credit_bytes: u64,
    /// Time from the socket to stable storage of the slowest frame in the newest commit.
    #[schema(required, minimum = 0)]
    pub ack_latency_ms: Option<f64>,
}
