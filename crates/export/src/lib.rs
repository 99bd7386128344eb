//! Exports the archive for other tools: Parquet, CSV and JSON lines (docs/export.md).
//!
//! This crate reads the archive through its public interface. The archive does not know this crate: the daemon gives an
//! [`Exporter`] to the archive as a [`SegmentStep`]. This crate never depends on the protocol or on the daemon.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | [`Exporter`]: an archive, or one sealed segment of it |
//! | `segment.rs` | the frames of one segment, day by day |
//! | `part.rs` | which frames of a segment, and how they are read |
//! | `day.rs` | days in UTC |
//! | `columns.rs` | the columns of a Parquet file |
//! | `row_group.rs` | puts columns together into one row group |
//! | `text.rs` | CSV and JSON lines |
//! | `file.rs` | files that appear whole under their names, and the lock of the directory |
//! | `manifest.rs` | `_export.json`: what a directory holds |
//! | `listing.rs` | `_segments/*.json`: the files of each segment, and whether they are uploaded |
//! | `pace.rs` | how much of the time an export works |
//! | `error.rs` | [`ExportError`] |
//!
//! # Layout
//!
//! `OUT/date=YYYY-MM-DD/<base offset, 20 digits>.<format>` holds the frames of one segment that were received on one
//! day in UTC, in the order of their offsets. A segment that spans midnight gives one file per day. A file is written
//! under a temporary name, synced and renamed. So a file under its final name is complete. A second export writes the
//! same files with the same content. `OUT/_export.json` names the log, format and filter of the directory. An export
//! with another log, format or filter is refused. `OUT/_segments/<base offset>.json` names the files of a segment, once
//! they are all there ([`listing`]).
//!
//! # Memory
//!
//! A Parquet file holds one row group, column after column. The segment holds frame after frame. So an export reads the
//! segment twice. The first pass encodes all columns except the payload, each into an unnamed file beside the export.
//! The second pass writes the payloads, the last and by far the largest column, directly behind the other columns.
//! Memory holds one page per column, and for a dictionary column also its small numbers (up to 2 bytes per row). No
//! column is in memory as a whole, and each payload is written once. One pass per column would decode each frame eleven
//! times. A single pass would write the payloads twice.
//!
//! Each further day of a segment takes further passes, only over the offsets from its first to its last frame.
//!
//! # Beside a running daemon
//!
//! An export never locks the archive. It syncs its files every few MiB, so that the disk queue stays short for the
//! commits of the archive. [`Exporter::export_segment`], which the daemon calls, works a quarter of the time and rests
//! for the remaining time. [`Exporter::export_all`], which the command calls, uses one core.

mod columns;
mod day;
mod error;
mod file;
pub mod listing;
mod manifest;
mod pace;
mod part;
mod row_group;
mod segment;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use archive::inspect::{self, list_segments, list_without_misnamed, segment_name};
use archive::{Filter, SealedSegment, SegmentStep, SegmentStepError};
use file::{Draft, OutDir};
use listing::ListedFile;
use manifest::Manifest;
use pace::Pace;
use part::Part;
use support::plain_file;

pub use error::{ExportError, MANIFEST_NAME};
pub use listing::Listing;

/// What to export, to which directory, and in which format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// The archive's directory.
    pub dir: PathBuf,
    /// The directory of the export. It is created if it is missing. Its parent must exist.
    pub out: PathBuf,
    /// Format of the files.
    pub format: ExportFormat,
}

/// Format of the files of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// Apache Parquet: typed columns, zstd
    #[default]
    Parquet,
    /// Comma-separated values with a header, the payload in base64
    Csv,
    /// The lines of `archive cat`
    Jsonl,
}

impl ExportFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Parquet, Self::Csv, Self::Jsonl];

    /// The name of the format, which is also the file extension.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    /// Estimate of the free bytes that the export of a segment of `bytes` needs. It is high enough for frames of ordinary
    /// size.
    const fn space_needed(self, bytes: u64) -> u64 {
        // Parquet needs the space of the small columns twice while a file is assembled.
        bytes.saturating_mul(match self {
            Self::Parquet | Self::Csv => 2,
            Self::Jsonl => 3,
        })
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The result of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Number of finished files.
    pub files: u64,
    /// Frames in these files.
    pub rows: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Offsets that are damaged in the archive and missing from the export.
    pub lost: u64,
    /// The lowest of these damaged offsets.
    pub first_lost: Option<u64>,
    /// Segments that retention removed before they were exported.
    pub expired: u64,
}

impl Exported {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.expired += other.expired;
        self.add_lost(other.first_lost, other.lost);
    }

    fn add_lost(&mut self, first: Option<u64>, count: u64) {
        self.lost += count;
        self.first_lost = self.first_lost.or(first);
    }
}

