//! Writes CSV and JSON lines.

use std::io::{self, BufWriter, Write as _};

use super::error::ExportError;
use super::file::Draft;
use archive::StoredFrame;
use archive::line::Line;

/// Bytes collected for one write.
const BUFFER_BYTES: usize = 256 << 10;

/// A text file that is being written.
pub(super) enum TextFile {
    /// CSV with a header line.
    Csv(Box<csv::Writer<Draft>>),
    /// The lines of `archive cat`.
    Jsonl(BufWriter<Draft>),
}

impl TextFile {
    pub(super) fn csv(draft: Draft) -> Self {
        // The line ending is the same as in JSON lines on every platform.
        let mut builder = csv::WriterBuilder::new();
        builder.buffer_capacity(BUFFER_BYTES).terminator(csv::Terminator::Any(b'\n'));
        Self::Csv(Box::new(builder.from_writer(draft)))
    }

    pub(super) fn jsonl(draft: Draft) -> Self {
        Self::Jsonl(BufWriter::with_capacity(BUFFER_BYTES, draft))
    }

    pub(super) fn push(&mut self, stored: &StoredFrame) -> Result<(), ExportError> {
        let line = Line::of(stored);
        let written = match self {
            Self::Csv(out) => line.for_spreadsheets(|line| out.serialize(line)).map_err(of_csv),
            Self::Jsonl(out) => line.write_json(out),
        };
        written.map_err(|error| self.draft().error("write", error))
    }

    /// Finishes the file with all its lines. The file still has its temporary name.
    pub(super) fn finish(mut self) -> Result<Draft, ExportError> {
        let flushed = match &mut self {
            Self::Csv(out) => out.flush(),
            Self::Jsonl(out) => out.flush(),
        };
        flushed.map_err(|error| self.draft().error("write", error))?;
        match self {
            Self::Csv(out) => out.into_inner().map_err(|error| {
                let source = io::Error::new(error.error().kind(), error.to_string());
                error.into_inner().get_ref().error("write", source)
            }),
            Self::Jsonl(out) => out.into_inner().map_err(|error| {
                let (source, out) = error.into_parts();
                out.get_ref().error("write", source)
            }),
        }
    }

    fn draft(&self) -> &Draft {
        match self {
            Self::Csv(out) => out.get_ref(),
            Self::Jsonl(out) => out.get_ref(),
        }
    }
}

/// Returns the I/O error inside a CSV error, if there is one, so that a full disk is recognised.
fn of_csv(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
