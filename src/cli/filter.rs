//! The flags that select frames. All commands that read an archive share them.

use archive::Filter;
use frame::{FramePriority, Selection, SourceKind};
use support::moment::{parse_moment, time};
use support::number::number;

/// Choice of frames; all conditions must hold. To be flattened into a command's own arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only frames of this source; may be repeated
    #[arg(long = "source", value_name = "ID", value_parser = number(0..=u32::MAX))]
    pub(super) sources: Vec<u32>,
    /// Only this lane
    #[arg(long, value_enum)]
    pub(super) priority: Option<Priority>,
    /// Only this kind of source
    #[arg(long, value_enum)]
    pub(super) kind: Option<Kind>,
    /// Only frames from this offset of the log on [default: the oldest]
    #[arg(long, value_name = "OFFSET", value_parser = number(0..=u64::MAX))]
    pub(super) from_offset: Option<u64>,
    /// Only frames below this offset of the log
    #[arg(long, value_name = "OFFSET", value_parser = number(0..=u64::MAX))]
    pub(super) to_offset: Option<u64>,
    /// Only frames received at this time or later: RFC 3339 (2026-08-01T12:00:00Z, 2026-08-01T14:00:00+02:00), a date
    /// (2026-08-01, midnight UTC), a time before now (-1h, -2d), unix seconds (1785585600.5), or unix nanoseconds with
    /// their unit (1785585600500000000ns)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    pub(super) from: Option<i64>,
    /// Only frames received before this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    pub(super) to: Option<i64>,
    /// At most this many frames
    #[arg(long, value_name = "COUNT", value_parser = number(1..=u64::MAX))]
    pub(super) limit: Option<u64>,
}

/// Why the flags exclude every frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    /// The second time is not after the first.
    #[error("--from {} is not before --to {}: expected an earlier time, because the range ends before --to",
        humantime::format_rfc3339_nanos(time(*from)), humantime::format_rfc3339_nanos(time(*to)))]
    Times {
        /// Unix nanoseconds.
        from: i64,
        /// Unix nanoseconds.
        to: i64,
    },
    /// The second offset is not above the first.
    #[error(
        "--from-offset {from} is not below --to-offset {to}: expected a lower one, because the range ends before \
         --to-offset"
    )]
    Offsets {
        /// The first offset.
        from: u64,
        /// The offset behind the last.
        to: u64,
    },
}

impl FilterArgs {
    /// Checks that these flags do not exclude every frame.
    ///
    /// # Errors
    /// [`FilterError`].
    pub(super) fn check(&self) -> Result<(), FilterError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(FilterError::Times { from, to });
        }
        match (self.from_offset.unwrap_or(0), self.to_offset) {
            (from, Some(to)) if from >= to => Err(FilterError::Offsets { from, to }),
            _ => Ok(()),
        }
    }

    /// The filter that these flags describe.
    #[must_use]
    pub(super) fn filter(&self) -> Filter {
        let selection = Selection::of_sources(self.sources.iter().copied())
            .with_priority(self.priority.map(FramePriority::from))
            .with_kind(self.kind.map(SourceKind::from));
        Filter {
            from_offset: self.from_offset.unwrap_or(0),
            to_offset: self.to_offset,
            from_received_ns: self.from,
            to_received_ns: self.to,
            selection,
            epoch: None,
            limit: self.limit,
        }
    }
}

/// A lane on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Priority {
    /// Emergencies
    Emergency,
    /// Ordinary telemetry
    Routine,
}

/// A kind of source on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Satellites seen by a ground station
    Live,
    /// Recordings played back
    Replay,
}

impl From<Priority> for FramePriority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Emergency => Self::Emergency,
            Priority::Routine => Self::Routine,
        }
    }
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Live => Self::LiveUplink,
            Kind::Replay => Self::ArchivedReplay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_no_frame_can_match_is_refused() {
        let times = |from, to| FilterArgs { from: Some(from), to: Some(to), ..FilterArgs::default() };
        assert_eq!(times(5, 6).check(), Ok(()));
        let error =
            times(1_785_585_600_000_000_000, 1_785_585_600_000_000_000).check().unwrap_err().to_string();
        assert!(
            error.starts_with("--from 2026-08-01T12:00:00.000000000Z is not before --to 2026-08"),
            "{error}"
        );
        let offsets =
            |from, to| FilterArgs { from_offset: from, to_offset: Some(to), ..FilterArgs::default() };
        assert_eq!(offsets(Some(8), 9).check(), Ok(()));
        assert_eq!(offsets(Some(9), 9).check(), Err(FilterError::Offsets { from: 9, to: 9 }));
        assert_eq!(offsets(None, 0).check(), Err(FilterError::Offsets { from: 0, to: 0 }));
    }
}
