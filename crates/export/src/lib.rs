//! Exports of the archive that other tools read: Parquet, CSV and JSON lines (docs/export.md).
//!
//! This crate reads the archive through its public interface, and the archive does not know it: the daemon gives an
//! [`Exporter`] to the archive as a [`SegmentStep`]. It never depends on the protocol or on the daemon.
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
//! | `pace.rs` | how much of the time an export works |
//! | `error.rs` | [`ExportError`] |
//!
//! # Layout
//!
//! `OUT/date=YYYY-MM-DD/<base offset, 20 digits>.<format>`: the frames of one segment that were received on one day,
//! UTC, in the order of their offsets. A segment that spans midnight gives a file for each day. A file is written under
//! a temporary name, synced and renamed, so that under its own name it is whole; exporting again writes the same files
//! again. `OUT/_export.json` says which log, format and filter the directory holds, and nothing else is let in.
//!
//! # Memory
//!
//! A Parquet file holds one row group, column after column, while the segment holds frame after frame. So the
//! segment is read twice: the first time all columns but the payload are encoded, each into an unnamed file of its own
//! beside the export; the second time the payloads, the last and by far the largest column, go straight to their place
//! behind the others. Each column holds one page, and a dictionary column what its small numbers take (up to 2 bytes a
//! row); no column is in memory as a whole, and payloads are written once. One pass per column would decode each frame
//! eleven times, and one pass for all would write the payloads twice.
//!
//! Frames of a further day take further passes, over the offsets between their first and their last alone.
//!
//! # Beside a running daemon
//!
//! Nothing here locks the archive. What was written is synced every few MiB, so that the disk's queue stays short for
//! the archive's own commits. [`Exporter::export_segment`], which the daemon calls, works a quarter of the time and
//! rests for the others; at a command's own speed an export takes one core.

mod columns;
mod day;
mod error;
mod file;
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

use archive::segments::{self, list_own_segments, list_segments, segment_name};
use archive::{Filter, SealedSegment, SegmentStep, SegmentStepError};
use file::{Draft, OutDir};
use manifest::Manifest;
use pace::Pace;
use part::Part;
use support::plain_file;

pub use error::ExportError;

/// What is exported where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// The archive's directory.
    pub dir: PathBuf,
    /// The directory of the export; created where missing, what it lies in is not.
    pub out: PathBuf,
    /// How files are written.
    pub format: ExportFormat,
}

/// How files are written.
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

    /// The name, which is the files' extension as well.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    /// What a segment of `bytes` may take at most with frames of ordinary size; an estimate on the safe side.
    const fn need(self, bytes: u64) -> u64 {
        // Parquet needs room for the small columns twice while a file is put together.
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

/// What an export came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files put in place.
    pub files: u64,
    /// Frames in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Offsets that are damaged in the archive and missing from the export.
    pub lost: u64,
    /// The lowest of them.
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
        self.lose(other.first_lost, other.lost);
    }

    fn lose(&mut self, first: Option<u64>, count: u64) {
        self.lost += count;
        self.first_lost = self.first_lost.or(first);
    }
}

/// Exports an archive, segment by segment. All methods block.
#[derive(Clone, Debug)]
pub struct Exporter {
    config: ExportConfig,
    stop: Arc<AtomicBool>,
}

/// What the mark of an exported segment says: an export to another place is due all the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    out: PathBuf,
    format: ExportFormat,
}

/// Name of the mark beside the segment of the first offset `base`, to be removed with the segment.
#[must_use]
pub fn mark_name(base: u64) -> String {
    format!("{base:020}.exported")
}

impl Exporter {
    /// Exports as `config` says. Touches no file yet.
    #[must_use]
    pub fn new(config: ExportConfig) -> Self {
        Self { config, stop: Arc::default() }
    }

    /// Set to true, `stop` ends a running export within a few frames with [`ExportError::Stopped`], and later ones at
    /// once.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Whether the sealed segment that begins at `base` was exported to where this exporter exports.
    #[must_use]
    pub fn is_exported(&self, base: u64) -> bool {
        let mark = plain_file::open(&self.config.dir.join(mark_name(base)));
        mark.is_ok_and(|mark| serde_json::from_reader(mark).is_ok_and(|mark: Mark| mark == self.mark()))
    }

