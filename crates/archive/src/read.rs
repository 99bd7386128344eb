//! Reads the log: also while a daemon writes it, and over damage.

pub(crate) mod history;
pub(crate) mod index;
pub mod inspect;
pub mod line;
pub(crate) mod reader;
pub(crate) mod scan;
pub(crate) mod segments;
