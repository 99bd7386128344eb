//! Tests of filters, damage, single segments and interrupted exports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn a_filter_selects_from_all_segments() {
    let home = Home::of_segments(2_000).await;
    let second = Selection::of_sources([2]);
    let filter = Filter { selection: second, from_offset: 501, to_offset: Some(1_999), ..Filter::default() };
    assert_eq!(home.export_some(&filter).unwrap().rows, 749);
    assert_eq!(home.values("offset"), (501..1_999).step_by(2).collect::<Vec<_>>());
    fs::remove_dir_all(home.out()).unwrap();

    // Times are `sequence * 1000 + 7`. The limit reaches beyond the first segment.
    let filter = Filter { from_received_ns: Some(100_007), limit: Some(1_200), ..Filter::default() };
    assert!(home.bases()[1] < 1_000);
    assert_eq!(home.export_some(&filter).unwrap().rows, 1_200);
    assert_eq!(home.values("offset"), (100..1_300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_limit_holds_over_days_too() {
    let frames = (0..6).map(|sequence| received(sequence, MIDNIGHT - 1 + sequence as i64 % 2)).collect();
    let home = Home::with(vec![frames]).await;
    let exported = home.export_some(&Filter { limit: Some(3), ..Filter::default() }).unwrap();
    assert_eq!((exported.files, exported.rows), (2, 3));
    assert_eq!(home.values("offset"), [0, 2, 1]);
}

#[tokio::test]
async fn an_empty_selection_gives_no_files_and_takes_away_what_was_there() {
    let home = Home::with(vec![vec![received(0, 0)]]).await;
    let nothing = Filter { selection: Selection::of_sources([99]), ..Filter::default() };
    assert_eq!(home.export_some(&nothing).unwrap(), Exported::default());
    assert!(home.names().is_empty());
    // Imitates an earlier export of a segment that held more frames.
    let partition = home.out().join("date=2026-01-01");
    fs::create_dir(&partition).unwrap();
    fs::write(partition.join(format!("{:020}.jsonl", 0)), "{}\n").unwrap();
    fs::write(partition.join(format!("{:020}.jsonl", 7)), "{}\n").unwrap();
    home.export_some(&nothing).unwrap();
    assert_eq!(home.names(), [format!("date=2026-01-01/{:020}.jsonl", 7)], "of no segment that was exported");
}

#[tokio::test]
async fn an_interrupted_export_leaves_no_partial_file_and_can_be_repeated() {
    let home = Home::of_segments(2_000).await;
    for format in ExportFormat::ALL {
        let stop = Arc::<AtomicBool>::default();
        let exporter = home.exporter(format).stopped_by(Arc::clone(&stop));
        let second = home.bases()[1];
        let progress = |progress: Progress| stop.store(progress.passed >= second, Ordering::Relaxed);
        let result = exporter.export_all(&Filter::default(), &progress);
        assert!(matches!(result, Err(ExportError::Stopped)), "{result:?}");
        assert_eq!(home.names().len(), 1, "the first segment, and nothing of the second: {:?}", home.names());

        // A killed process leaves its temporary files.
        let partition = home.out().join("date=1970-01-01");
        // One temporary file belongs to an existing segment, and one to a segment that retention has removed.
        for base in [second, second + 1] {
            fs::write(partition.join(format!(".{base:020}.{format}.tmp")), "half").unwrap();
        }
        fs::write(home.out().join(".somebody-else.tmp"), "").unwrap();
        assert_eq!(home.export(format).unwrap().rows, 2_000);
        let files = home.files();
        assert_eq!(files.len(), home.bases().len() + 1, "{:?}", files.keys());
        assert!(files.contains_key(".somebody-else.tmp"), "only what exports left is removed");
        home.export(format).unwrap();
        assert!(files == home.files(), "a second export writes the same");
        fs::remove_dir_all(home.out()).unwrap();
    }
}

#[tokio::test]
async fn segments_removed_by_retention_are_skipped_and_their_exports_stay() {
    let home = Home::of_segments(2_000).await;
    home.export(ExportFormat::Jsonl).unwrap();
    let before = home.files();
    let first = home.archive().join(segment_name(0));
    let frames = home.bases()[1];
    let retention = |_: Progress| drop(fs::remove_file(&first));
    let exported = home.exporter(ExportFormat::Jsonl).export_all(&Filter::default(), &retention).unwrap();
    assert_eq!((exported.rows, exported.expired), (2_000 - frames, 1));
    assert!(before == home.files());
}

#[tokio::test]
async fn damage_is_skipped_and_reported() {
    let home = Home::with(vec![vec![received(0, 0)], vec![received(1, 0)], vec![received(2, 0)]]).await;
    let path = home.archive().join(segment_name(0));
    let mut content = fs::read(&path).unwrap();
    let payload = received(1, 0).payload;
    let at = content.windows(payload.len()).position(|bytes| bytes == payload).unwrap();
    content[at] ^= 1;
    fs::write(&path, content).unwrap();
    for format in ExportFormat::ALL {
        let exported = home.export(format).unwrap();
        let Exported { files, rows, lost, first_lost, .. } = exported;
        assert_eq!((files, rows, lost, first_lost), (1, 2, 1, Some(1)), "{format}");
        fs::remove_dir_all(home.out()).unwrap();
    }
}

#[tokio::test]
async fn a_sealed_segment_is_marked_when_it_is_exported() {
    let home = Home::of_segments(2_000).await;
    let (base, end) = (home.bases()[1], home.bases()[2]);
    let exporter = home.exporter(ExportFormat::Parquet);
    assert!(!exporter.is_exported(base));
    let exported = exporter.export_segment(base, end).unwrap();
    assert_eq!((exported.files, exported.rows), (1, end - base));
    let file = format!("date=1970-01-01/{base:020}.parquet");
    assert_eq!(home.names(), [format!("_segments/{base:020}.json"), file.clone()]);
    let listing = listing::read(&home.out(), base).unwrap();
    assert_eq!((listing.base, listing.end, listing.rows()), (base, end, end - base));
    assert_eq!((listing.files[0].path.as_str(), listing.bytes()), (file.as_str(), exported.bytes));
    assert_eq!(listing::list(&home.out()).unwrap(), [base]);
    assert!(exporter.is_exported(base));
    assert!(!exporter.is_exported(end));
    assert!(home.archive().join(mark_name(base)).exists());
    let config = ExportConfig { out: home.dir.path().join("elsewhere"), ..exporter.config.clone() };
    assert!(!Exporter::new(config).is_exported(base), "an export to another place is due");
    assert!(!home.exporter(ExportFormat::Csv).is_exported(base));

    let listed = home.exporter(ExportFormat::Parquet).needs_listings(true);
    assert!(listed.is_exported(base));
    fs::remove_file(listing::path_of(&home.out(), base)).unwrap();
    assert!(!listed.is_exported(base), "an older version exported it");
    assert!(exporter.is_exported(base));

    // The command and the daemon may share a directory.
    assert_eq!(home.export(ExportFormat::Parquet).unwrap().rows, 2_000);
    let missing = exporter.export_segment(base + 1, end);
    assert!(matches!(missing, Err(ExportError::Gone { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_segment_whose_export_failed_is_not_marked() {
    let home = Home::of_segments(2_000).await;
    let exporter = home.exporter(ExportFormat::Parquet).stopped_by(Arc::new(AtomicBool::new(true)));
    let result = exporter.export_segment(0, home.bases()[1]);
    assert!(matches!(result, Err(ExportError::Stopped)), "{result:?}");
    assert!(!exporter.is_exported(0));
    assert!(home.names().is_empty());
}
