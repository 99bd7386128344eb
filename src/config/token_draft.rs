//! One table of a list of tokens, as it stands in the file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::error::Place;
use super::secret::Secret;
use crate::frame::Station;

/// One table of a list, before its file is read.
pub(super) struct TokenDraft {
    pub(super) place: Place,
    pub(super) token: Option<Secret>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) sources: BTreeSet<u32>,
    pub(super) stations: BTreeSet<Station>,
    /// Something in it is wrong and reported.
    pub(super) broken: bool,
}
