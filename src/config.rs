//! Configuration: one TOML file, overridden by environment variables, checked as a whole.
//!
//! [`Config::load`] is the only way in. It reads the file (`read`) and the variables (`overrides`) over the
//! defaults (`sections`), takes credentials from their files (`tokens`) and checks how the values fit
//! together (`check`). All that is wrong is reported at once, each with its place, key, value, and what is
//! allowed. What keys there are is listed once, in `keys`.
//!
//! While the daemon runs, [`Live`] is what is in force, and [`Change`] says what a new configuration changes in it.

mod change;
mod check;
mod codecs;
mod document;
mod draft;
mod error;
mod files;
mod keys;
mod live;
mod memory;
mod overrides;
mod parts;
mod print;
mod read;
mod secret;
mod sections;
mod setting;
mod suggest;
mod token_draft;
mod tokens;
mod units;

#[cfg(test)]
mod tests;

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::plain_file;
use document::Document;
use draft::Draft;

pub use change::{Change, Changed, Misfit, Waiting};
pub use error::{ConfigError, Place, Problem};
pub use files::{FILES_FIXED, OpenFilesError, raise_open_file_limit};
pub use live::Live;
pub use memory::{
    BATCH_BYTES, COMMIT_BYTES, CONNECTION_BYTES, HTTP_BYTES, HTTP_READERS, MemoryAddend, MemoryBound,
    PROCESS_BYTES, STREAM_BYTES,
};
pub use overrides::{PREFIX, environment};
pub use secret::{MASK, Secret, SecretError};
pub use sections::{
    Archive, Catalog, Feed, Http, Ingest, Log, LogFormat, LogLevel, Pipeline, Shutdown, Token,
};
pub use units::{GIB, KIB, MIB, Size, TIB};

/// Where a configuration is looked for when none is named, in this order; relative to the working
/// directory.
pub const SEARCH_PATHS: [&str; 3] =
    ["aggregator.toml", "config/aggregator.toml", "/etc/telemetry-aggregator/aggregator.toml"];

/// Where the service manager puts the credentials of a unit when it starts it.
pub const CREDENTIALS_DIR: &str = "/run/credentials";

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = MIB;

/// Everything that can be configured. `Debug` masks secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of everything kept on disk, relative to the working directory.
    pub data_dir: PathBuf,
    /// `[log]`
    pub log: Log,
    /// `[ingest]`
    pub ingest: Ingest,
    /// `[pipeline]`
    pub pipeline: Pipeline,
    /// `[archive]`
    pub archive: Archive,
    /// `[feed]`
    pub feed: Feed,
    /// `[http]`
    pub http: Http,
    /// `[catalog]`
    pub catalog: Catalog,
    /// `[shutdown]`
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            log: Log::default(),
            ingest: Ingest::default(),
            pipeline: Pipeline::default(),
            archive: Archive::default(),
            feed: Feed::default(),
            http: Http::default(),
            catalog: Catalog::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// The file that was read; `None` when there is none and the defaults stand.
    pub file: Option<PathBuf>,
    /// Names of the variables that overrode keys.
    pub overrides: Vec<String>,
    /// What works but deserves a look, one sentence each, for the log.
    pub warnings: Vec<String>,
    /// What is not there yet and comes with the start, one sentence each; see [`Config::load_before_start`].
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
        Self::load_source(Source::find(path)?, env, false)
    }

    /// [`Config::load`] for who checks a configuration before the daemon starts: a token file that is missing under
    /// [`CREDENTIALS_DIR`], where the service manager puts it at the start, is a note. The configuration is to be looked
    /// at, not to run with: such a token is none that anybody has.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_before_start(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_source(Source::find(path)?, env, true)
    }

    /// `http.listen` of what [`Config::load`] would load, for who asks the daemon that runs with it.
    ///
    /// Other keys may be wrong by now, and their credentials are not read: that is no reason to call the daemon sick.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read as a whole, or this key not.
    pub fn http_listen(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<SocketAddr, ConfigError> {
        let mut draft = Draft::default();
        if let Some(Source { path, text, .. }) = &Source::find(path)? {
            read::read(Document { file: path, text }, &mut draft);
        }
        overrides::apply(&mut draft, env);
        draft.finish_for("http.listen").map(|config| config.http.listen)
    }

    /// Checks how the values fit together, for a configuration that was changed after it was loaded.
    ///
    /// Whether each value is within its own limits is not looked at again. Returns what works but deserves a look.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all conflicts, without places.
    pub fn validate(&self) -> Result<Vec<String>, ConfigError> {
        let mut draft = Draft::default();
        draft.config = self.clone();
        check::check(&mut draft);
        draft.finish().map(|(_, warnings)| warnings)
    }

    fn load_source(
        source: Option<Source>,
        env: impl Iterator<Item = (String, String)>,
        is_before_start: bool,
    ) -> Result<Loaded, ConfigError> {
        let mut draft = Draft::default();
        draft.is_before_start = is_before_start;
        if let Some(Source { path, text, .. }) = &source {
            read::read(Document { file: path, text }, &mut draft);
        }
        let overrides = overrides::apply(&mut draft, env);
        tokens::resolve(&mut draft);
        check::check(&mut draft);
        let notes = std::mem::take(&mut draft.notes);
        let (config, mut warnings) = draft.finish()?;
        if let Some(source) = &source {
            warnings.extend(source.warning(&config));
        }
        Ok(Loaded { config, file: source.map(|source| source.path), overrides, warnings, notes })
    }
}

/// Whether there is no file, or not even the directory it would lie in.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// A file that was read.
struct Source {
    path: PathBuf,
    text: String,
    mode: u32,
}

impl Source {
    /// The file at `path`, or the first of [`SEARCH_PATHS`] that exists.
    fn find(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        match path {
            Some(path) => Self::open(path).map(Some),
            None => Self::first_of(&SEARCH_PATHS.map(Path::new)),
        }
    }

    fn open(path: &Path) -> Result<Self, ConfigError> {
        Self::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
    }

    /// The first of `candidates` that exists. One that exists and cannot be read is an error: to go on
    /// with another would run something nobody asked for.
    fn first_of(candidates: &[&Path]) -> Result<Option<Self>, ConfigError> {
        for path in candidates {
            match Self::open(path) {
                Err(ConfigError::Read { source, .. }) if is_absent(&source) => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    fn read(path: &Path) -> io::Result<Self> {
        let file = plain_file::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let message = format!("more than {}", Size(FILE_BYTES_MAX));
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(Self { path: path.to_owned(), text, mode })
    }

    /// A warning if everyone can read a file with credentials in it.
    fn warning(&self, config: &Config) -> Option<String> {
        let lists = config.ingest.tokens.iter().chain(&config.feed.tokens);
        let http = config.http.token.is_some() && config.http.token_file.is_none();
        let inline = http || lists.into_iter().any(|token| token.token_file.is_none());
        inline.then(|| tokens::readable_warning(&self.path, self.mode, "tokens")).flatten()
    }
}
