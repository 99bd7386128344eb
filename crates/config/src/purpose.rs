//! What a configuration is loaded for.

/// What a configuration is loaded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The daemon runs with it. Each token file must exist.
    #[default]
    Run,
    /// It is checked before the daemon starts. A missing file in [`CREDENTIALS_DIR`](super::CREDENTIALS_DIR) is only a
    /// note.
    CheckBeforeStart,
    /// A client reads the listener of the running daemon. No token file is read.
    FindListener,
}
