//! What a reader announces to the system before it reads it.

use std::sync::Arc;

use super::support::*;
use super::watched::Watched;
use crate::archive::storage::mem::MemStorage;
use crate::archive::{Config, Filter, Reader};
use crate::frame::FramePriority;

const FRAMES: u64 = 16_000;

/// One segment of about 4 MiB, with 2 MiB of space allocated behind.
async fn archive() -> MemStorage {
    let storage = MemStorage::default();
    let config = Config { segment_bytes: 8 << 20, reserve_bytes: 8 << 20, ..config() };
    let running = start_with(config, storage.clone(), None);
    for first in (0..FRAMES).step_by(64) {
        let batch = (first..first + 64).map(|at| frame(&origin(1, 1), FramePriority::Routine, at, 230));
        running.append(batch.collect()).await;
    }
    running.finish().await;
    let path = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
    let mut image = storage.content(&path);
    image.resize(image.len() + (2 << 20), 0);
    storage.put(&path, image);
    storage
}

fn read(storage: &Watched, filter: Filter) -> u64 {
    let reader = Reader::open_on(Arc::new(storage.clone()), dir(), filter).unwrap();
    reader.inspect(|item| assert!(item.is_ok())).count() as u64
}

#[tokio::test]
async fn a_reader_in_order_announces_what_it_will_read_and_no_more() {
    let storage = archive().await;
    let path = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
    let written = storage.content(&path).len() as u64 - (2 << 20);
    let storage = Watched::new(storage);
    assert_eq!(read(&storage, Filter::default()), FRAMES);
    let announced = storage.take_read_ahead();
    assert!(announced.len() >= 4, "{announced:?}");
    assert!(announced.is_sorted_by(|a, b| a.end <= b.start), "something was announced twice: {announced:?}");
    let last = announced.last().unwrap();
    assert!(last.end >= written, "announced to {}, written to {written}", last.end);
    assert!(last.end <= written + (1 << 20), "announced to {}, written to {written}", last.end);
}

#[tokio::test]
async fn who_reads_a_little_announces_nothing() {
    let storage = Watched::new(archive().await);
    let filter = Filter { from_offset: FRAMES / 2, limit: Some(1), ..Filter::default() };
    assert_eq!(read(&storage, filter), 1);
    assert_eq!(storage.take_read_ahead(), []);
}
