//! Checks what the daemon needs besides a valid configuration: files, directories, limits of the system.
//!
//! `check` and `run` do the same checks, but `check` may run with the permissions of another user. Only `run` finds out
//! whether a port is free and whether another daemon uses the archive.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use catalog::CatalogStore;
use config::{Config, raise_open_file_limit};
use equipment::outputs::unused_cursors;

/// Checks everything that `config` names and returns warnings. It changes nothing except this process' limit of open
/// files.
///
/// # Errors
/// If the daemon could not start. The text names the key.
pub(super) fn preflight(config: &Config) -> anyhow::Result<Vec<String>> {
    if let Some(file) = &config.catalog.file {
        CatalogStore::check(file).map_err(|error| anyhow::anyhow!("{error} (catalog.file)"))?;
    }
    let archive = config.archive_config();
    archive.validate()?;
    raise_open_file_limit(config.open_files_needed())?;
    let warnings = data_dir_warning(&config.data_dir).into_iter().chain(export_warning(config));
    Ok(warnings.chain(unused_cursors(config)).collect())
}

/// Whether this user can keep an archive in `data_dir`.
///
/// # Errors
/// [`Unusable`]. A missing permission says nothing about other users, such as the user of the daemon.
pub(super) fn can_hold_the_archive(config: &Config) -> Result<(), Unusable> {
    let dir = config.archive_config().dir;
    usable(&dir).map_err(|source| Unusable { dir, data_dir: config.data_dir.clone(), source })
}

/// Why `data_dir` cannot hold an archive.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot hold the archive (data_dir = {data_dir:?})", dir.display())]
pub(super) struct Unusable {
    /// The directory of the archive, in `data_dir`.
    dir: PathBuf,
    /// `data_dir` as configured.
    data_dir: PathBuf,
    /// What is wrong, with the directory where it is: the archive's, or the nearest one above that exists.
    pub(super) source: io::Error,
}

/// Checks that the directory `path` can be written, or created if it is missing.
fn usable(path: &Path) -> io::Result<()> {
    let nearest = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let nearest = nearest.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let said = |kind, why: String| io::Error::new(kind, format!("{} {why}", nearest.display()));
    let named = |why: String| said(io::ErrorKind::Other, why);
    let metadata = nearest.metadata().map_err(|error| named(format!("cannot be followed: {error}")))?;
    if !metadata.is_dir() {
        return Err(named("is not a directory".to_owned()));
    }
    access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = io::Error::from(error);
        said(error.kind(), format!("cannot be written by this user: {error}"))
    })
}

/// A warning if every user of this host can enter, list or change the data directory `dir`. The daemon keeps the mode
/// of a directory that exists.
fn data_dir_warning(dir: &Path) -> Option<String> {
    let mode = dir.metadata().ok()?.permissions().mode() & 0o7777;
    let dir = dir.display();
    (mode & 0o007 != 0).then(|| {
        format!(
            "data_dir: {dir} holds the archive and is open to everyone on this host (mode {mode:04o}): \
             chmod o-rwx {dir}"
        )
    })
}

/// Checks the export directory early. Otherwise the error would appear only when the first segment is full.
fn export_warning(config: &Config) -> Option<String> {
    let export = config.archive.export.as_ref()?;
    let parent = export.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let is_missing = !parent.is_dir();
    is_missing.then(|| {
        let (export, parent) = (export.display(), parent.display());
        format!("archive.export = \"{export}\" cannot be created: {parent} is not there; create or mount it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_or_creatable_directory_is_usable() {
        let dir = tempfile::tempdir().unwrap();
        assert!(usable(dir.path()).is_ok());
        assert!(usable(&dir.path().join("not/there/yet")).is_ok());
        assert!(usable(Path::new("not-there-yet")).is_ok(), "relative to the working directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("archive")] {
            let said = usable(&path).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{} ", file.display())), "{said}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let said = usable(&link.join("archive")).unwrap_err().to_string();
        assert!(said.contains("link cannot be followed"), "{said}");
    }
}
