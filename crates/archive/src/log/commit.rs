//! What a commit reports.

use crate::format::{BlockFrames, Durable, Received};

/// Receives every commit, on the commit thread, after its frames are durable and before the next block is taken.
///
/// The next commit waits for the observer, so the observer must be quick and never block.
pub trait CommitObserver: Send + 'static {
    /// Reports that `commit` is on stable storage.
    fn committed(&mut self, commit: &Commit<'_>);
}

impl<F: FnMut(&Commit<'_>) + Send + 'static> CommitObserver for F {
    fn committed(&mut self, commit: &Commit<'_>) {
        self(commit);
    }
}

/// Frames that became durable together.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Offset of the first frame. The other frames follow without a gap.
    pub first_offset: u64,
    /// Offset behind the last frame: the new watermark.
    pub next_offset: u64,
    /// The frames in the order of the log.
    pub frames: BlockFrames<'a>,
    /// When the frames were read from the sockets, in the same order.
    pub received: &'a [Received],
    /// What became durable, with one entry for each origin and lane, anonymous origins included.
    pub positions: &'a [Durable],
}
