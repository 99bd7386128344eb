//! The orbital elements of the fleet: TLE text that an operator gives, and the daemon hands on to every source that wants it.
//!
//! In reading order:
//!
//! * `parse` takes a text as a whole or not at all, `element_line` judges one of its lines; both without I/O,
//! * [`Catalog`] is one version: the text as it was given and what it says; it never changes,
//! * `positions` is where its satellites are at a time: [`Catalog::sub_points`],
//! * `store` is the one place where the current version is: [`CatalogStore`].
//!
//! What goes over the wire is the text itself, see `ingest::session` and docs/catalog.md.

use bytes::Bytes;

mod element_line;
mod error;
mod parse;
mod positions;
mod store;
#[cfg(test)]
pub(crate) mod tests;

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
/// What a catalog takes in memory at most, in bytes: its text, and each set with its name, and what finds doubled ones.
pub const CATALOG_BYTES_MAX: usize =
    TEXT_BYTES_MAX + SETS_MAX * (size_of::<ElementSet>() + NAME_BYTES_MAX + 48);

/// One version of the catalog.
///
/// Version 0, the default, is what a daemon without a catalog has: it holds nothing, and nobody is sent it.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    version: u64,
    text: Bytes,
    sets: Vec<ElementSet>,
}

impl Catalog {
    /// Reads `text` as `version`.
    ///
    /// # Errors
    /// [`ParseError`]: nothing of the text is taken then.
    pub fn new(version: u64, text: Bytes) -> Result<Self, ParseError> {
        let sets = parse(&text)?;
        Ok(Self { version, text, sets })
    }

    /// Unix milliseconds of when the text was last changed, or a little more: each version is above the one before.
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

    /// Whether this is version 0.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.version == 0
    }
}
