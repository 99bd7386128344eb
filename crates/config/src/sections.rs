//! The sections of the file as plain data, with the limits of each value and the defaults.
//!
//! Sizes are in bytes. [`super::values`] reads and writes the values. [`super::check`] checks that they fit together. A
//! [`Config`](super::Config) from [`load`](super::Config::load) has passed both.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls_sides::TlsFiles;
use super::units::{GIB, KIB, MIB, TIB};
use super::values::{
    DurationIn, SizeIn, address, client_name, display_each, integer, path, path_or_empty, secret, sources,
    stations, store,
};
use archive::{self, DirectIo, PAYLOAD_BYTES_MAX};
use export::ExportFormat;
use frame::Station;
use ingest::pipeline::PROCESSOR_FRAMES_MAX;
use ingest::pipeline::fan_in::FanInConfig;
use support::secret::Secret;
use upload::StoreUrl;

/// `[log]`: what is written to stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// Least severe level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only failures.
    Error,
    /// Also warnings, which need attention.
    Warn,
    /// Also the normal events.
    #[default]
    Info,
    /// Also one line per frame.
    Debug,
    /// Also the inner steps.
    Trace,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The names of [`DirectIo`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "DirectIo", rename_all = "lowercase")]
enum DirectIoName {
    Auto,
    Off,
}

/// `[ingest]`: the listener for sources (protocol.md, "Source connections").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Ingest {
    /// Address for sources. Port 0 lets the system choose.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Limit of connections with a valid HELLO. One more gets `busy`.
    #[serde(deserialize_with = "integer::<1, 65_536, _, _>")]
    pub max_connections: NonZeroUsize,
    /// Limit of these connections per IP address. One more gets `busy`.
    #[serde(deserialize_with = "integer::<1, 65_536, _, _>")]
    pub max_connections_per_address: NonZeroUsize,
    /// Time limit for a complete HELLO. Then the client gets `idle`.
    #[serde(with = "DurationIn::<10, 300_000>")]
    pub hello_timeout: Duration,
    /// Heartbeat for clients that ask for none, in whole seconds.
    #[serde(with = "DurationIn::<1_000, 300_000, true>")]
    pub heartbeat: Duration,
    /// Longest message body in bytes. A longer one gets `too_large`.
    #[serde(with = "SizeIn::<{ 4 * KIB }, { PAYLOAD_BYTES_MAX as u64 }>")]
    pub max_message: u64,
    /// Credit of a stream's routine lane in bytes. Senders wait when it is used up.
    #[serde(with = "SizeIn::<{ 4 * KIB }, GIB>")]
    pub routine_window: u64,
    /// Credit of a stream's emergency lane in bytes. Senders wait when it is used up.
    #[serde(with = "SizeIn::<{ 4 * KIB }, GIB>")]
    pub emergency_window: u64,
    /// Upper bound of the memory of all limits in bytes, see [`MemoryBound`](super::MemoryBound).
    #[serde(with = "SizeIn::<MIB, TIB>")]
    pub memory_limit: u64,
    /// Limit of streams whose positions are kept. A new stream beyond it gets `limit`.
    #[serde(deserialize_with = "integer::<1, { 1 << 20 }, _, _>")]
    pub max_streams: NonZeroUsize,
    /// Limit of streams of one source id. A new stream beyond it gets `limit`.
    #[serde(deserialize_with = "integer::<1, { 1 << 20 }, _, _>")]
    pub max_streams_per_source: NonZeroUsize,
    /// Limit of takeovers of one stream within a minute. One more gets `busy`.
    #[serde(deserialize_with = "integer::<1, 60_000, _, _>")]
    pub max_takeovers_per_minute: NonZeroU32,
    /// Whether connections are encrypted, once there is a [`Tls::certificate`].
    pub tls: bool,
    /// Credentials. Without any, and without [`clients`](Self::clients), every client may connect. This is only allowed on
    /// a loopback address.
    pub tokens: Vec<Token>,
    /// Clients that prove their names by certificates.
    pub clients: Vec<NamedClient>,
}

