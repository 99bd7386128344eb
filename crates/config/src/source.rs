//! The file of a configuration: its search path and its text.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Config;
use super::error::ConfigError;
use super::units::{MIB, Size};
use support::plain_file;

/// Paths to search in this order when no file is named, relative to the working directory.
pub const SEARCH_PATHS: [&str; 3] =
    ["aggregator.toml", "config/aggregator.toml", "/etc/telemetry-aggregator/aggregator.toml"];

/// Longest file that is read, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = MIB;

/// A file that was read.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) mode: u32,
}

impl Source {
    /// The file at `path`, or the first of [`SEARCH_PATHS`] that exists.
    pub(super) fn find(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        match path {
            Some(path) => Self::open(path).map(Some),
            None => Self::first_of(&SEARCH_PATHS.map(Path::new)),
        }
    }

    /// The first of `candidates` that exists. If it cannot be read, this is an error, because the operator did not mean
    /// the next candidate.
    pub(super) fn first_of(candidates: &[&Path]) -> Result<Option<Self>, ConfigError> {
        for path in candidates {
            match Self::open(path) {
                Err(ConfigError::Read { source, .. }) if is_absent(&source) => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    fn open(path: &Path) -> Result<Self, ConfigError> {
        Self::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
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

    /// A warning if every user can read a file with credentials in it.
    pub(super) fn warning(&self, config: &Config) -> Option<String> {
        let lists = config.ingest.tokens.iter().chain(&config.feed.tokens);
        let http = config.http.token.is_some() && config.http.token_file.is_none();
        let inline = http || lists.into_iter().any(|token| token.token_file.is_none());
        inline.then(|| readable_warning(&self.path, self.mode, "tokens")).flatten()
    }
}

/// Whether the error means that the file or its directory does not exist.
pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// A warning if `mode` lets every user of this host read `path`, which holds `content`.
pub(super) fn readable_warning(path: &Path, mode: u32, content: &str) -> Option<String> {
    // Container engines put secrets there with modes that users cannot choose. Only the daemon runs in the container.
    let is_secret_of_container = path.starts_with("/run/secrets");
    let (path, mode) = (path.display(), mode & 0o7777);
    (mode & 0o004 != 0 && !is_secret_of_container).then(|| {
        format!(
            "{path} holds {content} and everyone on this host can read it (mode {mode:04o}): chmod o-rwx {path}"
        )
    })
}
