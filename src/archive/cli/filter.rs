//! Which frames a command is about: the same flags wherever an archive is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::archive::Filter;
use crate::frame::{FramePriority, Selection, SourceKind};

/// Choice of frames; all conditions must hold. To be flattened into a command's own arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Only frames of this source; may be repeated
    #[arg(long = "source", value_name = "ID")]
    pub sources: Vec<u32>,
    /// Only this lane
    #[arg(long, value_enum)]
    pub priority: Option<Priority>,
    /// Only this kind of source
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// From this offset of the log on [default: the oldest there is]
    #[arg(long, value_name = "OFFSET")]
    pub from_offset: Option<u64>,
    /// Below this offset of the log
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<u64>,
    /// Received at this time or later: RFC 3339 (2026-08-01T12:00:00Z, UTC), unix seconds (1785585600.5), or
    /// unix nanoseconds with their unit (1785585600500000000ns)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<i64>,
    /// Received before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub to: Option<i64>,
    /// At most this many frames
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Why no frame can be what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The times are the wrong way round, or the same.
    #[error("--from {} is not before --to {}: expected an earlier time, as frames received at --to are not in the range",
        humantime::format_rfc3339_nanos(time(*from)), humantime::format_rfc3339_nanos(time(*to)))]
    Times {
        /// Unix nanoseconds.
        from: i64,
        /// Unix nanoseconds.
        to: i64,
    },
    /// The offsets are the wrong way round, or the same.
    #[error(
        "--from-offset {from} is not below --to-offset {to}: expected a lower one, as --to-offset is not in the range"
    )]
    Offsets {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
}

impl FilterArgs {
    /// Whether there can be frames that these flags describe.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn check(&self) -> Result<(), FilterError> {
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

    /// The filter these flags describe.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let selection = Selection::of_sources(self.sources.iter().copied())
            .with_priority(self.priority.map(FramePriority::from))
            .with_kind(self.kind.map(SourceKind::from));
        Filter {
            from_offset: self.from_offset.unwrap_or(0),
            to_offset: self.to_offset,
            from_received_ns: self.from,
            to_received_ns: self.to,
            selection,
            limit: self.limit,
        }
    }
}

/// A lane on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Priority {
    /// Emergencies
    Emergency,
    /// Ordinary telemetry
    Routine,
}

/// A kind of source on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
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

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// None of the notations.
    #[error(
        "expected RFC 3339 (2026-08-01T12:00:00Z), unix seconds (1785585600.5) or nanoseconds (1785585600500000000ns)"
    )]
    Notation,
    /// Before 1970 or after 2262. Nanoseconds without their unit end here.
    #[error(
        "out of range: 1970 to 2262 is possible; nanoseconds are written with their unit, as 1785585600500000000ns"
    )]
    Range,
}

/// Reads a time as the command line has it, in unix nanoseconds.
///
/// A number without a unit is always seconds, however many digits it has: guessing would be wrong at some time.
///
/// # Errors
/// [`TimeError`].
pub fn parse_time(text: &str) -> Result<i64, TimeError> {
    if let Some(nanoseconds) = text.strip_suffix("ns") {
        return digits(nanoseconds)?.try_into().map_err(|_| TimeError::Range);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return parse_seconds(text);
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| TimeError::Notation)?;
    unix_ns(time).ok_or(TimeError::Range)
}

fn parse_seconds(text: &str) -> Result<i64, TimeError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return Err(TimeError::Notation);
    }
    let seconds = i64::try_from(digits(whole)?).map_err(|_| TimeError::Range)?;
    let nanoseconds = i64::try_from(digits(&format!("{fraction:0<9}"))?).map_err(|_| TimeError::Range)?;
    let whole = seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanoseconds));
    whole.ok_or(TimeError::Range)
}

fn digits(text: &str) -> Result<u64, TimeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TimeError::Notation);
    }
    text.parse().map_err(|_| TimeError::Range)
}

/// A time the command line can have.
fn time(unix_ns: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_ns.max(0).unsigned_abs())
}

fn unix_ns(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_can_be_written_in_three_ways() {
        let half_past = 1_785_585_600_500_000_000;
        for text in
            ["2026-08-01T12:00:00.5Z", "2026-08-01 12:00:00.5", "1785585600.5", "1785585600500000000ns"]
        {
            assert_eq!(parse_time(text), Ok(half_past), "{text}");
        }
        assert_eq!(parse_time("0"), Ok(0));
        assert_eq!(parse_time("1.000000001"), Ok(1_000_000_001));
    }

    #[test]
    fn a_choice_that_no_frame_can_meet_is_refused() {
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

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", ".", "1.", ".5", "1.0000000001", "1.2.3", "ns", "1.5ns", "-1", "noon", "2026-08-01"]
        {
            assert_eq!(parse_time(text), Err(TimeError::Notation), "{text}");
        }
        for text in ["1785585600500000000", "99999999999999999999ns", "9300000000", "9999-01-01T00:00:00Z"] {
            assert_eq!(parse_time(text), Err(TimeError::Range), "{text}");
        }
    }
}
