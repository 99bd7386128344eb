//! `POST /api/v1/streams/forget`: forgets streams.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{Kind, Whole};

/// Selects streams. All given conditions must hold, and at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// Any of these satellites or recordings.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<u32>, required = false, min_items = 1, max_items = 512)]
    pub source_ids: Option<Vec<Whole<u32>>>,
    /// Only streams of this kind.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Kind, required = false)]
    pub kind: Option<Kind>,
    /// The ground station, exactly as `/api/v1/sources` has it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 256)]
    pub station: Option<String>,
    /// A pattern for the ground station: `*` stands for any characters, `?` for one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 256)]
    pub station_glob: Option<String>,
    /// At least this many seconds without a connection. The daemon counts from its start at the earliest. 0 selects all
    /// streams that are offline.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false, maximum = 1000000000)]
    pub offline_for_s: Option<Whole<u64>>,
    /// If true, the daemon only reports the streams.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

/// Reads the value of a key that is present. A null is an error.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The result of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForgetAnswer {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// How many streams were forgotten, or would be.
    #[schema(maximum = 4096)]
    pub forgotten: usize,
    /// The first 1,000 of them.
    pub streams: Vec<ForgottenStream>,
    /// How many selected streams were refused.
    #[schema(maximum = 4096)]
    pub refused: usize,
    /// The first 1,000 of them.
    pub refusals: Vec<Refusal>,
    /// How many selected streams are beyond the limit of one request. Repeat the request for them.
    pub remaining: usize,
}

/// A stream that was forgotten, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForgottenStream {
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of the stream.
    pub kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// When its last connection ended. At the earliest the start of the daemon. Unix milliseconds.
    #[schema(required)]
    pub offline_since_ms: Option<i64>,
}

/// A stream that was not forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of the stream.
    pub kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// Why it was refused, and what to do.
    pub reason: String,
}
