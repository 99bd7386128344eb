//! The catalog as the sources receive it: joins the parts and counts complete versions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use wire::CatalogPart;

/// Most bytes of a catalog that a source keeps. A longer catalog is counted but not kept.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// TLE text, the only format.
const TLE_TEXT: u8 = 0;

/// Whether the sources ask for the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatalogWish {
    /// The sources do not ask for the catalog.
    #[default]
    No,
    /// The sources ask for the catalog and count what they get.
    Count,
    /// The sources ask for the catalog, and the newest is kept: see
    /// [`Progress::newest_catalog`](super::Progress::newest_catalog).
    Keep,
}

/// Counts of the catalogs that all sources of a run have received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CatalogCounts {
    /// Different versions that at least one connection received complete.
    pub versions: u64,
    /// Complete versions, over all connections.
    pub complete: u64,
    /// The highest complete version; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
}

impl fmt::Display for CatalogCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog versions {}, received complete {}", self.versions, self.complete)?;
        self.newest.map_or(Ok(()), |newest| write!(f, ", newest {newest}"))
    }
}

/// The parts of a version that one connection has received.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    version: u64,
    part_next: u16,
    data: Vec<u8>,
}

/// A complete version. Its text is empty unless it is to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    version: u64,
    text: Vec<u8>,
}

impl Assembly {
    /// Takes a part. Part 0 starts a version, even if the version before is incomplete. Parts out of order
    /// are skipped.
    pub(super) fn take(&mut self, part: &CatalogPart, wish: CatalogWish) -> Option<Complete> {
        if part.format != TLE_TEXT || wish == CatalogWish::No {
            return None;
        }
        if part.part == 0 {
            *self = Self { version: part.version, ..Self::default() };
        } else if (part.version, part.part) != (self.version, self.part_next) {
            return None;
        }
        self.part_next = part.part.saturating_add(1);
        if wish == CatalogWish::Keep && self.data.len() + part.data.len() <= KEPT_BYTES_MAX {
            self.data.extend_from_slice(&part.data);
        }
        (self.part_next >= part.parts).then(|| {
            let Self { version, data, .. } = std::mem::take(self);
            Complete { version, text: data }
        })
    }
}

/// The catalogs that all sources have received.
#[derive(Debug, Default)]
pub(super) struct Catalogs(Mutex<Received>);

#[derive(Debug, Default)]
struct Received {
    versions: BTreeSet<u64>,
    complete: u64,
    newest: Vec<u8>,
}

impl Catalogs {
    pub(super) fn add(&self, Complete { version, text }: Complete) {
        let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        received.complete += 1;
        if received.versions.insert(version) && received.versions.last() == Some(&version) {
            received.newest = text;
        }
    }

    pub(super) fn counts(&self) -> CatalogCounts {
        let received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        CatalogCounts {
            versions: received.versions.len() as u64,
            complete: received.complete,
            newest: received.versions.last().copied(),
        }
    }

    pub(super) fn newest(&self) -> Option<Vec<u8>> {
        let received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!received.versions.is_empty()).then(|| received.newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(version: u64, part: u16, parts: u16, data: &'static [u8]) -> CatalogPart {
        CatalogPart { format: TLE_TEXT, part, parts, version, data: data.into() }
    }

    #[test]
    fn a_version_is_complete_with_its_last_part_unless_it_was_abandoned() {
        let (mut assembly, wish) = (Assembly::default(), CatalogWish::Keep);
        assert_eq!(assembly.take(&part(1, 0, 3, b"old"), wish), None);
        assert_eq!(assembly.take(&part(2, 0, 2, b"ne"), wish), None);
        assert_eq!(assembly.take(&part(1, 1, 2, b"old"), wish), None, "not of this version");
        let complete = Complete { version: 2, text: b"new".to_vec() };
        assert_eq!(assembly.take(&part(2, 1, 2, b"w"), wish), Some(complete));
        assert_eq!(assembly.take(&part(2, 1, 2, b"w"), wish), None, "there is no part 0 before it");
    }

    #[test]
    fn the_highest_version_is_the_newest_in_any_order() {
        let catalogs = Catalogs::default();
        assert_eq!(catalogs.newest(), None);
        for (version, text) in [(1, "one"), (3, "three"), (2, "two"), (3, "three")] {
            catalogs.add(Complete { version, text: text.into() });
        }
        assert_eq!(catalogs.counts(), CatalogCounts { versions: 3, complete: 4, newest: Some(3) });
        assert_eq!(catalogs.newest().as_deref(), Some(&b"three"[..]));
        let text = "catalog versions 3, received complete 4, newest 3";
        assert_eq!(catalogs.counts().to_string(), text);
    }
}
