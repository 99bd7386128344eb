//! One segment into one file per day.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::day::Day;
use super::error::ExportError;
use super::file::{Draft, OutDir};
use super::pace::Pace;
use super::row_group::ParquetFile;
use super::text::TextFile;
use super::{ExportFormat, Exported};
use crate::archive::dir::segment_name;
use crate::archive::{DiskStorage, Filter, Item, Reader, StoredFrame};

/// Frames between two reports of progress.
const REPORT_ROWS: u64 = 16_384;

/// The frames of a segment that are to be exported.
pub(super) struct Part<'a> {
    /// The archive's directory.
    pub(super) dir: &'a Path,
    /// The segment's first offset, by which its files are named.
    pub(super) base: u64,
    /// Which frames; its offsets end where the segment ends at the latest.
    pub(super) filter: &'a Filter,
    pub(super) format: ExportFormat,
    pub(super) log_id: Option<u64>,
    /// Bytes the files may take.
    pub(super) need: u64,
    pub(super) stop: &'a AtomicBool,
    pub(super) pace: &'a Pace,
    /// Told of the frames exported so far.
    pub(super) rows: &'a dyn Fn(u64),
}

/// The frames of one day within a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// From the first to behind the last; frames of other days may lie between.
    offsets: Range<u64>,
    rows: u64,
    /// Over what tells frames apart, so that two passes can be compared.
    digest: u64,
}

/// The days of a segment.
type Days = BTreeMap<Day, Span>;

impl Span {
    pub(super) fn note(&mut self, stored: &StoredFrame) {
        if self.rows == 0 {
            self.offsets.start = stored.offset;
        }
        self.offsets.end = stored.offset + 1;
        self.rows += 1;
        let frame = &stored.frame;
        for part in [stored.offset, frame.sequence, frame.received_ns as u64, frame.payload.len() as u64] {
            // FNV-1a, a word at a time.
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        }
    }
}

impl Part<'_> {
    /// Writes the files of this segment and removes those that an earlier export had of days that are not there now.
    pub(super) fn export(&self, out: &OutDir) -> Result<Exported, ExportError> {
        let mut exported = Exported::default();
        let mut paths = Vec::new();
        let (days, first) = self.first_pass(out, &mut exported)?;
        if let Some((day, file)) = first {
            self.finish(file, day, &days[&day], &mut exported, &mut paths)?;
            for (day, span) in days.into_iter().filter(|(other, _)| *other != day) {
                let mut file = self.begin(out, day)?;
                self.again(day, &span, |stored| file.push(stored))?;
                self.finish(file, day, &span, &mut exported, &mut paths)?;
            }
        }
        if exported.lost == 0 {
            // An earlier export may hold what is damaged now.
            self.is_there()?;
            out.remove_others(&self.file_name(), &paths)?;
        }
        Ok(exported)
    }

    /// # Errors
    /// [`ExportError::Gone`] when retention has taken the segment.
    fn is_there(&self) -> Result<(), ExportError> {
        if self.dir.join(segment_name(self.base)).exists() {
            return Ok(());
        }
        Err(ExportError::Gone { dir: self.dir.to_owned(), base: self.base })
    }

    /// Finds out which days there are, and writes the file of the first one meanwhile.
    fn first_pass(
        &self,
        out: &OutDir,
        exported: &mut Exported,
    ) -> Result<(Days, Option<(Day, DayFile)>), ExportError> {
        let mut days = Days::new();
        let mut first = None;
        let mut rows = 0;
        self.read(self.filter.clone(), |item| {
            let stored = match item {
                Item::Frame(stored) => stored,
                Item::Damage(damage) => {
                    let lost = damage.offsets.end - damage.offsets.start;
                    exported.lose((lost > 0).then_some(damage.offsets.start), lost);
                    tracing::warn!(?damage, "damage in the archive: missing from the export");
                    return Ok(());
                }
                Item::Expired(offsets) => {
                    tracing::info!(?offsets, "removed by retention before it was exported");
                    return Ok(());
                }
            };
            let day = Day::of(stored.frame.received_ns);
            days.entry(day).or_default().note(&stored);
            if first.is_none() {
                first = Some((day, self.begin(out, day)?));
            }
            rows += 1;
            if rows % REPORT_ROWS == 0 {
                (self.rows)(rows);
            }
            match &mut first {
                Some((first_day, file)) if *first_day == day => file.push(&stored),
                _ => Ok(()),
            }
        })?;
        Ok((days, first))
    }

    /// Reads the frames of `day` once more; they must be those of `span`.
    ///
    /// # Errors
    /// [`ExportError::Changed`] or [`ExportError::Gone`] when they are not.
    pub(super) fn again(
        &self,
        day: Day,
        span: &Span,
        mut each: impl FnMut(&StoredFrame) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let filter = Filter {
            from_offset: span.offsets.start,
            to_offset: Some(span.offsets.end),
            limit: None,
            ..self.filter.clone()
        };
        let mut seen = Span::default();
        self.read(filter, |item| match item {
            Item::Frame(stored) if Day::of(stored.frame.received_ns) == day => {
                seen.note(&stored);
                each(&stored)
            }
            _ => Ok(()),
        })?;
        if seen == *span {
            return Ok(());
        }
        self.is_there()?;
        Err(ExportError::Changed { base: self.base })
    }

    fn read(
        &self,
        filter: Filter,
        mut each: impl FnMut(Item) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        for item in Reader::open_log(Arc::new(DiskStorage), self.dir, filter, self.log_id)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ExportError::Stopped);
            }
            let item = item?;
            if let Item::Frame(stored) = &item {
                self.pace.frame(stored.frame.payload.len());
            }
            each(item)?;
        }
        Ok(())
    }

    fn begin(&self, out: &OutDir, day: Day) -> Result<DayFile, ExportError> {
        let draft = Draft::create(&out.partition(day)?, &self.file_name(), self.need)?;
        Ok(match self.format {
            ExportFormat::Parquet => DayFile::Parquet(Box::new(ParquetFile::begin(draft, self)?)),
            ExportFormat::Csv => DayFile::Text(TextFile::csv(draft)),
            ExportFormat::Jsonl => DayFile::Text(TextFile::jsonl(draft)),
        })
    }

    fn finish(
        &self,
        file: DayFile,
        day: Day,
        span: &Span,
        exported: &mut Exported,
        paths: &mut Vec<PathBuf>,
    ) -> Result<(), ExportError> {
        let draft = match file {
            DayFile::Parquet(file) => file.finish(self, day, span)?,
            DayFile::Text(file) => file.finish()?,
        };
        paths.push(draft.path().to_owned());
        exported.bytes += draft.commit()?;
        exported.files += 1;
        exported.rows += span.rows;
        Ok(())
    }

    fn file_name(&self) -> String {
        format!("{:020}.{}", self.base, self.format)
    }
}

/// A file in the making.
enum DayFile {
    Parquet(Box<ParquetFile>),
    Text(TextFile),
}

impl DayFile {
    fn push(&mut self, stored: &StoredFrame) -> Result<(), ExportError> {
        match self {
            Self::Parquet(file) => file.push(stored),
            Self::Text(file) => file.push(stored),
        }
    }
}
