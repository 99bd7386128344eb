//! Holds the current catalog. It comes from an operator or from a file, and goes to all subscribers.
//!
//! There are two files: `catalog.file`, and `<data_dir>/catalog.tle`, which keeps what an operator gave the running
//! daemon. The newer one is used, at the start and when the file is read again. So a reload for another reason does not
//! undo a later change by an operator.
//!
//! Newer means the higher version. A version is a time in unix milliseconds: that of a file is its modification time,
//! and that of a text from an operator is the time when it came. It is raised where needed, so that every change of the
//! current catalog has a higher version than the one before.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::{Catalog, CatalogError, ParseError, TEXT_BYTES_MAX};
use support::logging::{Kind, by_peer};
use support::{plain_file, private};

/// Name of the kept file in the data directory.
const KEPT_NAME: &str = "catalog.tle";

/// Holds the current catalog; see the module. Share it in an `Arc`.
#[derive(Debug)]
pub struct CatalogStore {
    /// The catalog in use, and everyone who waits for the next one.
    current_tx: watch::Sender<Arc<Catalog>>,
    /// The path of the kept file.
    kept: PathBuf,
    /// The version of the catalog in the kept file, 0 without one. Its lock is held during each change of the catalog.
    kept_version: Mutex<u64>,
}

/// A catalog on disk, not parsed yet.
struct OnDisk {
    path: PathBuf,
    /// The text, up to one byte more than is allowed.
    text: Bytes,
    /// The modification time of the file in unix milliseconds.
    version: u64,
}

impl CatalogStore {
    /// Loads the newer of `file` (`catalog.file`) and the kept file in `data_dir`. Without both, the version is 0.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If `file` cannot be read or holds no valid catalog, even if the kept file is newer, because the operator who
    /// configured it must learn this. A kept file that cannot be used is only logged.
    pub fn open(data_dir: &Path, file: Option<&Path>) -> Result<Self, CatalogError> {
        let kept_path = data_dir.join(KEPT_NAME);
        let kept = usable(&kept_path);
        let file = file.map(|path| OnDisk::read(path).and_then(OnDisk::catalog)).transpose()?;
        let kept_version = kept.as_ref().map_or(0, |(catalog, _)| catalog.version());
        let newer = match (file, kept) {
            (Some(file), Some(kept)) => {
                let (used, other) =
                    if file.0.version() > kept.0.version() { (file, kept) } else { (kept, file) };
                tracing::info!(file = %other.1.display(), "an older catalog, not used");
                Some(used)
            }
            (file, kept) => file.or(kept),
        };
        let current = newer.map(|(catalog, path)| {
            note(&catalog, &path.display().to_string());
            catalog
        });
        let (current_tx, _) = watch::channel(Arc::new(current.unwrap_or_default()));
        Ok(Self { current_tx, kept: kept_path, kept_version: Mutex::new(kept_version) })
    }