/// Exports an archive, segment by segment. All methods block.
#[derive(Clone, Debug)]
pub struct Exporter {
    config: ExportConfig,
    needs_listings: bool,
    stop: Arc<AtomicBool>,
}

/// Content of the mark of an exported segment. An export to another directory or format ignores the mark.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    out: PathBuf,
    format: ExportFormat,
}

/// Returns the file name of the mark beside the segment with the first offset `base`. The mark is removed with the
/// segment.
#[must_use]
pub fn mark_name(base: u64) -> String {
    format!("{base:020}.exported")
}

impl Exporter {
    /// Creates an exporter for `config`. Does not access any file.
    #[must_use]
    pub fn new(config: ExportConfig) -> Self {
        Self { config, needs_listings: false, stop: Arc::default() }
    }

    /// Exports a segment again if it has no [`Listing`], because an older version exported it.
    #[must_use]
    pub fn needs_listings(self, needs_listings: bool) -> Self {
        Self { needs_listings, ..self }
    }

    /// Uses `stop` as the stop flag. Once `stop` is true, a running export ends within a few frames with
    /// [`ExportError::Stopped`]. Later exports end at once.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Whether the mark says that the sealed segment at `base` was exported with this exporter's directory and format.
    #[must_use]
    pub fn is_exported(&self, base: u64) -> bool {
        let mark = plain_file::open(&self.config.dir.join(mark_name(base)));
        let is_marked =
            mark.is_ok_and(|mark| serde_json::from_reader(mark).is_ok_and(|mark: Mark| mark == self.mark()));
        is_marked && (!self.needs_listings || listing::path_of(&self.config.out, base).exists())
    }

    /// Exports the sealed segment with the offsets `base..end`, then marks it as exported. Blocks.
    ///
    /// Skips damage, logs it and counts it in the result. The segment still counts as exported, because a second export
    /// would find the same damage. Rests between frames to leave the machine to the daemon, and so takes about four
    /// times as long as [`Self::export_all`].
    ///
    /// # Errors
    /// [`ExportError`]. The segment is then not marked, and the caller may repeat the export. [`ExportError::NoSpace`]
    /// if the segment might not fit. In this case nothing is written, because the archive itself may need the space.
    pub fn export_segment(&self, base: u64, end: u64) -> Result<Exported, ExportError> {
        let segment = self.config.dir.join(segment_name(base));
        if is_gone(&segment) {
            return Err(ExportError::Gone { dir: self.config.dir.clone(), base });
        }
        let bytes = fs::metadata(&segment).map(|metadata| metadata.len());
        let bytes = bytes.map_err(|error| ExportError::of_file("measure", &segment, 0, error))?;
        let (out, log_id) = self.open_out(&Filter::default())?;
        let (path, need) = (out.path().to_owned(), self.config.format.space_needed(bytes));
        let free = error::free_bytes(&path);
        if free < need {
            return Err(ExportError::NoSpace { path, need, free });
        }
        let filter = bounded(&Filter::default(), base..end);
        let (exported, files) =
            self.export_part(&out, log_id, base, &filter, &Pace::background(), &|_| {})?;
        Listing { base, end, files, uploaded: None, removed: false }.write(out.path())?;
        self.write_mark(base)?;
        Ok(exported)
    }

    /// Exports all frames that `filter` takes, from all existing segments, with or without a mark. Blocks.
    ///
    /// Calls `progress` repeatedly with the offsets passed so far and the total; see [`Progress`].
    ///
    /// # Errors
    /// [`ExportError`]. Files that were finished before the error stay.
    pub fn export_all(&self, filter: &Filter, progress: &dyn Fn(Progress)) -> Result<Exported, ExportError> {
        let segments = self.segments(filter)?;
        let (out, log_id) = self.open_out(filter)?;
        let total = segments.iter().map(|(_, offsets)| offsets.end - offsets.start).sum();
        let mut exported = Exported::default();
        let mut passed = 0;
        for (base, offsets) in segments {
            let limit = filter.limit.map(|limit| limit - exported.rows);
            if limit == Some(0) {
                break;
            }
            let part = Filter { limit, ..bounded(filter, offsets.clone()) };
            let rows = exported.rows;
            let report =
                |rows_here| progress(Progress { passed: passed + rows_here, total, rows: rows + rows_here });
            report(0);
            match self.export_part(&out, log_id, base, &part, &Pace::Full, &report) {
                // Retention removed the segment first.
                Err(ExportError::Gone { .. }) => exported.expired += 1,
                result => exported.add(&result?.0),
            }
            passed += offsets.end - offsets.start;
        }
        progress(Progress { passed, total, rows: exported.rows });
        Ok(exported)
    }

