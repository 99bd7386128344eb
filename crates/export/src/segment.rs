//! Exports one segment into one file per day.

use std::collections::BTreeMap;

use super::day::Day;
use super::error::ExportError;
use super::file::{Draft, OutDir};
use super::listing::ListedFile;
use super::part::{DayFrames, Part};
use super::row_group::ParquetFile;
use super::text::TextFile;
use super::{ExportFormat, Exported};
use archive::{Item, StoredFrame};

/// Number of frames between two progress reports.
const REPORT_ROWS: u64 = 16_384;

/// The days of a segment.
type Days = BTreeMap<Day, DayFrames>;

impl Part<'_> {
    /// Writes the files of this segment. Removes files of an earlier export for days that the segment no longer has.
    pub(super) fn export(&self, out: &OutDir) -> Result<(Exported, Vec<ListedFile>), ExportError> {
        let mut exported = Exported::default();
        let mut files = Vec::new();
        let (days, first) = self.first_pass(out, &mut exported)?;
        if let Some((day, file)) = first {
            self.finish(file, day, &days[&day], &mut files)?;
            for (day, frames) in days.into_iter().filter(|(other, _)| *other != day) {
                let mut file = self.begin(out, day)?;
                self.read_again(day, &frames, |stored| file.push(stored))?;
                self.finish(file, day, &frames, &mut files)?;
            }
        }
        exported.files = files.len() as u64;
        exported.rows = files.iter().map(|file| file.rows).sum();
        exported.bytes = files.iter().map(|file| file.bytes).sum();
        if exported.lost == 0 {
            // If frames are damaged, the files of an earlier export stay: they may hold these frames.
            self.check_exists()?;
            let paths: Vec<_> = files.iter().map(|file| out.path().join(&file.path)).collect();
            out.remove_others(&self.file_name(), &paths)?;
        }
        Ok((exported, files))
    }

    /// Finds the days of the segment, and writes the file of the first day in the same pass.
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
                    exported.add_lost((lost > 0).then_some(damage.offsets.start), lost);
                    tracing::warn!(
                        segment = %damage.segment.display(), bytes = ?damage.bytes, offsets = ?damage.offsets,
                        "damaged frames of the archive are missing from the export"
                    );
                    return Ok(());
                }
                Item::Expired(offsets) => {
                    tracing::info!(?offsets, "frames were removed by retention before they were exported");
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
                (self.on_rows)(rows);
            }
            match &mut first {
                Some((first_day, file)) if *first_day == day => file.push(&stored),
                _ => Ok(()),
            }
        })?;
        Ok((days, first))
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
        frames: &DayFrames,
        files: &mut Vec<ListedFile>,
    ) -> Result<(), ExportError> {
        let draft = match file {
            DayFile::Parquet(file) => file.finish(self, day, frames)?,
            DayFile::Text(file) => file.finish()?,
        };
        let path = format!("{}/{}", OutDir::partition_name(day), self.file_name());
        files.push(ListedFile { path, bytes: draft.commit()?, rows: frames.rows });
        Ok(())
    }

    fn file_name(&self) -> String {
        format!("{:020}.{}", self.base, self.format)
    }
}

/// A file that is being written.
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
