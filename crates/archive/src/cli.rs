//! The commands `archive ls`, `verify`, `cat`, `export` and `repair`. All but the last take no lock and work while the
//! daemon runs.

mod cat;
mod export;
mod filter;
mod ls;
pub mod misnamed;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::dir::{REPAIR_MARK, list_segments, refuse_beyond_offsets};
use super::error::incomplete;
use super::export::ExportError;
use super::{DiskStorage, ReadError, StorageError};

pub use cat::{CatArgs, Format, cat};
pub use export::{ExportArgs, export};
pub use filter::{FilterArgs, FilterError, Kind, Priority};
pub use ls::{LsArgs, ls};
pub use repair::{RepairArgs, RepairError, repair};
pub use verify::{VerifyArgs, verify};

/// What can be asked of an archive directory.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the segments
    Ls(LsArgs),
    /// Read everything and report damage; exit code 1 if there is any
    Verify(VerifyArgs),
    /// Write frames to standard output
    Cat(CatArgs),
    /// Copy all that can be read into a new directory that the daemon starts on
    Repair(RepairArgs),
    /// Write frames to files for other tools: Parquet, CSV or JSON lines
    Export(ExportArgs),
}

/// Runs `command` and writes its output to `out`; `false` if damage was found.
///
/// A reader that goes away (`| head`) ends `cat` without an error: it has the frames it wanted. What other commands have to
/// say is not said then, which is an error.
///
/// # Errors
/// [`CommandError`].
pub fn run(command: &Command, out: &mut impl Write) -> Result<bool, CommandError> {
    let result = match command {
        Command::Ls(args) => ls(args, out).map(|()| true),
        Command::Verify(args) => verify(args, out),
        Command::Cat(args) => cat(args, out).map(|()| true),
        Command::Repair(args) => repair(args, out).map(|()| true),
        Command::Export(args) => export(args, out).map(|()| true),
    };
    let flushed = result.and_then(|sound| Ok(out.flush().map(|()| sound)?));
    match flushed {
        Err(CommandError::Output(error))
            if error.kind() == io::ErrorKind::BrokenPipe && matches!(command, Command::Cat(_)) =>
        {
            Ok(true)
        }
        result => result,
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The archive cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No archive where one was expected.
    #[error(
        "{} holds no archive: there are no segments in it or in its directory `archive`; name the daemon's data_dir",
        .0.display()
    )]
    NoArchive(PathBuf),
    /// A part of an archive.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// Nothing where an archive was expected.
    #[error("{} cannot be looked into: {source}; name the daemon's data_dir", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// No frame can be what was asked for.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The export failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Frames are missing from the output, since they are damaged.
    #[error(
        "{offsets} offsets are damaged and missing from the output, the first at {first}; see archive verify"
    )]
    Damaged {
        /// How many.
        offsets: u64,
        /// The lowest.
        first: u64,
    },
    /// Frames are missing from the output, since their segment bears a wrong name.
    #[error("the frames of {} are missing from the output; see archive verify", .0.display())]
    Misnamed(PathBuf),
    /// The archive cannot be repaired.
    #[error(transparent)]
    Repair(#[from] RepairError),
}

impl From<StorageError> for CommandError {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}

/// Says that the output is empty because nothing in `dir` was asked for, and not for another reason.
#[allow(clippy::print_stderr, reason = "command output")]
fn note_no_match(dir: &Path) {
    eprintln!("telemetry-aggregator: no frame in {} matches", dir.display());
}

/// The archive directory that `dir` names, itself or its `archive`.
pub fn resolve(dir: &Path) -> Result<PathBuf, CommandError> {
    if let Err(source) = std::fs::read_dir(dir) {
        return Err(CommandError::NoDirectory { path: dir.to_owned(), source });
    }
    let inner = dir.join("archive");
    for candidate in [dir, &inner] {
        if !candidate.is_dir() {
            continue;
        }
        if candidate.join(REPAIR_MARK).symlink_metadata().is_ok() {
            return Err(CommandError::Incomplete(candidate.to_owned()));
        }
        refuse_beyond_offsets(&DiskStorage, candidate)?;
        if !list_segments(&DiskStorage, candidate)?.is_empty() {
            return Ok(candidate.to_owned());
        }
    }
    Err(CommandError::NoArchive(dir.to_owned()))
}

/// The offset at which the oldest segment in `dir` begins; 0 where there is none.
pub fn oldest_offset(dir: &Path) -> Result<u64, CommandError> {
    Ok(list_segments(&DiskStorage, dir)?.first().copied().unwrap_or(0))
}
