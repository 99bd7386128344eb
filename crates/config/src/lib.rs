//! Configuration: one TOML file, overridden by environment variables, checked as a whole.
//!
//! [`Config::load`] is the only way in. It finds the file (`source`), reads it and the variables into a tree with the
//! places of all values (`tree`, `overrides`), and reads the tree into the types of the sections, links and outputs
//! (`load`, `typed`). These types derive how they are read and printed: `sections`, `links` and `outputs` hold the keys
//! with their defaults, `values` the kinds of values with their limits, `framings` the tables of the crate `framing`.
//! Credentials come from their files (`tokens`, `token_files`, `tls_files`). `check` checks how the values fit together.
//! A `draft` collects all problems, which are reported at once, each with its location, key, value, and what is allowed.
//! `print` writes a configuration in the form of the file.
//!
//! While the daemon runs, a [`ConfigHandle`] holds the configuration in force, and a [`Change`] says what a new
//! configuration changes in it.
//!
//! This crate knows the parts whose limits it sums up (`ingest`, `feed`, `archive`). It never depends on links, outputs, the
//! HTTP server or the daemon.

mod addresses;
mod change;
mod check;
mod draft;
mod error;
mod files;
mod fixed;
mod framings;
mod handle;
mod links;
mod load;
mod memory;
mod outputs;
mod overrides;
mod parts;
mod print;
mod purpose;
mod recording;
mod sections;
mod source;
mod tls_files;
mod tls_sides;
mod token_files;
mod tokens;
mod tree;
mod typed;
mod units;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use draft::Draft;
use purpose::Purpose;
use source::Source;

pub use addresses::{Endpoint, Listening, Network};
pub use change::{Change, Changed, Mismatch, Waiting};
pub use error::{ConfigError, Location, Problem};
pub use files::{FILES_FIXED, OpenFilesError, raise_open_file_limit};
pub use fixed::{HTTP_CONNECTIONS_MAX, HTTP_READERS};
pub use handle::ConfigHandle;
pub use links::{CANDIDATES_MAX, EmergencyRule, Link, LinkSource, LinkTransport, WhenFull};
pub use memory::{
    BATCH_BYTES, CHANNEL_BYTES, COMMIT_BYTES, CONNECTION_BYTES, FORWARDED_BYTES, HTTP_BYTES,
    INCOMPLETE_PACKET_BYTES, MemoryBound, MemoryItem, PROCESS_BYTES, STREAM_BYTES,
};
pub use outputs::{
    AggregatorTransport, Cosmos, FileSecret, MessageForm, NatsTransport, Output, OutputFraming,
    OutputSelection, OutputStart, OutputTransport,
};
pub use overrides::{PREFIX, environment};
pub use recording::RecordingOptions;
pub use sections::{
    Archive, Catalog, Export, Feed, Http, Ingest, Log, LogFormat, LogLevel, NamedClient, Pipeline, Shutdown,
    Tls, Token,
};
pub use source::SEARCH_PATHS;
pub use support::secret::{MASK, Secret, SecretError};
pub use tls_sides::{TlsFiles, TlsSides};
pub use token_files::CREDENTIALS_DIR;
pub use units::{GIB, KIB, MIB, Size, TIB};

