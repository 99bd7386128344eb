//! The columns of a Parquet file: their schema, their encoding, and the writers of all columns except the payload.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{
    ColumnCloseResult, ColumnWriter, get_column_writer, get_typed_column_writer_mut,
};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, SchemaDescriptor, TypePtr};

use archive::StoredFrame;

/// The columns, with the order and names of `archive cat`. Times have a time type.
const SCHEMA: &str = "
message frames {
    required int64 offset (INTEGER(64,false));
    required int32 source_id (INTEGER(32,false));
    required binary source_kind (STRING);
    required binary station (STRING);
    required int64 epoch (INTEGER(64,false));
    required binary priority (STRING);
    required int64 sequence (INTEGER(64,false));
    required int32 flags (INTEGER(8,false));
    optional int64 ert (TIMESTAMP(NANOS,true));
    required int64 received (TIMESTAMP(NANOS,true));
    required binary payload;
}";

/// Columns in which neighbouring values differ little. Their differences are stored.
const DELTAS: [&str; 4] = ["offset", "sequence", "ert", "received"];
/// The payload column is stored as it is: payloads rarely repeat, and their order means nothing.
pub(super) const PAYLOAD: &str = "payload";

/// Number of frames that are collected and then encoded together.
const CHUNK_ROWS: usize = 8_192;

pub(super) fn schema() -> Result<TypePtr, ParquetError> {
    parse_message_type(SCHEMA).map(Arc::new)
}

/// Returns how columns are written, and the metadata of the file.
pub(super) fn properties(log_id: Option<u64>, base: u64) -> Result<WriterPropertiesPtr, ParquetError> {
    let version = env!("CARGO_PKG_VERSION");
    let mut about = vec![
        KeyValue::new("base_offset".to_owned(), base.to_string()),
        KeyValue::new("program_version".to_owned(), version.to_owned()),
    ];
    about.extend(log_id.map(|id| KeyValue::new("log_id".to_owned(), format!("{id:016x}"))));
    let by_offset = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("telemetry-aggregator version {version}"))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_key_value_metadata(Some(about))
        .set_sorting_columns(Some(vec![by_offset]))
        .set_column_statistics_enabled(ColumnPath::from(PAYLOAD), EnabledStatistics::None)
        .set_column_dictionary_enabled(ColumnPath::from(PAYLOAD), false)
        .set_column_encoding(ColumnPath::from(PAYLOAD), Encoding::PLAIN);
    for name in DELTAS {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(Arc::new(builder.build()))
}

/// Values of a group of frames, column by column.
#[derive(Default)]
struct Chunk {
    offset: Vec<i64>,
    source_id: Vec<i32>,
    source_kind: Vec<ByteArray>,
    station: Vec<ByteArray>,
    epoch: Vec<i64>,
    priority: Vec<ByteArray>,
    sequence: Vec<i64>,
    flags: Vec<i32>,
    ert: Vec<i64>,
    /// 1 if the frame has an `ert`, else 0.
    ert_levels: Vec<i16>,
    received: Vec<i64>,
}

impl Chunk {
    /// Adds a frame. Unsigned numbers keep their bits, because the schema declares them as unsigned.
    fn push(&mut self, stored: &StoredFrame, names: &mut Names) {
        let frame = &stored.frame;
        self.offset.push(stored.offset.cast_signed());
        self.source_id.push(frame.source_id.cast_signed());
        self.source_kind.push(names.shared(frame.source_kind.name()));
        self.station.push(names.shared(frame.origin.stream.station.as_str()));
        self.epoch.push(frame.origin.epoch.cast_signed());
        self.priority.push(names.shared(frame.priority.name()));
        self.sequence.push(frame.sequence.cast_signed());
        self.flags.push(i32::from(frame.flags.0));
        self.ert_levels.push(i16::from(frame.ert_ns != 0));
        if frame.ert_ns != 0 {
            self.ert.push(frame.ert_ns);
        }
        self.received.push(frame.received_ns);
    }

