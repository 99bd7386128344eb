//! A choice of frames by source, lane and kind.

use super::{FramePriority, FrameView, SourceKind};

/// A choice of frames. The default selects all frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The selected sources, ascending and without repetition; empty means all. See
    /// [`Selection::of_sources`].
    sources: Vec<u32>,
    /// The selected lane; `None` means both.
    pub priority: Option<FramePriority>,
    /// The selected kind of source; `None` means both.
    pub kind: Option<SourceKind>,
}

impl Selection {
    /// Selects the frames of `sources`; of all sources if `sources` is empty.
    #[must_use]
    pub fn of_sources(sources: impl IntoIterator<Item = u32>) -> Self {
        let mut sources: Vec<u32> = sources.into_iter().collect();
        sources.sort_unstable();
        sources.dedup();
        Self { sources, priority: None, kind: None }
    }

    /// Restricts the selection to this lane; `None` means both.
    #[must_use]
    pub fn with_priority(self, priority: Option<FramePriority>) -> Self {
        Self { priority, ..self }
    }

    /// Restricts the selection to this kind; `None` means both.
    #[must_use]
    pub fn with_kind(self, kind: Option<SourceKind>) -> Self {
        Self { kind, ..self }
    }

    /// The selected sources, ascending; empty means all.
    #[must_use]
    pub fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// Whether every frame is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.sources.is_empty() && self.priority.is_none() && self.kind.is_none()
    }

    /// Whether frames of this source, kind and lane are selected.
    #[must_use]
    pub fn takes_stream(&self, source_id: u32, kind: SourceKind, priority: FramePriority) -> bool {
        self.priority.is_none_or(|lane| lane == priority)
            && self.kind.is_none_or(|wanted| wanted == kind)
            && (self.sources.is_empty() || self.sources.binary_search(&source_id).is_ok())
    }

    /// Whether `frame` is selected.
    #[must_use]
    pub fn takes<'a>(&self, frame: impl Into<FrameView<'a>>) -> bool {
        let FrameView { origin, priority, .. } = frame.into();
        self.takes_stream(origin.stream.source_id, origin.stream.source_kind, priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FramePriority::{Emergency, Routine};
    use SourceKind::{ArchivedReplay, LiveUplink};

    #[test]
    fn the_default_selects_everything() {
        assert!(Selection::default().is_all());
        assert!(Selection::default().takes_stream(7, ArchivedReplay, Emergency));
    }

    #[test]
    fn every_condition_must_hold() {
        let chosen =
            Selection::of_sources([9, 3, 9]).with_priority(Some(Routine)).with_kind(Some(LiveUplink));
        assert_eq!(chosen.sources(), [3, 9]);
        assert!(!chosen.is_all());
        assert!(chosen.takes_stream(9, LiveUplink, Routine));
        assert!(!chosen.takes_stream(4, LiveUplink, Routine));
        assert!(!chosen.takes_stream(9, ArchivedReplay, Routine));
        assert!(!chosen.takes_stream(9, LiveUplink, Emergency));
    }
}