    /// Opens and locks the export directory. Fails if it holds another export.
    fn open_out(&self, filter: &Filter) -> Result<(OutDir, Option<u64>), ExportError> {
        let ExportConfig { dir, out, format } = &self.config;
        if overlap(out, dir) {
            return Err(ExportError::Overlap { out: out.clone(), dir: dir.clone() });
        }
        let log_id = inspect::log_id(dir)?;
        let opened = OutDir::open(out)?;
        Manifest::new(log_id, *format, filter).claim(out)?;
        opened.sweep()?;
        Ok((opened, log_id))
    }

    fn export_part(
        &self,
        out: &OutDir,
        log_id: Option<u64>,
        base: u64,
        filter: &Filter,
        pace: &Pace,
        on_rows: &dyn Fn(u64),
    ) -> Result<(Exported, Vec<ListedFile>), ExportError> {
        let ExportConfig { dir, format, .. } = &self.config;
        let segment = dir.join(segment_name(base));
        if is_gone(&segment) {
            return Err(ExportError::Gone { dir: dir.clone(), base });
        }
        let need = format.space_needed(fs::metadata(&segment).map_or(0, |metadata| metadata.len()));
        Part { dir, base, filter, format: *format, log_id, need, stop: &self.stop, pace, on_rows }.export(out)
    }

    /// Returns the segments that may hold frames that `filter` takes: the base, and the offsets to read.
    fn segments(&self, filter: &Filter) -> Result<Vec<(u64, Range<u64>)>, ExportError> {
        let dir = &self.config.dir;
        let mut bases = list_without_misnamed(dir)?;
        let Some(newest) = bases.last().copied() else {
            return Ok(Vec::new());
        };
        let end = end_of(&dir.join(segment_name(newest)), newest)?;
        // The archive may have begun a segment since the listing. Then the newest segment of the list ends at its base.
        let begun = list_without_misnamed(dir)?.into_iter().find(|base| *base > newest);
        bases.push(begun.unwrap_or(end));
        let asked = filter.from_offset..filter.to_offset.unwrap_or(u64::MAX);
        // Misnamed segments are left out. If the oldest are, the first part begins at the lowest name, so that it counts
        // their frames as lost.
        let oldest = list_segments(dir)?.first().map_or(bases[0], |oldest| bases[0].min(*oldest));
        let begin = |base: u64| if base == bases[0] { oldest } else { base };
        let parts =
            bases.windows(2).map(|pair| (pair[0], begin(pair[0]).max(asked.start)..pair[1].min(asked.end)));
        Ok(parts.filter(|(_, offsets)| !offsets.is_empty()).collect())
    }

    fn mark(&self) -> Mark {
        Mark { out: absolute(&self.config.out), format: self.config.format }
    }

    fn write_mark(&self, base: u64) -> Result<(), ExportError> {
        let mut draft = Draft::create_private(&self.config.dir, &mark_name(base))?;
        let json = serde_json::to_vec(&self.mark()).map_err(io::Error::from);
        json.and_then(|json| draft.write_all(&json)).map_err(|error| draft.error("write", error))?;
        draft.commit().map(|_| ())
    }
}

impl SegmentStep for Exporter {
    fn run(&mut self, segment: &SealedSegment<'_>, stop: &Arc<AtomicBool>) -> Result<(), SegmentStepError> {
        if self.is_exported(segment.base) {
            return Ok(());
        }
        let exporter = self.clone().stopped_by(Arc::clone(stop));
        let exported = exporter.export_segment(segment.base, segment.end)?;
        tracing::info!(
            from_offset = segment.base,
            to_offset = segment.end,
            files = exported.files,
            rows = exported.rows,
            bytes = exported.bytes,
            "segment exported"
        );
        Ok(())
    }

    fn consequence(&self) -> &'static str {
        "this segment is not exported"
    }
}

/// Whether retention has removed the segment. A symbolic link to a disk that is not mounted exists but is unreadable, so it does
/// not count as removed.
pub(crate) fn is_gone(segment: &Path) -> bool {
    fs::symlink_metadata(segment).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The progress of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offsets of the finished segments, plus the exported frames of the current segment.
    pub passed: u64,
    /// Offsets of all segments of the export.
    pub total: u64,
    /// Frames exported so far.
    pub rows: u64,
}

fn bounded(filter: &Filter, offsets: Range<u64>) -> Filter {
    Filter { from_offset: offsets.start, to_offset: Some(offsets.end), ..filter.clone() }
}

/// Returns the offset behind the last whole block of the segment `path`, or `base` if retention has removed the
/// segment.
fn end_of(path: &Path, base: u64) -> Result<u64, ExportError> {
    match inspect::end_offset(path, base) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound && is_gone(path) => Ok(base),
        end => Ok(end?),
    }
}

/// Whether one directory lies in the other or both are the same.
#[must_use]
pub fn overlap(out: &Path, dir: &Path) -> bool {
    let (out, dir) = (absolute(out), absolute(dir));
    out.starts_with(&dir) || dir.starts_with(&out)
}

/// Returns the absolute form of `path`. Resolves symbolic links in the part that exists.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}