/// A credential of `[[ingest.tokens]]` or `[[feed.tokens]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Token {
    /// The credential itself, from the configuration or from `token_file`.
    #[serde(default = "Secret::awaited", deserialize_with = "secret::deserialize")]
    pub token: Secret,
    /// The file with the credential, if it is not in the configuration itself.
    #[serde(default, deserialize_with = "path::deserialize")]
    pub token_file: Option<PathBuf>,
    /// Sources that the client may send for (ingest) or read (feed). Empty means all.
    #[serde(default, deserialize_with = "sources")]
    pub sources: BTreeSet<u32>,
    /// Stations that the client may send from (ingest only). Empty means all.
    #[serde(default, deserialize_with = "stations", serialize_with = "display_each")]
    pub stations: BTreeSet<Station>,
}

/// A client of `[[ingest.clients]]` or `[[feed.clients]]`, which proves its name by a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NamedClient {
    /// A subject alternative name of the certificate, in small letters.
    #[serde(deserialize_with = "client_name")]
    pub name: String,
    /// Sources that the client may send for (ingest) or read (feed). Empty means all.
    #[serde(default, deserialize_with = "sources")]
    pub sources: BTreeSet<u32>,
    /// Stations that the client may send from (ingest only). Empty means all.
    #[serde(default, deserialize_with = "stations", serialize_with = "display_each")]
    pub stations: BTreeSet<Station>,
}

/// `[tls]`: the certificate of the daemon, and the authorities that it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Tls {
    /// File with the certificate and its chain, in PEM. If absent, nothing is encrypted.
    #[serde(with = "path")]
    pub certificate: Option<PathBuf>,
    /// File with the key of the certificate, in PEM.
    #[serde(with = "path")]
    pub key: Option<PathBuf>,
    /// File with the authorities that sign the certificates of clients, and of the servers that links connect to.
    #[serde(with = "path")]
    pub ca: Option<PathBuf>,
    /// The content of the files.
    #[serde(skip)]
    pub files: TlsFiles,
}

/// `[pipeline]`: the path from the sessions to the archive and the consumers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Pipeline {
    /// Limit of frames in the processor's input. The fan-in waits when it is full.
    #[serde(deserialize_with = "integer::<1, { PROCESSOR_FRAMES_MAX as i64 }, _, _>")]
    pub processor_capacity: NonZeroUsize,
    /// Batches the broadcast keeps for slow consumers. A consumer that lags further misses frames and gets a report.
    #[serde(deserialize_with = "integer::<1, 65_536, _, _>")]
    pub broadcast_capacity: NonZeroUsize,
    /// When a routine frame has waited this long, one routine batch follows every 8 emergency batches.
    #[serde(with = "DurationIn::<1, 60_000>")]
    pub routine_max_delay: Duration,
}

/// A hundred years of 365 days. A longer time is most likely a typing error.
pub(super) const CENTURY_MS: u64 = 100 * 365 * 86_400 * 1_000;

/// `[archive]`: the segment log in `data_dir/archive`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Archive {
    /// How long a commit collects routine frames. Zero commits at once.
    #[serde(with = "DurationIn::<0, 1_000>")]
    pub commit_delay: Duration,
    /// Size of a segment file in bytes.
    #[serde(with = "SizeIn::<{ 8 * MIB }, { 64 * GIB }>")]
    pub segment_size: u64,
    /// Bytes kept free for emergencies when the disk fills up. At this limit routine waits.
    #[serde(with = "SizeIn::<MIB, { 64 * GIB }>")]
    pub reserve: u64,
    /// Age from which segments are deleted. Absent keeps them.
    #[serde(with = "DurationIn::<1_000, CENTURY_MS>")]
    pub retention_age: Option<Duration>,
    /// Total size in bytes above which the oldest segments are deleted. Absent keeps them.
    #[serde(with = "SizeIn::<{ 16 * MIB }, { 1024 * 1024 * TIB }>")]
    pub retention_size: Option<u64>,
    /// Whether blocks bypass the page cache.
    #[serde(with = "DirectIoName")]
    pub direct_io: DirectIo,
    /// Whether replayed frames are stored too.
    pub store_replays: bool,
    /// Directory to which each sealed segment is exported; `None` exports nothing.
    #[serde(with = "path_or_empty")]
    pub export: Option<PathBuf>,
    /// The file format of the export.
    pub export_format: ExportFormat,
}

