//! The requests and answers of the HTTP API. The daemon writes the answers, and `top`, `health` and `streams` read
//! them. The OpenAPI document of the daemon is generated from these types: their doc comments are its descriptions.
//!
//! Names end in their unit. Times are unix milliseconds by the clock of the daemon's host. An absent value is `null`.
//!
//! This crate does no I/O and depends on no other part of the daemon but the lanes and kinds of [`frame`].
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | what several answers share: [`Service`], [`Problem`], [`Kind`], [`Priority`] |
//! | `health.rs` | `/healthz` and `/readyz`: [`Health`], [`Readiness`] |
//! | `stats.rs` | `/api/v1/stats`: [`Stats`] and its parts |
//! | `refusals.rs` | `/api/v1/refusals`: [`Refusals`] |
//! | `sources.rs` | `/api/v1/sources`: [`Sources`] and [`SourcesQuery`] |
//! | `links.rs` | `/api/v1/links`: [`Links`] and [`LinkChannels`] |
//! | `outputs.rs` | `/api/v1/outputs`: [`Outputs`] and [`OutputReaders`] |
//! | `page.rs` | which page of a list is asked for: [`ListQuery`] and [`PartsQuery`] |
//! | `epoch.rs` | `/api/v1/sources/epoch`: [`EpochReset`] and [`EpochAnswer`] |
//! | `forget.rs` | `/api/v1/streams/forget`: [`ForgetRequest`] and [`ForgetAnswer`] |
//! | `frames.rs` | `/api/v1/frames`: [`Frames`] and [`FramesQuery`] |
//! | `catalog.rs` | `/api/v1/catalog`: [`Catalog`], [`CatalogPut`] and [`CatalogQuery`] |
//! | `whole.rs` | whole numbers in requests: [`Whole`] |

use std::fmt;

use frame::{FramePriority, SourceKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Declares the schema of [`frame::Lanes`] with values of one type, for the OpenAPI document.
macro_rules! by_lane {
    ($name:ident, $value:ty) => {
        /// A value for each lane.
        #[derive(utoipa::ToSchema)]
        #[allow(dead_code, reason = "only its schema is used")]
        struct $name {
            /// Of the emergency lane.
            emergency: $value,
            /// Of the routine lane.
            routine: $value,
        }
    };
}

mod catalog;
mod epoch;
mod forget;
mod frames;
mod health;
mod links;
mod outputs;
mod page;
mod refusals;
mod sources;
mod stats;
mod whole;

pub use catalog::{Catalog, CatalogFormat, CatalogPut, CatalogQuery, SubPoint};
pub use epoch::{EpochAnswer, EpochReset, StreamStand};
pub use forget::{ForgetAnswer, ForgetRequest, ForgottenStream, Refusal};
pub use frames::{Frame, Frames, FramesQuery, Gap, GapKind};
pub use health::{Health, HealthStatus, Readiness};
pub use links::{Link, LinkChannel, LinkChannels, LinkCounts, LinkState, Links};
pub use outputs::{Forwarding, Output, OutputCounts, OutputReader, OutputReaders, OutputState, Outputs};
pub use page::{ListQuery, PartsQuery};
pub use refusals::{Listener, RefusalCounts, Refusals, Refused};
pub use sources::{Source, SourceLane, Sources, SourcesQuery, StateChoice, StreamState};
pub use stats::{
    AgeHold, Archive, ArchiveStatus, Books, CatalogReport, Connections, DaemonState, Emergency, Fleet,
    FleetState, LaneStats, Latency, Policy, Process, Stats, Subscriber, Upload,
};
pub use whole::Whole;

/// The body of the answer to a request in clear text on a port that speaks TLS.
pub const NOT_TLS: &str = "this port speaks TLS: ask for https:// here\n";

/// Marks an answer as one of this daemon and not of another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Service {
    /// This daemon.
    #[default]
    #[serde(rename = "telemetry-aggregator")]
    TelemetryAggregator,
}

/// The body of every error: why the daemon does not do what the request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// For programs: the status in words, such as `not_found`.
    pub error: String,
    /// For people: which value is wrong and why, and what to do.
    pub reason: String,
}

/// Whether a station receives the satellite at this moment, or a recording is played back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A satellite that a ground station sees at this moment.
    Live,
    /// A recording that is played back.
    Replay,
}

impl From<SourceKind> for Kind {
    fn from(kind: SourceKind) -> Self {
        match kind {
            SourceKind::LiveUplink => Self::Live,
            SourceKind::ArchivedReplay => Self::Replay,
        }
    }
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Live => Self::LiveUplink,
            Kind::Replay => Self::ArchivedReplay,
        }
    }
}

/// A lane of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The lane of emergencies.
    Emergency,
    /// The lane of everything else.
    Routine,
}

impl From<Priority> for FramePriority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Emergency => Self::Emergency,
            Priority::Routine => Self::Routine,
        }
    }
}

/// Displays words as JSON has them.
macro_rules! display_as_in_json {
    ($($word:ty),*) => {
        $(impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        })*
    };
}

display_as_in_json!(
    Service,
    Kind,
    DaemonState,
    ArchiveStatus,
    FleetState,
    StreamState,
    Policy,
    Listener,
    LinkState,
    OutputState
);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn words_are_displayed_as_in_json() {
        assert_eq!(Service::TelemetryAggregator.to_string(), "telemetry-aggregator");
        assert_eq!(format!("{:<8}|", Policy::Timely), "timely  |");
        assert_eq!(serde_json::to_value(Kind::Live).unwrap(), Kind::Live.to_string());
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        let read = |text: &str| serde_json::from_str::<Whole<u32>>(text).ok();
        for (text, number) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("0.5", None),
            ("-1", None),
            ("4294967296", None),
            ("\"7\"", None),
        ] {
            assert_eq!(read(text), number.map(Whole), "{text}");
        }
    }

    #[test]
    fn a_condition_that_is_null_or_unknown_is_an_error() {
        let read = |text: &str| serde_json::from_str::<ForgetRequest>(text);
        assert_eq!(read(r#"{"kind":"live"}"#).unwrap().kind, Some(Kind::Live));
        assert!(read(r#"{"kind":null}"#).is_err());
        assert!(read(r#"{"kinds":"live"}"#).is_err());
    }
}