    /// Checks that `file` (`catalog.file`) can be used.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn check(file: &Path) -> Result<(), CatalogError> {
        OnDisk::read(file).and_then(OnDisk::catalog).map(drop)
    }

    /// A receiver of the current version and of all later ones.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.current_tx.subscribe()
    }

    /// The current version.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current_tx.borrow())
    }

    /// Makes `text` the current version, keeps it for the next start, and returns it. If `text` is already current,
    /// there is no new version.
    ///
    /// Parses the text, and blocks on the file system until the text is on stable storage.
    ///
    /// # Errors
    /// [`CatalogError::Text`] or [`CatalogError::Keep`]. The current version stays in force then.
    pub fn replace(&self, text: impl Into<Bytes>) -> Result<Arc<Catalog>, CatalogError> {
        let text = text.into();
        let mut kept_version = self.kept_version.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if is_same(&current, &text) {
            return Ok(current);
        }
        let version = unix_ms(SystemTime::now()).max(current.version() + 1);
        let catalog = Catalog::new(version, text)?;
        self.keep(&catalog).map_err(|source| CatalogError::Keep { path: self.kept.clone(), source })?;
        *kept_version = version;
        Ok(self.publish(catalog, "an operator"))
    }

    /// Makes `text`, the catalog of a simulation, the current version if there is none. It is not kept for the next
    /// start.
    ///
    /// # Errors
    /// [`CatalogError::Text`]. There is no current version then.
    pub fn offer(&self, text: impl Into<Bytes>) -> Result<Arc<Catalog>, CatalogError> {
        let _changing = self.kept_version.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if !current.is_empty() {
            return Ok(current);
        }
        let catalog = Catalog::new(unix_ms(SystemTime::now()), text.into())?;
        Ok(self.publish(catalog, "the simulation"))
    }

    /// Reads `path` (`catalog.file`) again and makes it the current version. It does nothing if an operator's catalog
    /// is newer than the file, or if the text is already current. Returns the current version.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// [`CatalogError::Read`] or [`CatalogError::InFile`]. The current version stays in force then.
    pub fn reload_file(&self, path: &Path) -> Result<Arc<Catalog>, CatalogError> {
        let kept_version = self.kept_version.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OnDisk::read(path)?;
        let current = self.current();
        if is_same(&current, &file.text) {
            return Ok(current);
        }
        if file.version <= *kept_version {
            tracing::warn!(
                file = %path.display(), kept = %self.kept.display(),
                "the catalog that an operator gave is newer than catalog.file and stays in use; touch the file to \
                 use it"
            );
            return Ok(current);
        }
        file.version = file.version.max(current.version() + 1);
        let (catalog, path) = file.catalog()?;
        Ok(self.publish(catalog, &path.display().to_string()))
    }

    fn publish(&self, catalog: Catalog, from: &str) -> Arc<Catalog> {
        note(&catalog, from);
        let catalog = Arc::new(catalog);
        self.current_tx.send_replace(Arc::clone(&catalog));
        catalog
    }

    /// Writes the kept file. Its modification time is set to the version, so that the next start reads the version from
    /// it.
    fn keep(&self, catalog: &Catalog) -> io::Result<()> {
        let dir = self.kept.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        private::create_dir_all(dir, private::DATA_DIR_MODE)?;
        let mut file = NamedTempFile::new_in(dir)?;
        file.write_all(catalog.text())?;
        file.as_file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(catalog.version()))?;
        file.as_file().sync_all()?;
        file.persist(&self.kept)?;
        File::open(dir)?.sync_all()
    }
}

fn is_same(current: &Catalog, text: &Bytes) -> bool {
    !current.is_empty() && current.text() == text
}

fn note(catalog: &Catalog, from: &str) {
    by_peer!(
        Kind::Changed,
        INFO,
        version = catalog.version(),
        satellites = catalog.sets().len(),
        from,
        "catalog"
    );
}

/// The kept catalog in `path`, if it exists and can be used.
fn usable(path: &Path) -> Option<(Catalog, PathBuf)> {
    match OnDisk::read(path).and_then(OnDisk::catalog) {
        Ok(kept) => Some(kept),
        Err(CatalogError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(
                "the stored catalog of an operator is not used: {error}; give it again, or remove the file"
            );
            None
        }
    }
}

impl OnDisk {
    fn read(path: &Path) -> Result<Self, CatalogError> {
        let (text, version) =
            read(path).map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), text, version })
    }

    fn catalog(self) -> Result<(Catalog, PathBuf), CatalogError> {
        let Self { path, text, version } = self;
        // Version 0 means no catalog, but a file may be older than 1970.
        match Catalog::new(version.max(1), text) {
            Ok(catalog) => Ok((catalog, path)),
            Err(error) => Err(in_file(path, error)),
        }
    }
}

fn in_file(path: PathBuf, error: ParseError) -> CatalogError {
    CatalogError::InFile { path, error }
}

/// The text of a file, and its modification time in unix milliseconds.
fn read(path: &Path) -> io::Result<(Bytes, u64)> {
    let file = plain_file::open(path)?;
    let modified_ms = unix_ms(file.metadata()?.modified()?);
    let mut text = Vec::new();
    // Reads one byte more than the limit, so that a longer text is detected.
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok((text.into(), modified_ms))
}

/// Unix milliseconds; 0 before 1970.
fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
