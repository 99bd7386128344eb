//! `POST /api/v1/sources/epoch`: moves a stream to a lower epoch.

use frame::Lanes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Kind;
use crate::whole::whole;

/// Which stream moves to a lower epoch, and to which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochReset {
    /// The satellite or recording.
    #[serde(deserialize_with = "whole")]
    pub source_id: u32,
    /// The kind of the stream.
    pub kind: Kind,
    /// The ground station, exactly as `/api/v1/sources` has it.
    #[serde(default)]
    #[schema(default = "")]
    pub station: String,
    /// The epoch of the right client, below the current epoch of the stream.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 9223372036854775807_u64)]
    pub epoch: u64,
}

/// What a reset did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EpochAnswer {
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of the stream.
    pub kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// The position before the reset.
    pub old: StreamStand,
    /// The position after the reset.
    pub new: StreamStand,
}

by_lane!(Sequences, u64);

/// The position of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamStand {
    /// Its sequence space.
    pub epoch: u64,
    /// One past the highest sequence accepted.
    #[schema(value_type = Sequences)]
    pub accepted_next: Lanes<u64>,
    /// One past the highest sequence on stable storage.
    #[schema(value_type = Sequences)]
    pub durable_next: Lanes<u64>,
}
