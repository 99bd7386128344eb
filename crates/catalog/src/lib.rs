//! The orbital elements of the fleet. An operator gives them as TLE text. The daemon sends the text unchanged to every
//! source that asks for it (docs/catalog.md).
//!
//! This crate does not depend on the protocol, the archive or the daemon.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | [`Catalog`]: one version, the text and its element sets; it never changes |
//! | `parse.rs` | [`parse()`] takes a text as a whole or not at all; no I/O |
//! | `element_line.rs` | one line of an element set: form, checksum, fields; no I/O |
//! | `positions.rs` | where the satellites are at a time: [`Catalog::sub_points`] |
//! | `store.rs` | [`CatalogStore`]: the one place where the current version is |
//! | `error.rs` | why a text is not a catalog, and why a catalog cannot be loaded or kept |
//! | `sample.rs` | element sets for tests |

use bytes::Bytes;

mod element_line;
mod error;
mod parse;
mod positions;
#[cfg(any(test, feature = "test-support"))]
pub mod sample;
mod store;
#[cfg(test)]
mod tests;

pub use error::{CatalogError, LineError, ParseError};
pub use parse::{ElementSet, parse};
pub use positions::SubPoint;
pub use store::CatalogStore;

/// Longest text in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Most element sets in a text.
pub const SETS_MAX: usize = 20_000;
/// Longest name of a satellite in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most memory of one satellite in the map that finds duplicates while a text is parsed, in bytes: a key and a value of
/// 8 bytes and their control byte, in a table that is at least 7/16 full, rounded up.
const DUPLICATES_ENTRY_BYTES: usize = 48;
/// Upper bound of the memory of a catalog in bytes: its text, its sets with their names, and the map that finds
/// duplicates.
pub const CATALOG_BYTES_MAX: usize =
    TEXT_BYTES_MAX + SETS_MAX * (size_of::<ElementSet>() + NAME_BYTES_MAX + DUPLICATES_ENTRY_BYTES);

/// One version of the catalog.
///
/// Version 0 is the default. It is the version of a daemon without a catalog. It is empty and is not sent to clients.
/// Every other version has at least one element set, because [`parse()`] refuses a text without one.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// See [`version`](Self::version).
    version: u64,
    /// The text as it was given.
    text: Bytes,
    /// What [`parse()`] found in `text`.
    sets: Vec<ElementSet>,
}

impl Catalog {
    /// Parses `text` as `version`.
    ///
    /// # Errors
    /// [`ParseError`]. Nothing of the text is used then.
    pub fn new(version: u64, text: Bytes) -> Result<Self, ParseError> {
        let sets = parse(&text)?;
        Ok(Self { version, text, sets })
    }

    /// The time of the last change of the text in unix milliseconds, or a little later: each version is above the one
    /// before.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The text as it was given.
    #[must_use]
    pub const fn text(&self) -> &Bytes {
        &self.text
    }

    /// The satellites, in the order of the text.
    #[must_use]
    pub fn sets(&self) -> &[ElementSet] {
        &self.sets
    }

    /// Whether this is version 0, the only one without element sets.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.version == 0
    }
}
