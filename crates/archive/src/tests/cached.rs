//! Runs the tests of writing and recovery on a disk that is written through the page cache.

use super::{support, watched};
use crate::storage::mem::MemStorage;

#[path = "bad_sectors.rs"]
mod bad_sectors;
#[path = "commit.rs"]
mod commit;
#[path = "faults.rs"]
mod faults;
#[path = "forget.rs"]
mod forget;
#[path = "holes.rs"]
mod holes;
#[path = "model.rs"]
mod model;
#[path = "reset.rs"]
mod position_edits;
#[path = "recover.rs"]
mod recover;
#[path = "sectors.rs"]
mod sectors;
#[path = "space.rs"]
pub(super) mod space;
#[path = "unreadable.rs"]
mod unreadable;

/// An empty disk.
fn new_storage() -> MemStorage {
    MemStorage::default()
}
