//! `archive repair`: whatever can be read of a damaged archive, as a sound log in another directory.
//!
//! The copy is the same log: same id, same offsets, same positions, so clients resume and subscribers go on. What cannot
//! be read is recorded as holes, each in the place of the frames it lacks. The daemon is kept out meanwhile, since what
//! it took would be missing from the copy; the damaged directory is read and never written.

mod copy;
mod source;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CommandError, resolve};
use crate::dir::{Dir, REPAIR_MARK};
use crate::error::incomplete;
use crate::storage::Context;
use crate::{Access, DiskStorage, ReadError, Storage, StorageError};

/// Arguments of `archive repair`.
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    /// The archive directory, or a data directory that holds it; no daemon may be running on it
    pub dir: PathBuf,
    /// The directory to write, which must be empty or missing: `<data_dir>/archive` of the daemon to come
    #[arg(long, value_name = "NEWDIR")]
    pub out: PathBuf,
}

/// Why an archive cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A daemon would go on writing what the copy then lacks.
    #[error("archive {} is in use: stop the daemon first, or what it takes meanwhile is missing from the copy", .0.display())]
    Locked(PathBuf),
    /// There is something already.
    #[error("{} is not empty: name a directory that is empty or does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// There is what an interrupted repair left.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// The copy would be part of what is copied.
    #[error("{} lies in the archive itself, which is never written: name a directory outside of it", .0.display())]
    Inside(PathBuf),
    /// The copy ended early.
    #[error("{source}; the copy in {} is incomplete: remove it, then repair again", dir.display())]
    Stopped {
        /// What was being written.
        dir: PathBuf,
        /// Why.
        source: Box<CommandError>,
    },
}

/// What was copied and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) frames: u64,
    pub(super) segments: u64,
    pub(super) streams: usize,
    pub(super) first_offset: u64,
    pub(super) next_offset: u64,
    pub(super) lost: Vec<Lost>,
    /// Bytes that were never acknowledged and belong to no whole block.
    pub(super) torn_bytes: u64,
    /// Whether no header told the log's id, so that the copy has a new one.
    pub(super) is_renamed: bool,
    /// Segments of another log, which were left out.
    pub(super) foreign: Vec<PathBuf>,
}

/// Offsets that the copy lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) offsets: Range<u64>,
    /// The file they were in, and where in it.
    pub(super) segment: PathBuf,
    pub(super) bytes: Range<u64>,
}

/// Copies everything readable into a new directory, and says what was copied and what was lost.
///
/// All of it is on stable storage when it returns. Until then the new directory holds `REPAIR_MARK`, by which everybody
/// refuses it.
///
/// # Errors
/// [`CommandError`]; the new directory is incomplete then.
pub fn repair(args: &RepairArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let dir = resolve(&args.dir)?;
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage);
    let _source_lock = lock(&*storage, &dir)?;
    prepare(&*storage, &dir, &args.out)?;
    let _target_lock = lock(&*storage, &args.out)?;
    let source = Dir::new(Arc::clone(&storage), dir);
    let target = Dir::new(storage, args.out.clone());
    let report = copy_marked(&source, &target)
        .map_err(|source| RepairError::Stopped { dir: target.path.clone(), source: Box::new(source) })?;
    print(&report, &target.path, out)
}

/// Copies `source` to `target`, which carries a mark from before the first byte until after the last is durable.
fn copy_marked(source: &Dir, target: &Dir) -> Result<Report, CommandError> {
    let mark = target.repair_mark();
    target.open(&mark, Access::Create)?.sync_data().context("sync", &mark)?;
    target.sync()?;
    let report = copy::copy(source, target)?;
    target.remove(&mark)?;
    target.sync()?;
    Ok(report)
}

fn lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn std::any::Any + Send + Sync>, CommandError> {
    storage.lock(dir).map_err(|source| {
        if source.kind() == std::io::ErrorKind::WouldBlock {
            return RepairError::Locked(dir.to_owned()).into();
        }
        StorageError { op: "lock", path: dir.to_owned(), source }.into()
    })
}

/// Creates `out`, which must be empty and not a part of `dir`.
fn prepare(storage: &dyn Storage, dir: &Path, out: &Path) -> Result<(), CommandError> {
    let real = |path: &Path| std::fs::canonicalize(path).context("find", path);
    let inside = out
        .ancestors()
        .find(|path| path.exists())
        .map_or(Ok(false), |existing| Ok::<_, StorageError>(real(existing)?.starts_with(real(dir)?)))?;
    if inside {
        return Err(RepairError::Inside(out.to_owned()).into());
    }
    storage.create_dir(out).context("create", out)?;
    if out.join(REPAIR_MARK).symlink_metadata().is_ok() {
        return Err(RepairError::Incomplete(out.to_owned()).into());
    }
    if std::fs::read_dir(out).context("list", out)?.next().is_some() {
        return Err(RepairError::NotEmpty(out.to_owned()).into());
    }
    Ok(())
}

fn print(report: &Report, dir: &Path, out: &mut impl Write) -> Result<(), CommandError> {
    for Lost { offsets, segment, bytes } in &report.lost {
        writeln!(
            out,
            "lost: offsets {}..{}: {} bytes {}..{}",
            offsets.start,
            offsets.end,
            segment.display(),
            bytes.start,
            bytes.end
        )?;
    }
    for segment in &report.foreign {
        writeln!(out, "left out: {} belongs to another log", segment.display())?;
    }
    if report.torn_bytes > 0 {
        let torn = report.torn_bytes;
        writeln!(
            out,
            "left out: {torn} bytes behind the last whole block, torn by a crash and never acknowledged"
        )?;
    }
    if report.is_renamed {
        writeln!(out, "no segment tells the log's id: the copy has a new one, and subscribers start anew")?;
    }
    let lost: u64 = report.lost.iter().map(|lost| lost.offsets.end - lost.offsets.start).sum();
    writeln!(
        out,
        "copied: {} frames of {} streams in {} segments to {}, offsets {}..{}; {lost} offsets lost in {} places",
        report.frames,
        report.streams,
        report.segments,
        dir.display(),
        report.first_offset,
        report.next_offset,
        report.lost.len(),
    )?;
    Ok(())
}

/// The error of a segment that a newer program wrote.
fn version(path: PathBuf, found: u16) -> CommandError {
    ReadError::Version { path, found }.into()
}
