//! `_export.json`: describes what an export directory holds, so that exports are never mixed in one directory.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{ExportError, MANIFEST_NAME};
use super::{ExportFormat, file};
use archive::Filter;
use support::plain_file;

/// Maximum bytes that are read of the manifest.
const BYTES_MAX: u64 = 64 << 20;

/// Describes what an export directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The id of the log in hexadecimal. `None` if no segment has a sound header.
    log_id: Option<String>,
    format: ExportFormat,
    filter: Choice,
}

/// The filter in the form of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    from_offset: u64,
    to_offset: Option<u64>,
    from_received_ns: Option<i64>,
    to_received_ns: Option<i64>,
    sources: Vec<u32>,
    priority: Option<String>,
    kind: Option<String>,
    limit: Option<u64>,
}

impl From<&Filter> for Choice {
    fn from(filter: &Filter) -> Self {
        Self {
            from_offset: filter.from_offset,
            to_offset: filter.to_offset,
            from_received_ns: filter.from_received_ns,
            to_received_ns: filter.to_received_ns,
            sources: filter.selection.sources().to_vec(),
            priority: filter.selection.priority.map(|priority| priority.name().to_owned()),
            kind: filter.selection.kind.map(|kind| kind.name().to_owned()),
            limit: filter.limit,
        }
    }
}

impl Manifest {
    /// Describes an export of the log `log_id`.
    pub(super) fn new(log_id: Option<u64>, format: ExportFormat, filter: &Filter) -> Self {
        Self { log_id: log_id.map(|id| format!("{id:016x}")), format, filter: filter.into() }
    }

    /// The log's id as written in the manifest, or `unknown`.
    pub(super) fn log_id(&self) -> &str {
        self.log_id.as_deref().unwrap_or("unknown")
    }

    /// Compares `self` with the manifest in `out`. Writes the manifest if `out` holds no export.
    ///
    /// # Errors
    /// [`ExportError::Mixed`] or [`ExportError::Foreign`] if `out` holds another export.
    pub(super) fn claim(&self, out: &Path) -> Result<(), ExportError> {
        match read(&out.join(MANIFEST_NAME))? {
            Found::Manifest(found) => self.compare(&found, out),
            Found::Nothing if !file::has_partitions(out)? => self.write(out),
            Found::Nothing | Found::Unreadable => Err(ExportError::Foreign { out: out.to_owned() }),
        }
    }

    fn compare(&self, found: &Self, out: &Path) -> Result<(), ExportError> {
        let (what, found, wanted) = if self.log_id != found.log_id {
            ("log", found.log_id().to_owned(), self.log_id().to_owned())
        } else if self.format != found.format {
            ("format", found.format.to_string(), self.format.to_string())
        } else if self.filter != found.filter {
            ("filter", text(&found.filter), text(&self.filter))
        } else {
            return Ok(());
        };
        Err(ExportError::Mixed { out: out.to_owned(), what, found, wanted })
    }

    fn write(&self, out: &Path) -> Result<(), ExportError> {
        let json = text(self);
        let mut draft = file::Draft::create(out, MANIFEST_NAME, json.len() as u64)?;
        let written = writeln!(draft, "{json}");
        written.map_err(|error| draft.error("write", error))?;
        draft.commit().map(|_| ())
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("({error})"))
}

enum Found {
    Nothing,
    Manifest(Box<Manifest>),
    Unreadable,
}

fn read(path: &Path) -> Result<Found, ExportError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Ok(metadata) if metadata.len() > BYTES_MAX => return Ok(Found::Unreadable),
        _ => {}
    }
    let mut text = Vec::new();
    plain_file::open(path)
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text))
        .map_err(|error| ExportError::of_file("read", path, 0, error))?;
    Ok(serde_json::from_slice(&text).map_or(Found::Unreadable, |found| Found::Manifest(Box::new(found))))
}
