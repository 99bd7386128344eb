//! Tests of the content of an export directory.

use super::*;

async fn home() -> Home {
    Home::with(vec![vec![received(0, 0)]]).await
}

#[tokio::test]
async fn exports_of_something_else_are_not_mixed_in() {
    let home = home().await;
    home.export(ExportFormat::Jsonl).unwrap();
    let before = home.files();
    let filter = Filter { limit: Some(1), ..Filter::default() };
    let other_filter = home.export_some(&filter).unwrap_err().to_string();
    assert!(
        other_filter.contains("holds an export with another filter: {\"from_offset\":0,"),
        "{other_filter}"
    );
    assert!(other_filter.contains("\"limit\":1"), "{other_filter}");
    let other_format = home.export(ExportFormat::Csv).unwrap_err().to_string();
    assert!(other_format.contains("another format: jsonl there, csv now"), "{other_format}");

    fs::remove_dir_all(home.archive()).unwrap();
    home.append(vec![vec![received(0, 0)]]).await;
    let other_log = home.export(ExportFormat::Jsonl).unwrap_err().to_string();
    assert!(other_log.contains("another log: "), "{other_log}");
    assert_eq!(before, home.files());
}

#[tokio::test]
async fn partitions_of_unknown_origin_are_left_alone() {
    let home = home().await;
    fs::create_dir_all(home.out().join("date=2026-01-01")).unwrap();
    assert!(matches!(home.export(ExportFormat::Csv), Err(ExportError::Foreign { .. })));
    fs::write(home.out().join(MANIFEST_NAME), "{").unwrap();
    assert!(matches!(home.export(ExportFormat::Csv), Err(ExportError::Foreign { .. })));
    assert!(!home.out().join(format!("date=1970-01-01/{:020}.csv", 0)).exists());
}

#[tokio::test]
async fn two_exports_do_not_write_to_one_directory_at_a_time() {
    let home = home().await;
    let other = OutDir::open(&home.out()).unwrap();
    assert!(matches!(home.export(ExportFormat::Csv), Err(ExportError::Busy { .. })));
    drop(other);
    home.export(ExportFormat::Csv).unwrap();
}

#[tokio::test]
async fn an_export_does_not_overlap_its_archive() {
    let home = home().await;
    let link = home.dir.path().join("link");
    std::os::unix::fs::symlink(home.archive(), &link).unwrap();
    for out in [home.archive(), home.archive().join("a/b"), home.dir.path().to_owned(), link.join("x")] {
        let config = ExportConfig { dir: home.archive(), out: out.clone(), format: ExportFormat::Csv };
        let result = Exporter::new(config).export_all(&Filter::default(), &|_| {});
        assert!(matches!(result, Err(ExportError::Overlap { .. })), "{out:?}: {result:?}");
    }
    assert!(!home.archive().join("a").exists());
    assert!(!overlap(Path::new("/a/archive-2"), Path::new("/a/archive")));
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named_with_a_remedy() {
    let home = home().await;
    let missing = home.dir.path().join("missing/out");
    let file = home.dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (out, what) in [
        (missing.clone(), "No such file or directory (os error 2); create the directory it lies in first"),
        (file, "name a directory or what does not exist yet"),
    ] {
        let config = ExportConfig { dir: home.archive(), out: out.clone(), format: ExportFormat::Csv };
        let error = Exporter::new(config).export_all(&Filter::default(), &|_| {}).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot create {}: ", out.display())), "{error}");
        assert!(error.contains(what), "{error}");
    }
    assert!(!missing.parent().unwrap().exists(), "it may be a disk that is not mounted");
}