/// Everything that can be configured. `Debug` masks secrets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// Directory of everything kept on disk, relative to the working directory.
    #[serde(with = "values::path")]
    pub data_dir: PathBuf,
    /// Whether every listener beyond loopback must be encrypted.
    pub require_tls: bool,
    /// `[log]`
    pub log: Log,
    /// `[ingest]`
    pub ingest: Ingest,
    /// `[pipeline]`
    pub pipeline: Pipeline,
    /// `[archive]`
    pub archive: Archive,
    /// `[export]`
    pub export: Export,
    /// `[feed]`
    pub feed: Feed,
    /// `[http]`
    pub http: Http,
    /// `[tls]`
    pub tls: Tls,
    /// `[catalog]`
    pub catalog: Catalog,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[[links]]`
    pub links: Vec<Link>,
    /// `[[outputs]]`
    pub outputs: Vec<Output>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            require_tls: false,
            log: Log::default(),
            ingest: Ingest::default(),
            pipeline: Pipeline::default(),
            archive: Archive::default(),
            export: Export::default(),
            feed: Feed::default(),
            http: Http::default(),
            tls: Tls::default(),
            catalog: Catalog::default(),
            shutdown: Shutdown::default(),
            links: Vec::new(),
            outputs: Vec::new(),
        }
    }
}

/// A configuration and its origin.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read; `None` when no file was found and the defaults stand.
    pub file: Option<PathBuf>,
    /// The names at the top of the file: keys, sections and lists. Empty also without a file.
    pub names: BTreeSet<String>,
    /// Names of the variables that overrode keys.
    pub overrides: Vec<String>,
    /// Warnings for the log, one sentence each: values that work but may be a mistake.
    pub warnings: Vec<String>,
    /// Notes, one sentence each: missing files that exist once the daemon starts. See [`Config::load_before_start`].
    pub notes: Vec<String>,
}

impl Config {
    /// Loads the file at `path`, or the first of [`SEARCH_PATHS`] that exists, or the defaults.
    ///
    /// `env` are the variables that may override keys; see [`environment`]. Those that do not begin with
    /// [`PREFIX`] are ignored. Blocks on the file system.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when a file exists or was named and cannot be read,
    /// [`ConfigError::Invalid`] with all problems found otherwise.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_source(Source::find(path)?, env, Purpose::Run)
    }

    /// [`Config::load`] for a caller that checks a configuration before the daemon starts.
    ///
    /// A token file that is missing under [`CREDENTIALS_DIR`], where the service manager puts it at the start, is a
    /// note. The daemon must not run with this configuration: no client has the token that stands for the missing one.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_before_start(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_source(Source::find(path)?, env, Purpose::CheckBeforeStart)
    }

    /// `http.listen` of what [`Config::load`] would load, for a client of the running daemon, and whether the listener
    /// speaks TLS.
    ///
    /// Problems with other keys do not matter, and credentials are not read: neither means that the daemon is sick.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read as a whole, or this key is wrong.
    pub fn http_listener(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(SocketAddr, bool), ConfigError> {
        let source = Source::find(path)?;
        let draft = load::read(source.as_ref(), &overrides::collect(env), Purpose::FindListener);
        let config = draft.finish_for("http.listen")?;
        Ok((config.http.listen, config.http.tls && config.tls.certificate.is_some()))
    }

    /// Checks how the values fit together, for a configuration that was changed after it was loaded.
    ///
    /// Does not check the limits of each value. Returns warnings about values that work but may be a mistake.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all conflicts, without locations.
    pub fn validate(&self) -> Result<Vec<String>, ConfigError> {
        let mut draft = Draft::of(self.clone());
        check::check(&mut draft);
        draft.finish().map(|(_, warnings)| warnings)
    }

    /// The addresses in the configuration.
    #[must_use]
    pub const fn listening(&self) -> Listening {
        Listening { ingest: self.ingest.listen, feed: self.feed.listen, http: self.http.listen }
    }

    /// Checks that the values, which fit together, also do so when the daemon listens on `listening`, and returns
    /// warnings. There are none if these are the addresses in the configuration.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all conflicts.
    pub fn validate_at(&self, listening: Listening) -> Result<Vec<String>, ConfigError> {
        if listening == self.listening() {
            return Ok(Vec::new());
        }
        let mut real = self.clone();
        (real.ingest.listen, real.feed.listen, real.http.listen) =
            (listening.ingest, listening.feed, listening.http);
        real.validate()
    }

    fn load_source(
        source: Option<Source>,
        env: impl Iterator<Item = (String, String)>,
        purpose: Purpose,
    ) -> Result<Loaded, ConfigError> {
        let overrides = overrides::collect(env);
        let mut draft = load::read(source.as_ref(), &overrides, purpose);
        check::check(&mut draft);
        let notes = std::mem::take(&mut draft.notes);
        let names = std::mem::take(&mut draft.names);
        let (config, mut warnings) = draft.finish()?;
        warnings.extend(source.as_ref().and_then(|source| source.warning(&config)));
        let overrides = overrides.into_keys().collect();
        let file = source.map(|source| source.path);
        Ok(Loaded { config, file, names, overrides, warnings, notes })
    }
}
