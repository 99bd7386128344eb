mod repair;
mod support;

use std::sync::Arc;

use self::support::{archive, three_frames, three_segments};
use super::CommandError;
use crate::archive::{DiskStorage, build_indexes};

/// The oldest segment and its index.
const SEGMENT: &str = "00000000000000000000.seg";
const INDEX: &str = "00000000000000000000.idx";

#[tokio::test]
async fn cat_writes_frames_of_a_running_archive() {
    let data = tempfile::tempdir().unwrap();
    let running = three_frames(data.path()).await;
    let (result, text) = archive("cat --source 2", data.path());
    assert!(result.unwrap());
    assert_eq!(
        text,
        "{\"offset\":1,\"source_id\":2,\"source_kind\":\"live\",\"station\":\"Svalbard\",\"epoch\":8,\
         \"priority\":\"routine\",\"sequence\":2,\"flags\":2,\"ert_ns\":2000,\"received_ns\":2007,\
         \"payload\":\"Pj9A\"}\n"
    );
    let lines = |line| archive(line, data.path()).1.lines().count();
    assert_eq!(lines("cat"), 3);
    assert_eq!(lines("cat --priority emergency"), 1);
    assert_eq!(lines("cat --kind replay"), 0);
    assert_eq!(lines("cat --from-offset 1 --limit 1"), 1);
    assert_eq!(lines("cat --to-offset 1"), 1);
    assert_eq!(lines("cat --source 1 --source 2"), 3);
    // Received at 1,007, 2,007 and 3,007 ns.
    assert_eq!(lines("cat --from 0.000002007 --to 3007ns"), 1);
    let inner = data.path().join("archive");
    let (_, payload) = archive("cat --format payload --source 2", &inner);
    assert_eq!(payload, ">?@");
    running.finish().await;
}

#[tokio::test]
async fn ls_lists_segments() {
    let data = tempfile::tempdir().unwrap();
    let running = three_frames(data.path()).await;
    let (_, text) = archive("ls", data.path());
    let columns: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(columns[..4], [SEGMENT, "0", "3", "3"]);
    running.finish().await;
}

#[tokio::test]
async fn verify_names_file_and_offsets_of_damage() {
    let data = tempfile::tempdir().unwrap();
    three_frames(data.path()).await.finish().await;
    let (result, text) = archive("verify", data.path());
    assert!(result.unwrap());
    assert_eq!(text, "ok: 3 frames, next offset 3\n");

    let path = data.path().join("archive").join(SEGMENT);
    let mut content = std::fs::read(&path).unwrap();
    let at = content.windows(3).position(|bytes| bytes == b">?@").unwrap();
    content[at] ^= 1;
    std::fs::write(&path, content).unwrap();
    let (result, text) = archive("verify", data.path());
    assert!(!result.unwrap());
    assert!(text.starts_with(&format!("damage: {} bytes ", path.display())), "{text}");
    assert!(text.contains("offsets 0..2 lost"), "{text}");
    let (result, text) = archive("cat", data.path());
    assert!(matches!(result, Err(CommandError::Damaged { offsets: 2, first: 0 })));
    assert_eq!(text.lines().count(), 1, "what can be read is written");
}

#[test]
fn a_directory_without_an_archive_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let (result, _) = archive("ls", data.path());
    assert!(result.unwrap_err().to_string().contains("holds no archive"));
}

#[tokio::test]
async fn verify_compares_indexes_with_their_segments() {
    let data = tempfile::tempdir().unwrap();
    three_segments(data.path()).await;
    let dir = data.path().join("archive");
    let (result, text) = archive("verify", data.path());
    assert!(result.unwrap());
    assert!(text.starts_with("2 sealed segments have no index yet"), "{text}");

    let storage = Arc::new(DiskStorage);
    assert_eq!(build_indexes(storage.clone(), &dir).unwrap(), 2);
    assert_eq!(build_indexes(storage, &dir).unwrap(), 0);
    let (result, text) = archive("verify", data.path());
    assert!(result.unwrap() && text.starts_with("ok: "), "{text}");

    let path = dir.join(INDEX);
    let mut content = std::fs::read(&path).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    std::fs::write(&path, content).unwrap();
    let (result, text) = archive("verify", data.path());
    assert!(!result.unwrap());
    assert!(text.starts_with(&format!("index {} does not match its segment", path.display())), "{text}");
}

#[tokio::test]
async fn ls_tells_what_an_index_knows() {
    let data = tempfile::tempdir().unwrap();
    three_segments(data.path()).await;
    let row = |text: &str| -> Vec<String> {
        text.lines().nth(1).unwrap().split_whitespace().skip(6).map(str::to_owned).collect()
    };
    assert_eq!(row(&archive("ls", data.path()).1), ["no", "-", "-"]);
    let dir = data.path().join("archive");
    build_indexes(Arc::new(DiskStorage), &dir).unwrap();
    // The frames were received within a millisecond of 1970.
    let time = "1970-01-01T00:00:00Z";
    assert_eq!(row(&archive("ls", data.path()).1), ["yes", time, time]);
}
