//! The transport `aggregator` of an output: a forwarder into another telemetry aggregator.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::addresses::Endpoint;
use crate::draft::Draft;
use crate::token_files::read_or_report;
use crate::tree::path as key_of;
use crate::values::{display, endpoint, integer, path, station};
use frame::Station;
use support::secret::Secret;

/// Limit of connections to another aggregator.
const CONNECTIONS_MAX: i64 = 1_024;

/// A forwarder into another telemetry aggregator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AggregatorTransport {
    /// The address where the other aggregator takes sources.
    #[serde(rename = "aggregator", deserialize_with = "endpoint", serialize_with = "display")]
    pub to: Endpoint,
    /// A file with the token that the other aggregator knows.
    #[serde(default, with = "path", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether connections are encrypted, with the files of `[tls]`.
    #[serde(default)]
    pub tls: bool,
    /// The name of this daemon there. Empty: the name of the host.
    #[serde(default, deserialize_with = "station", serialize_with = "display")]
    pub via: Station,
    /// Connections at a time, each for one stream.
    #[serde(default = "connections", deserialize_with = "integer::<1, CONNECTIONS_MAX, _, _>")]
    pub connections: usize,
    /// The content of the file with the token.
    #[serde(skip)]
    pub token: Option<Secret>,
}

const fn connections() -> usize {
    64
}

/// Reads the token, and checks that there is an authority if connections are encrypted. Adds errors to `draft`.
pub(super) fn resolve(draft: &mut Draft<'_>, key: &str, aggregator: &mut AggregatorTransport) {
    if let Some(file) = aggregator.token_file.clone() {
        aggregator.token = read_or_report(draft, &key_of(key, "token_file"), &file);
    }
    if aggregator.tls && draft.config.tls.ca.is_none() {
        let what = "needs tls.ca, the authorities that sign the certificate of the other aggregator";
        draft.problem(&key_of(key, "tls"), what);
    }
}
