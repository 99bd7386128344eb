use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use tempfile::TempDir;

use super::error::MANIFEST_NAME;
use super::*;
use archive::{Commit, Config, DiskStorage, Item, Reader, open};
use frame::sample::{emergency, frame, origin};
use frame::{Frame, FramePriority, Selection, batches_of};

mod days;
mod directory;
mod parts;

/// 2026-08-01T00:00:00Z.
const MIDNIGHT: i64 = 1_785_542_400_000_000_000;

/// An archive on the disk, and a directory for exports beside it.
struct Home {
    dir: TempDir,
}

impl Home {
    /// Creates an archive of `commits`, in their order.
    async fn with(commits: Vec<Vec<Frame>>) -> Self {
        let home = Self { dir: TempDir::new().unwrap() };
        home.append(commits).await;
        home
    }

    /// Creates an archive of `frames` frames in several segments.
    async fn of_segments(frames: u64) -> Self {
        let origins = [origin(1, 7), origin(2, 8)];
        let of =
            |sequence: u64| frame(&origins[sequence as usize % 2], FramePriority::Routine, sequence, 200);
        let frames: Vec<Frame> = (0..frames).map(of).collect();
        let home = Self::with(frames.chunks(64).map(<[Frame]>::to_vec).collect()).await;
        assert!(home.bases().len() > 2, "{:?}", home.bases());
        home
    }

    async fn append(&self, commits: Vec<Vec<Frame>>) {
        // The archive rotates after little data.
        let config = Config {
            commit_delay: Duration::ZERO,
            segment_bytes: 192 << 10,
            reserve_bytes: 128 << 10,
            ..Config::new(self.archive(), 16, 256)
        };
        let (appender, archive, recovery) = open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
        let (mut durable, mut next) = (archive.watermark(), recovery.next_offset);
        for commit in commits {
            next += commit.len() as u64;
            for batch in batches_of(commit) {
                appender.append(batch).await.unwrap();
            }
            durable.wait_for(|offset| *offset == next).await.unwrap();
        }
        drop(appender);
        archive.finish().await.unwrap();
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn bases(&self) -> Vec<u64> {
        list_segments(&self.archive()).unwrap()
    }

    fn exporter(&self, format: ExportFormat) -> Exporter {
        Exporter::new(ExportConfig { dir: self.archive(), out: self.out(), format })
    }

    fn export(&self, format: ExportFormat) -> Result<Exported, ExportError> {
        self.exporter(format).export_all(&Filter::default(), &|_| {})
    }

    fn export_some(&self, filter: &Filter) -> Result<Exported, ExportError> {
        self.exporter(ExportFormat::Jsonl).export_all(filter, &|_| {})
    }

    /// Returns the files of the export except its manifest, by their paths in the export.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for dir in fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().path()) {
            let below = fs::read_dir(&dir).into_iter().flatten().map(|entry| entry.unwrap().path());
            for path in below.chain(dir.is_file().then(|| dir.clone())) {
                let name = path.strip_prefix(self.out()).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
        files.remove(MANIFEST_NAME);
        files
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// Returns the field `what` of all lines of a JSON lines export, file after file.
    fn values(&self, what: &str) -> Vec<u64> {
        let files = self.files();
        let lines = files.values().flat_map(|text| std::str::from_utf8(text).unwrap().lines());
        lines
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()[what].as_u64().unwrap())
            .collect()
    }
}

/// Returns a frame that is received at `received_ns`.
fn received(sequence: u64, received_ns: i64) -> Frame {
    Frame { received_ns, ..emergency(&origin(1, 7), sequence) }
}

/// Returns all rows of a Parquet file.
fn rows(path: &Path) -> Vec<Vec<(String, Field)>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        row.unwrap().get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect()
    })
    .collect()
}

/// Returns the value of the column `name` in `row`.
fn field<'a>(row: &'a [(String, Field)], name: &str) -> &'a Field {
    &row.iter().find(|(column, _)| column == name).unwrap().1
}
