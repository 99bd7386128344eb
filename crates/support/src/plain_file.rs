//! Opens the files that a configuration or an archive names. It opens only regular files and never waits.
//!
//! A plain `open` of a named pipe waits for a writer. So one stray pipe would block a start without a message.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens the regular file `path` to read it.
///
/// # Errors
/// The error of the file system. [`io::ErrorKind::InvalidInput`] with the type of the file if it is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// Opens the regular file `path` with `options`.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_flagged(options, OFlags::empty(), path)
}

/// Opens the empty regular file `path` with `options`, which create and truncate it.
///
/// Replaces a symbolic link, and a file that has further names. So nothing outside the directory of `path` is emptied.
///
/// # Errors
/// As [`open`].
pub fn create(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let is_shared = |found: Metadata| found.is_symlink() || found.is_file() && found.nlink() > 1;
    if std::fs::symlink_metadata(path).is_ok_and(is_shared) {
        std::fs::remove_file(path)?;
    }
    // A link that appears here after the look is refused.
    open_flagged(options, OFlags::NOFOLLOW, path)
}

fn open_flagged(options: &mut OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    // Without NONBLOCK, opening a named pipe waits for its other end. NONBLOCK has no effect on a regular file.
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = options.custom_flags(flags as i32).open(path).map_err(|error| explain(path, error))?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(not_regular(kind)) }
}

/// Adds the reason if the file type at `path` prevents the open: a socket, a pipe without a reader, a dangling link.
fn explain(path: &Path, error: io::Error) -> io::Error {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => not_regular(metadata.file_type()),
        Err(_) if error.kind() == io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(target) => dangling(&target),
            Err(_) => error,
        },
        _ => error,
    }
}

/// An error of the same kind as for a missing file.
fn dangling(target: &Path) -> io::Error {
    let text = format!("it is a symbolic link, and {} is not there; mount its disk", target.display());
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn not_regular(kind: std::fs::FileType) -> io::Error {
    let what = if kind.is_fifo() {
        "a named pipe (FIFO)"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let text = format!("it is {what}, and only a regular file is taken here");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_opening_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        assert_eq!(io::read_to_string(open(&path).unwrap()).unwrap(), "content");
        let missing = open(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nowhere/file", &link).unwrap();
        let dangling = open(&link).unwrap_err();
        assert_eq!(dangling.kind(), io::ErrorKind::NotFound);
        assert!(dangling.to_string().contains("/nowhere/file is not there"), "{dangling}");

        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (fifo.as_path(), "a named pipe (FIFO)"),
            (dir.path(), "a directory"),
            (socket.as_path(), "a socket"),
            (Path::new("/dev/null"), "a device"),
        ] {
            for options in [OpenOptions::new().read(true), OpenOptions::new().write(true)] {
                let error = open_with(options, path).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{what}");
                assert!(error.to_string().contains(what), "{error}");
            }
        }
    }

    #[test]
    fn creating_replaces_links_and_empties_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let (other, path) = (dir.path().join("other"), dir.path().join("file"));
        std::fs::write(&other, "keep this").unwrap();
        let written = |bytes: &[u8]| {
            let mut file = create(OpenOptions::new().write(true).create(true).truncate(true), &path).unwrap();
            io::Write::write_all(&mut file, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            assert_eq!(std::fs::read(&other).unwrap(), b"keep this");
        };
        written(b"a new file");
        written(b"emptied");
        for link in [std::fs::hard_link::<&Path, &Path>, std::os::unix::fs::symlink::<&Path, &Path>] {
            std::fs::remove_file(&path).unwrap();
            link(&other, &path).unwrap();
            written(b"replaced");
        }
        std::fs::remove_file(&path).unwrap();
        let missing = dir.path().join("missing");
        std::os::unix::fs::symlink(&missing, &path).unwrap();
        written(b"replaced");
        assert!(!missing.exists());
    }
}
