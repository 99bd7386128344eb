//! `/api/v1/refusals`: the connections that were refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many connections were refused since the start, by listener and reason. The reason is the name of the code that
/// the peer got (see docs/protocol.md), or `evicted`. A reason that did not occur is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct RefusalCounts(pub BTreeMap<Listener, BTreeMap<String, u64>>);

/// Connections that were refused, or ended because of an error of the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusals {
    /// Counts since the start.
    pub counts: RefusalCounts,
    /// The newest 64 refusals, oldest first.
    pub newest: Vec<Refused>,
}

/// One refused connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// When it was refused. Unix milliseconds.
    pub time_ms: i64,
    /// The listener that it connected to.
    pub listener: Listener,
    /// Address and port of the peer.
    pub peer: String,
    /// The name of the code that the peer got, or `evicted`.
    pub reason: String,
    /// The text of the refusal. It never contains the token of the peer.
    pub text: String,
}

/// A listener of the daemon: of sources, of subscribers, or of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    /// The listener of subscribers.
    Feed,
    /// The listener of HTTP.
    Http,
    /// The listener of sources.
    Ingest,
}
