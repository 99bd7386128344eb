//! Writes a Parquet file of one row group: the columns of the first pass, then the payloads of the second pass.

use bytes::{Bytes, BytesMut};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::TypePtr;

use super::columns::{Columns, properties, schema};
use super::day::Day;
use super::error::ExportError;
use super::file::Draft;
use super::part::{DayFrames, Part};
use archive::StoredFrame;

/// Payloads are copied together up to this many bytes. Without the copy, each payload would keep its whole block in
/// memory.
const PAYLOADS_BYTES: usize = 1 << 20;
/// Maximum number of payloads that are encoded together.
const PAYLOADS_MAX: usize = 8_192;

/// A Parquet file that is being written.
pub(super) struct ParquetFile {
    draft: Draft,
    need: u64,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    columns: Columns,
}

impl ParquetFile {
    pub(super) fn begin(draft: Draft, part: &Part<'_>) -> Result<Self, ExportError> {
        let dir = draft.path().parent().unwrap_or(draft.path()).to_owned();
        let begin = || {
            let (schema, properties) = (schema()?, properties(part.log_id, part.base)?);
            let columns = Columns::begin(&dir, &schema, &properties)?;
            Ok((schema, properties, columns))
        };
        match begin() {
            Ok((schema, properties, columns)) => {
                Ok(Self { draft, need: part.need, schema, properties, columns })
            }
            Err(error) => Err(ExportError::of_parquet(draft.path(), part.need, error)),
        }
    }

    /// Adds all fields of a frame except the payload.
    pub(super) fn push(&mut self, stored: &StoredFrame) -> Result<(), ExportError> {
        let pushed = self.columns.push(stored);
        pushed.map_err(|error| ExportError::of_parquet(self.draft.path(), self.need, error))
    }

    /// Assembles the file, with the payloads of a second pass over `frames`. The file still has its temporary name.
    pub(super) fn finish(self, part: &Part<'_>, day: Day, frames: &DayFrames) -> Result<Draft, ExportError> {
        let Self { mut draft, need, schema, properties, columns } = self;
        let path = draft.path().to_owned();
        let failed = |error| ExportError::of_parquet(&path, need, error);
        let columns = columns.close().map_err(failed)?;
        let mut writer = SerializedFileWriter::new(&mut draft, schema, properties).map_err(failed)?;
        let mut group = writer.next_row_group().map_err(failed)?;
        for (file, closed) in columns {
            group.append_column(&file, closed).map_err(failed)?;
        }
        let column = group.next_column().map_err(failed)?;
        let column =
            column.ok_or_else(|| failed(ParquetError::General("no column of payloads".to_owned())))?;
        let mut payloads = Payloads::new(column);
        part.read_again(day, frames, |stored| payloads.push(&stored.frame.payload).map_err(failed))?;
        payloads.close().map_err(failed)?;
        group.close().map_err(failed)?;
        writer.close().map_err(failed)?;
        Ok(draft)
    }
}

/// The payload column.
struct Payloads<'a> {
    column: SerializedColumnWriter<'a>,
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl<'a> Payloads<'a> {
    fn new(column: SerializedColumnWriter<'a>) -> Self {
        Self { column, bytes: BytesMut::new(), ends: Vec::new() }
    }

    fn push(&mut self, payload: &Bytes) -> Result<(), ParquetError> {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
        if self.bytes.len() >= PAYLOADS_BYTES || self.ends.len() == PAYLOADS_MAX {
            self.encode()?;
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let mut start = 0;
        let values: Vec<ByteArray> = self
            .ends
            .drain(..)
            .map(|end| ByteArray::from(bytes.slice(std::mem::replace(&mut start, end)..end)))
            .collect();
        self.bytes.reserve(PAYLOADS_BYTES);
        self.column.typed::<ByteArrayType>().write_batch(&values, None, None).map(|_| ())
    }

    fn close(mut self) -> Result<(), ParquetError> {
        self.encode()?;
        self.column.close()
    }
}
