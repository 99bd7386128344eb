//! Tests of days, times and the content of the files.

use std::sync::Arc;

use super::*;
use frame::{Origin, SourceKind, Station, StreamKey};

#[tokio::test]
async fn a_segment_that_spans_midnight_gives_a_file_for_each_day() {
    // The clock is set back and forward: days need not be in order.
    let times = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT - 2, MIDNIGHT + 1];
    let frames = times.iter().zip(0..).map(|(time, sequence)| received(sequence, *time)).collect();
    let home = Home::with(vec![frames]).await;
    let exported = home.export(ExportFormat::Jsonl).unwrap();
    assert_eq!((exported.files, exported.rows), (2, 4));
    let [july, august] = ["date=2026-07-31", "date=2026-08-01"].map(|day| format!("{day}/{:020}.jsonl", 0));
    assert_eq!(home.names(), [july.as_str(), august.as_str()]);
    assert_eq!(home.values("offset"), [0, 2, 1, 3]);
    let bytes: usize = home.files().values().map(Vec::len).sum();
    assert_eq!(exported.bytes, bytes as u64);
}

#[tokio::test]
async fn parquet_of_a_segment_that_spans_midnight_has_one_row_group_a_file() {
    let times = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT - 2, MIDNIGHT + 1];
    let frames = times.iter().zip(0..).map(|(time, sequence)| received(sequence, *time)).collect();
    let home = Home::with(vec![frames]).await;
    let exported = home.export(ExportFormat::Parquet).unwrap();
    assert_eq!((exported.files, exported.rows), (2, 4));
    let mut offsets = Vec::new();
    for name in home.names() {
        let path = home.out().join(name);
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.num_row_groups(), 1);
        let sorting = metadata.row_group(0).sorting_columns().unwrap();
        assert_eq!((sorting.len(), sorting[0].column_idx, sorting[0].descending), (1, 0, false));
        let about = metadata.file_metadata().key_value_metadata().unwrap();
        let about: BTreeMap<_, _> =
            about.iter().map(|pair| (&*pair.key, pair.value.clone().unwrap())).collect();
        assert_eq!(about["base_offset"], "0");
        assert_eq!(about["program_version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(about["log_id"], format!("{:016x}", inspect::log_id(&home.archive()).unwrap().unwrap()));
        for row in rows(&path) {
            offsets.push(field(&row, "offset").clone());
        }
    }
    assert_eq!(offsets, [0, 2, 1, 3].map(Field::ULong));
}

#[tokio::test]
async fn extreme_values_and_times_before_1970_survive_parquet() {
    let mut first = received(0, -1);
    (first.ert_ns, first.flags, first.sequence) = (0, frame::FrameFlags(255), u64::MAX - 1);
    (first.source_id, first.origin) = (u32::MAX, origin(u32::MAX, u64::MAX));
    let second = Frame { ert_ns: -5, payload: bytes::Bytes::new(), ..received(3, 0) };
    let home = Home::with(vec![vec![first.clone(), second]]).await;
    home.export(ExportFormat::Parquet).unwrap();
    let [before, after] = ["1969-12-31", "1970-01-01"]
        .map(|day| rows(&home.out().join(format!("date={day}/{:020}.parquet", 0))));
    let text = |text: &str| Field::Str(text.to_owned());
    let row = |values: Vec<Field>| -> Vec<(String, Field)> {
        let names = [
            "offset",
            "source_id",
            "source_kind",
            "station",
            "epoch",
            "priority",
            "sequence",
            "flags",
            "ert",
            "received",
            "payload",
        ];
        names.iter().map(|name| (*name).to_owned()).zip(values).collect()
    };
    let [live, station, lane] = ["live", "Svalbard", "emergency"].map(text);
    let payload = Field::Bytes(first.payload.to_vec().into());
    assert_eq!(
        before,
        [row(vec![
            Field::ULong(0),
            Field::UInt(u32::MAX),
            live.clone(),
            station.clone(),
            Field::ULong(u64::MAX),
            lane.clone(),
            Field::ULong(u64::MAX - 1),
            Field::UByte(255),
            Field::Null,
            Field::Long(-1),
            payload,
        ])]
    );
    assert_eq!(
        after,
        [row(vec![
            Field::ULong(1),
            Field::UInt(1),
            live,
            station,
            Field::ULong(7),
            lane,
            Field::ULong(3),
            Field::UByte(3),
            Field::Long(-5),
            Field::Long(0),
            Field::Bytes(Vec::new().into()),
        ])]
    );
}

