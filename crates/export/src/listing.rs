//! `_segments/<base>.json`: which files the export of a segment consists of, and where they are.
//!
//! A listing appears after its files are durable. So the files that it names are whole, and there are no others of this
//! segment.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ExportError;
use super::file::{Draft, create_dir};
use support::plain_file;

/// The directory of the listings in the directory of an export. The underscore keeps readers of data sets from reading
/// the listings as data.
pub const LISTINGS: &str = "_segments";

/// Most bytes that are read of a listing. A segment has one file for each day, so a listing is much smaller.
const BYTES_MAX: u64 = 1 << 20;

/// The files of one exported segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Offset of the segment's first frame. The files and the listing are named after it.
    pub base: u64,
    /// The offset behind the segment's last frame.
    pub end: u64,
    /// The files, in the order of their days.
    pub files: Vec<ListedFile>,
    /// Where and when the files were uploaded. `None` until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<Uploaded>,
    /// Whether the files were removed from the directory after the upload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// A file of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// The path in the directory of the export, such as `date=2026-11-25/00000000000000000000.parquet`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of frames.
    pub rows: u64,
}

/// Where and when a segment was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// The URL of the store.
    pub store: String,
    /// When the upload was complete, unix milliseconds.
    pub at_ms: i64,
}

impl Listing {
    /// Size of all files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Number of frames in all files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Whether the files are in `store`.
    #[must_use]
    pub fn is_in(&self, store: &str) -> bool {
        self.uploaded.as_ref().is_some_and(|uploaded| uploaded.store == store)
    }

    /// The path of the listing in the directory of an export.
    #[must_use]
    pub fn path(&self) -> String {
        path_in(self.base)
    }

    /// The content of the listing's file.
    ///
    /// # Panics
    /// Never: numbers and texts have a form in JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts have a form in JSON")
    }

    /// Writes the listing into the export `out`, in place of an older one of the segment. Blocks.
    ///
    /// # Errors
    /// [`ExportError`] of the file.
    pub fn write(&self, out: &Path) -> Result<(), ExportError> {
        let dir = out.join(LISTINGS);
        create_dir(&dir)?;
        let mut draft = Draft::create(&dir, &name(self.base), 0)?;
        draft.write_all(&self.to_json()).map_err(|error| draft.error("write", error))?;
        draft.commit().map(|_| ())
    }

    /// Removes the files from the export `out` and notes that. Blocks.
    ///
    /// # Errors
    /// [`ExportError`] of a file.
    pub fn remove_files(&mut self, out: &Path) -> Result<(), ExportError> {
        for file in &self.files {
            super::file::remove(&out.join(&file.path))?;
        }
        self.removed = true;
        self.write(out)
    }
}

/// The name of the listing of the segment at `base`.
fn name(base: u64) -> String {
    format!("{base:020}.json")
}

/// The listing of the segment at `base` in the export `out`. Blocks.
///
/// # Errors
/// The error of the file. [`io::ErrorKind::InvalidData`] if the file is no listing of this segment.
pub fn read(out: &Path, base: u64) -> io::Result<Listing> {
    parse(&fs_read(&path_of(out, base))?, base)
}

/// The listing of the segment at `base` in `json`.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if `json` is no listing of this segment.
pub fn parse(json: &[u8], base: u64) -> io::Result<Listing> {
    let listing: Listing = serde_json::from_slice(json)?;
    // A file outside the directory would be uploaded, and removed.
    let is_inside = |file: &ListedFile| {
        Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    if listing.base != base || !listing.files.iter().all(is_inside) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(listing)
}

/// The path of the listing of the segment at `base` in the directory of an export.
#[must_use]
pub fn path_in(base: u64) -> String {
    format!("{LISTINGS}/{}", name(base))
}

/// The path of the listing of the segment at `base` in the export `out`.
#[must_use]
pub fn path_of(out: &Path, base: u64) -> PathBuf {
    out.join(path_in(base))
}

/// The first offsets of the segments that have a listing in the export `out`, in order. Blocks.
///
/// # Errors
/// The error of the directory. A directory that is missing has none.
pub fn list(out: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(out.join(LISTINGS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut bases = Vec::new();
    for entry in entries {
        bases.extend(entry?.file_name().to_str().and_then(base_of));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// The first offset of the segment whose listing has this `name`.
#[must_use]
pub fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json").filter(|digits| super::file::is_base(digits))?;
    digits.parse().ok()
}

fn fs_read(path: &Path) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    plain_file::open(path)?.take(BYTES_MAX).read_to_end(&mut json)?;
    Ok(json)
}