/// `[export]`: what happens to the exports of sealed segments, see [`Archive::export`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Export {
    /// The object storage to which exports are uploaded. Absent uploads nothing.
    #[serde(with = "store")]
    pub store: Option<StoreUrl>,
    /// How long after its upload an export stays in [`Archive::export`]. Absent keeps it.
    #[serde(with = "DurationIn::<0, CENTURY_MS>")]
    pub local_retention: Option<Duration>,
}

/// `[feed]`: the listener for subscribers (protocol.md, "Feed connections").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Feed {
    /// Address for subscribers. Port 0 lets the system choose.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Limit of subscribers. One more gets `busy`.
    #[serde(deserialize_with = "integer::<1, 65_536, _, _>")]
    pub max_subscribers: NonZeroUsize,
    /// Whether connections are encrypted, once there is a [`Tls::certificate`].
    pub tls: bool,
    /// Credentials. Without any, and without [`clients`](Self::clients), every client may connect. This is only allowed on
    /// a loopback address.
    pub tokens: Vec<Token>,
    /// Clients that prove their names by certificates.
    pub clients: Vec<NamedClient>,
}

/// `[http]`: health, metrics, API and dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Http {
    /// Address to listen on. Port 0 lets the system choose.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Whether connections are encrypted, once there is a [`Tls::certificate`].
    pub tls: bool,
    /// Credential for requests. If absent, requests need none.
    #[serde(with = "secret")]
    pub token: Option<Secret>,
    /// The file with [`Http::token`], if the token is not in the configuration itself.
    #[serde(with = "path")]
    pub token_file: Option<PathBuf>,
}

/// `[catalog]`: the orbital elements for sessions that ask for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Catalog {
    /// File with TLE text. If absent, the catalog is empty at the start.
    #[serde(with = "path")]
    pub file: Option<PathBuf>,
}

/// `[shutdown]`: the drain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Shutdown {
    /// Time from the signal to the exit. After it the daemon logs the parts that still run, and ends.
    #[serde(with = "DurationIn::<100, 600_000>")]
    pub deadline: Duration,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            listen: loopback(7480),
            max_connections: at_most(256),
            max_connections_per_address: at_most(128),
            hello_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(15),
            max_message: 128 * KIB,
            routine_window: MIB,
            emergency_window: 256 * KIB,
            memory_limit: 1152 * MIB,
            max_streams: at_most(4_096),
            max_streams_per_source: at_most(32),
            max_takeovers_per_minute: NonZeroU32::MIN.saturating_add(29),
            tls: true,
            tokens: Vec::new(),
            clients: Vec::new(),
        }
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        let fan_in = FanInConfig::default();
        Self {
            processor_capacity: at_most(fan_in.batch_frames_max),
            broadcast_capacity: at_most(64),
            routine_max_delay: fan_in.routine_max_delay,
        }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            commit_delay: archive::Config::COMMIT_DELAY,
            segment_size: archive::Config::SEGMENT_BYTES,
            reserve: archive::Config::RESERVE_BYTES,
            retention_age: None,
            retention_size: None,
            direct_io: DirectIo::default(),
            store_replays: true,
            export: None,
            export_format: ExportFormat::default(),
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            listen: loopback(7481),
            max_subscribers: at_most(16),
            tls: true,
            tokens: Vec::new(),
            clients: Vec::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: loopback(7482), tls: true, token: None, token_file: None }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5) }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `n` as a non-zero count. No default is 0. A 0 would become 1.
const fn at_most(n: usize) -> NonZeroUsize {
    match NonZeroUsize::new(n) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    }
}
