//! Which part is sent next, when the catalog changes in between.

use super::*;
use catalog::sample::text_of;
use wire::{ServerMessage, next_body};

const MESSAGE_BYTES_MAX: usize = 4 << 10;

fn catalog(version: u64, satellites: usize) -> Arc<Catalog> {
    Arc::new(Catalog::new(version, text_of(satellites).into()).unwrap())
}

fn next(owed: &mut CatalogCursor) -> Option<CatalogPart> {
    let mut out = BytesMut::new();
    owed.encode_next(&mut out).then(|| {
        let body = next_body(&mut out, MESSAGE_BYTES_MAX).unwrap().unwrap();
        assert!(out.is_empty(), "one message at a time");
        match ServerMessage::decode(body).unwrap() {
            ServerMessage::Catalog(part) => part,
            other => panic!("{other:?} is no part of a catalog"),
        }
    })
}

/// The parts that remain of one version, as text.
fn rest(owed: &mut CatalogCursor) -> (u64, Vec<u8>) {
    let parts: Vec<_> = std::iter::from_fn(|| next(owed)).collect();
    for (at, part) in parts.iter().enumerate() {
        assert_eq!((part.format, usize::from(part.part)), (0, at));
        assert_eq!((usize::from(part.parts), part.version), (parts.len(), parts[0].version));
    }
    (parts[0].version, parts.iter().flat_map(|part| part.data.to_vec()).collect())
}

#[test]
fn a_catalog_is_sent_whole_in_parts_within_the_limit() {
    let large = catalog(7, 100);
    let (_tx, current) = watch::channel(Arc::clone(&large));
    let mut owed = CatalogCursor::new(current, MESSAGE_BYTES_MAX);
    assert_eq!(rest(&mut owed), (7, large.text().to_vec()));
    assert!(!owed.is_due());
    assert_eq!(next(&mut owed), None, "nothing is sent twice");
}

#[test]
fn version_0_is_not_sent() {
    let (_tx, current) = watch::channel(Arc::default());
    let mut owed = CatalogCursor::new(current, MESSAGE_BYTES_MAX);
    assert_eq!(next(&mut owed), None);
    assert!(!owed.is_due());
}

#[tokio::test]
async fn a_newer_version_replaces_one_that_is_partly_sent() {
    let (tx, current) = watch::channel(catalog(1, 100));
    let mut owed = CatalogCursor::new(current, MESSAGE_BYTES_MAX);
    let begun = next(&mut owed).unwrap();
    assert!(begun.parts > 2, "{begun:?}");
    let newest = catalog(3, 90);
    tx.send_replace(catalog(2, 80));
    tx.send_replace(Arc::clone(&newest));
    assert_eq!(rest(&mut owed), (3, newest.text().to_vec()));
    let small = catalog(4, 1);
    tx.send_replace(Arc::clone(&small));
    owed.changed().await;
    assert_eq!(rest(&mut owed), (4, small.text().to_vec()));
}

#[tokio::test]
async fn no_version_is_kept_for_a_client_that_reads_nothing() {
    let old = catalog(1, 100);
    let (tx, current) = watch::channel(Arc::clone(&old));
    let mut owed = CatalogCursor::new(current, MESSAGE_BYTES_MAX);
    next(&mut owed).unwrap();
    tx.send_replace(catalog(2, 1));
    assert_eq!(Arc::strong_count(&old), 1);
}
