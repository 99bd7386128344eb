//! The modes of what the daemon keeps in its data directory: telemetry that other users must not read.
//!
//! The directory itself is for the user of the daemon alone if the daemon creates it. An operator who creates it for a
//! group lets this group read what is in it.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The mode of a new data directory, and of its parents if they are missing. The umask may remove bits.
pub const DATA_DIR_MODE: u32 = 0o700;
/// The mode of a new directory in the data directory. The umask may remove bits.
pub const DIR_MODE: u32 = 0o750;
/// The mode of a new file in the data directory. The umask may remove bits.
pub const FILE_MODE: u32 = 0o640;

/// Creates the directory `dir`, but not its parents, with `mode`.
///
/// # Errors
/// The error of the file system, also if `dir` exists.
pub fn create_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(dir)
}

/// Creates the directory `dir` and its missing parents with `mode`. An existing directory keeps its mode.
///
/// # Errors
/// The error of the file system.
pub fn create_dir_all(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Options that create or replace a file with [`FILE_MODE`]. An existing file keeps its mode.
#[must_use]
pub fn create_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    options
}