    /// Exports the sealed segment with the offsets `base..end` and then marks it as exported.
    ///
    /// Damage is passed over: it is logged and in the result, and the segment counts as exported, since a second export
    /// would find no more. It takes its time, so as not to slow the daemon down: about four times as long as
    /// [`Self::export_all`].
    ///
    /// # Errors
    /// [`ExportError`]; the segment is not marked then, and may be tried again. [`ExportError::NoSpace`] before
    /// anything is written where the segment might not fit: the space may be the archive's own.
    pub fn export_segment(&self, base: u64, end: u64) -> Result<Exported, ExportError> {
        let segment = self.config.dir.join(segment_name(base));
        if is_gone(&segment) {
            return Err(ExportError::Gone { dir: self.config.dir.clone(), base });
        }
        let bytes = fs::metadata(&segment).map(|metadata| metadata.len());
        let bytes = bytes.map_err(|error| ExportError::of_file("measure", &segment, 0, error))?;
        let (out, log_id) = self.open_out(&Filter::default())?;
        let (path, need) = (out.path().to_owned(), self.config.format.need(bytes));
        let free = error::free_bytes(&path);
        if free < need {
            return Err(ExportError::NoSpace { path, need, free });
        }
        let filter = bounded(&Filter::default(), base..end);
        let exported = self.export_part(&out, log_id, base, &filter, &Pace::background(), &|_| {})?;
        self.write_mark(base)?;
        Ok(exported)
    }

    /// Exports all frames that `filter` takes, of all segments there are now, marks or not.
    ///
    /// `progress` is told how many offsets were passed, of how many that will be, time and again; see
    /// [`Progress`].
    ///
    /// # Errors
    /// [`ExportError`]; files finished before it stay.
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
            let tell = |here| progress(Progress { passed: passed + here, total, rows: rows + here });
            tell(0);
            match self.export_part(&out, log_id, base, &part, &Pace::Full, &tell) {
                // Retention was quicker.
                Err(ExportError::Gone { .. }) => exported.expired += 1,
                result => exported.add(&result?),
            }
            passed += offsets.end - offsets.start;
        }
        progress(Progress { passed, total, rows: exported.rows });
        Ok(exported)
    }

    /// Takes the export's directory, if it holds nothing else.
    fn open_out(&self, filter: &Filter) -> Result<(OutDir, Option<u64>), ExportError> {
        let ExportConfig { dir, out, format } = &self.config;
        if overlap(out, dir) {
            return Err(ExportError::Overlap { out: out.clone(), dir: dir.clone() });
        }
        let log_id = segments::log_id(dir)?;
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
        rows: &dyn Fn(u64),
    ) -> Result<Exported, ExportError> {
        let ExportConfig { dir, format, .. } = &self.config;
        let segment = dir.join(segment_name(base));
        if is_gone(&segment) {
            return Err(ExportError::Gone { dir: dir.clone(), base });
        }
        let need = format.need(fs::metadata(&segment).map_or(0, |metadata| metadata.len()));
        Part { dir, base, filter, format: *format, log_id, need, stop: &self.stop, pace, rows }.export(out)
    }

    /// The segments that may hold frames that `filter` takes: base, and the offsets to look at.
    fn segments(&self, filter: &Filter) -> Result<Vec<(u64, Range<u64>)>, ExportError> {
        let dir = &self.config.dir;
        let mut bases = list_own_segments(dir)?;
        let Some(newest) = bases.last().copied() else {
            return Ok(Vec::new());
        };
        let end = end_of(&dir.join(segment_name(newest)), newest)?;
        // A segment begun since then ends it where that begins.
        let begun = list_own_segments(dir)?.into_iter().find(|base| *base > newest);
        bases.push(begun.unwrap_or(end));
        let asked = filter.from_offset..filter.to_offset.unwrap_or(u64::MAX);
        // Where the oldest segments bear wrong names, the first part is to report what is missing before it.
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
        let mut draft = Draft::create(&self.config.dir, &mark_name(base), 0)?;
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

/// Whether retention has removed the segment. A link to a disk that is not mounted is there, and cannot be read.
fn is_gone(segment: &Path) -> bool {
    fs::symlink_metadata(segment).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offsets of the segments that are done, and the frames of the one in hand.
    pub passed: u64,
    /// Offsets of all segments to be exported.
    pub total: u64,
    /// Frames exported so far.
    pub rows: u64,
}

fn bounded(filter: &Filter, offsets: Range<u64>) -> Filter {
    Filter { from_offset: offsets.start, to_offset: Some(offsets.end), ..filter.clone() }
}

/// Offset behind the last whole block of the segment `path`; `base` where retention has removed it.
fn end_of(path: &Path, base: u64) -> Result<u64, ExportError> {
    match segments::end_offset(path, base) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound && is_gone(path) => Ok(base),
        end => Ok(end?),
    }
}

/// Whether one of the directories lies in the other, or is it.
#[must_use]
pub fn overlap(out: &Path, dir: &Path) -> bool {
    let (out, dir) = (absolute(out), absolute(dir));
    out.starts_with(&dir) || dir.starts_with(&out)
}

/// `path` from the root on, without links as far as it exists.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}
