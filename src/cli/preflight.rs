//! What the daemon needs beside a sound configuration: files, directories, limits of the system.
//!
//! `check` and `run` look at it alike. What only a start can tell is left to `run`: whether a port is free, whether another
//! daemon has the archive.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{Access, access};

use crate::catalog::CatalogStore;
use crate::config::{Config, raise_open_file_limit};

/// Looks at all that `config` names, changes nothing but this process' limit of open files, and returns what deserves a
/// look.
///
/// # Errors
/// The daemon could not start; the text names the key.
pub(super) fn preflight(config: &Config) -> anyhow::Result<Vec<String>> {
    if let Some(file) = &config.catalog.file {
        CatalogStore::check(file).map_err(|error| anyhow::anyhow!("{error} (catalog.file)"))?;
    }
    let archive = config.archive_config();
    archive.validate()?;
    usable(&archive.dir).with_context(|| {
        format!("{} cannot hold the archive (data_dir = {:?})", archive.dir.display(), config.data_dir)
    })?;
    raise_open_file_limit(config.open_files_needed())?;
    Ok(export_warning(config).into_iter().collect())
}

/// Whether the directory `path` can be written, or made where it is not there yet.
fn usable(path: &Path) -> io::Result<()> {
    let nearest = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let nearest = nearest.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = |why: String| io::Error::other(format!("{} {why}", nearest.display()));
    let metadata = nearest.metadata().map_err(|error| named(format!("cannot be followed: {error}")))?;
    if !metadata.is_dir() {
        return Err(named("is not a directory".to_owned()));
    }
    access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| named(format!("cannot be written by this user: {}", io::Error::from(error))))
}

/// An export that cannot begin is better known before the first segment is full.
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
    fn a_directory_is_usable_where_it_is_or_can_be_made() {
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