#[tokio::test]
async fn a_station_that_looks_like_a_formula_is_text_in_a_spreadsheet() {
    let names =
        ["=HYPERLINK(\"http://evil.example\")", "+1", "-1", "@SUM(A1)", "'=1", "＝1", "KIRUNA", "a=b", ""];
    let stations = names.map(|name| {
        let stream = StreamKey {
            source_id: 1,
            source_kind: SourceKind::LiveUplink,
            station: Station::new(name).unwrap(),
        };
        Arc::new(Origin { stream, epoch: 7 })
    });
    let frames = stations.iter().map(|origin| frame(origin, FramePriority::Routine, 0, 10)).collect();
    let home = Home::with(vec![frames]).await;
    home.export(ExportFormat::Csv).unwrap();
    let files = home.files();
    let text = files.values().next().unwrap();
    let mut reader = csv::Reader::from_reader(&text[..]);
    let cells: Vec<String> = reader.records().map(|row| row.unwrap()[3].to_owned()).collect();
    assert_eq!(
        cells,
        [
            "'=HYPERLINK(\"http://evil.example\")",
            "'+1",
            "'-1",
            "'@SUM(A1)",
            "''=1",
            "'＝1",
            "KIRUNA",
            "a=b",
            ""
        ]
    );
    // Removing one apostrophe gives the name back.
    let read: Vec<&str> = cells.iter().map(|cell| cell.strip_prefix('\'').unwrap_or(cell)).collect();
    assert_eq!(read, names);
    // JSON lines and Parquet are not read by spreadsheets, so they contain the names unchanged.
    std::fs::remove_dir_all(home.out()).unwrap();
    home.export(ExportFormat::Jsonl).unwrap();
    assert!(
        home.files()
            .values()
            .next()
            .unwrap()
            .starts_with(br#"{"offset":0,"source_id":1,"source_kind":"live","station":"=HYPER"#)
    );
}

#[tokio::test]
async fn every_frame_comes_out_once_in_every_format() {
    let home = Home::of_segments(2_000).await;
    let frames: Vec<Frame> = Reader::open(&home.archive(), Filter::default())
        .unwrap()
        .map(|item| match item.unwrap() {
            Item::Frame(stored) => stored.frame,
            other => panic!("{other:?}"),
        })
        .collect();
    for format in ExportFormat::ALL {
        let exported = home.export(format).unwrap();
        assert_eq!((exported.rows, exported.lost, exported.first_lost), (2_000, 0, None));
        let files = home.files();
        assert_eq!(files.len(), home.bases().len(), "a file for each segment");
        let mut sequences = Vec::new();
        match format {
            ExportFormat::Parquet => {
                for (name, base) in files.keys().zip(home.bases()) {
                    assert_eq!(*name, format!("date=1970-01-01/{base:020}.parquet"));
                    for row in rows(&home.out().join(name)) {
                        let Field::ULong(sequence) = field(&row, "sequence") else { panic!("{row:?}") };
                        let payload = frames[*sequence as usize].payload.to_vec();
                        assert_eq!(*field(&row, "payload"), Field::Bytes(payload.into()));
                        sequences.push(*sequence);
                    }
                }
            }
            ExportFormat::Csv => {
                for text in files.values() {
                    let mut reader = csv::Reader::from_reader(&text[..]);
                    let header = "offset,source_id,source_kind,station,epoch,priority,sequence,flags,ert_ns,\
                                  received_ns,payload";
                    assert_eq!(reader.headers().unwrap(), header.split(',').collect::<Vec<_>>());
                    sequences.extend(reader.records().map(|row| row.unwrap()[6].parse::<u64>().unwrap()));
                }
            }
            ExportFormat::Jsonl => sequences = home.values("sequence"),
        }
        assert_eq!(sequences, (0..2_000).collect::<Vec<_>>(), "{format}");
        fs::remove_dir_all(home.out()).unwrap();
    }
}