    fn clear(&mut self) {
        let Self { offset, source_id, source_kind, station, epoch, priority, .. } = self;
        let Self { sequence, flags, ert, ert_levels, received, .. } = self;
        for column in [offset, epoch, sequence, ert, received] {
            column.clear();
        }
        for column in [source_kind, station, priority] {
            column.clear();
        }
        source_id.clear();
        flags.clear();
        ert_levels.clear();
    }
}

/// Names in this chunk. Frames with the same name share one value.
#[derive(Default)]
struct Names(HashMap<Box<str>, ByteArray>);

impl Names {
    fn shared(&mut self, name: &str) -> ByteArray {
        if let Some(shared) = self.0.get(name) {
            return shared.clone();
        }
        let shared = ByteArray::from(name);
        self.0.insert(name.into(), shared.clone());
        shared
    }
}

/// All columns except the payload. Each one grows in an unnamed file.
pub(super) struct Columns {
    chunk: Chunk,
    names: Names,
    /// The column writers, in the order of the schema.
    writers: Vec<(ColumnWriter<'static>, File)>,
}

impl Columns {
    /// Creates the columns. Their files lie on the file system of `dir`.
    pub(super) fn begin(
        dir: &Path,
        schema: &TypePtr,
        properties: &WriterPropertiesPtr,
    ) -> Result<Self, ParquetError> {
        let schema = SchemaDescriptor::new(Arc::clone(schema));
        let columns = schema.columns().iter().filter(|column| column.name() != PAYLOAD);
        let writers = columns.map(|column| {
            let file = tempfile::tempfile_in(dir)?;
            let pages = Box::new(Pages(TrackedWrite::new(file.try_clone()?)));
            Ok((get_column_writer(Arc::clone(column), Arc::clone(properties), pages), file))
        });
        let writers = writers.collect::<Result<_, ParquetError>>()?;
        Ok(Self { chunk: Chunk::default(), names: Names::default(), writers })
    }

    pub(super) fn push(&mut self, stored: &StoredFrame) -> Result<(), ParquetError> {
        self.chunk.push(stored, &mut self.names);
        if self.chunk.offset.len() == CHUNK_ROWS { self.encode() } else { Ok(()) }
    }

    /// Finishes the columns. Returns the file and the metadata of each one.
    pub(super) fn close(mut self) -> Result<Vec<(File, ColumnCloseResult)>, ParquetError> {
        self.encode()?;
        let closed = self.writers.into_iter().map(|(writer, file)| Ok((file, writer.close()?)));
        closed.collect()
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let mut writers = self.writers.iter_mut().map(|(writer, _)| writer);
        let mut next = || writers.next().ok_or_else(|| ParquetError::General("too few columns".to_owned()));
        let chunk = &self.chunk;
        write::<Int64Type>(next()?, &chunk.offset, None)?;
        write::<Int32Type>(next()?, &chunk.source_id, None)?;
        write::<ByteArrayType>(next()?, &chunk.source_kind, None)?;
        write::<ByteArrayType>(next()?, &chunk.station, None)?;
        write::<Int64Type>(next()?, &chunk.epoch, None)?;
        write::<ByteArrayType>(next()?, &chunk.priority, None)?;
        write::<Int64Type>(next()?, &chunk.sequence, None)?;
        write::<Int32Type>(next()?, &chunk.flags, None)?;
        write::<Int64Type>(next()?, &chunk.ert, Some(&chunk.ert_levels))?;
        write::<Int64Type>(next()?, &chunk.received, None)?;
        self.chunk.clear();
        self.names.0.clear();
        Ok(())
    }
}

fn write<T: DataType>(
    writer: &mut ColumnWriter<'static>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    get_typed_column_writer_mut::<T>(writer).write_batch(values, levels, None).map(|_| ())
}

/// The pages of a column, one behind the other in a separate file.
struct Pages(TrackedWrite<File>);

impl PageWriter for Pages {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec, ParquetError> {
        SerializedPageWriter::new(&mut self.0).write_page(page)
    }

    fn close(&mut self) -> Result<(), ParquetError> {
        Ok(self.0.flush()?)
    }
}
