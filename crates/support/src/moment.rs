//! Parses a point in time as people write it on a command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use frame::unix_now_ns;

/// Why a text is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// The text has none of the formats.
    #[error(
        "expected RFC 3339 (2026-08-01T12:00:00Z, 2026-08-01T14:00:00+02:00), a date (2026-08-01, midnight UTC), a time \
         before now (-1h, -2d), unix seconds (1785585600.5) or nanoseconds (1785585600500000000ns)"
    )]
    Notation,
    /// The time is before 1970 or after 2262. Nanoseconds without their unit cause this error.
    #[error(
        "out of range: 1970 to 2262 is possible; nanoseconds are written with their unit, as 1785585600500000000ns"
    )]
    Range,
}

/// Parses a point in time into unix nanoseconds. A time before now is relative to this call.
///
/// A number without a unit always means seconds, whatever its number of digits. A guess would be wrong for some values.
///
/// # Errors
/// [`MomentError`].
pub fn parse_moment(text: &str) -> Result<i64, MomentError> {
    parse_at(text, unix_now_ns())
}

fn parse_at(text: &str, now_ns: i64) -> Result<i64, MomentError> {
    if let Some(nanoseconds) = text.strip_suffix("ns").filter(|rest| !rest.starts_with('-')) {
        return digits(nanoseconds)?.try_into().map_err(|_| MomentError::Range);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return parse_seconds(text);
    }
    if let Some(before) = text.strip_prefix('-') {
        let before = humantime::parse_duration(before).map_err(|_| MomentError::Notation)?;
        let before = i64::try_from(before.as_nanos()).map_err(|_| MomentError::Range)?;
        return now_ns.checked_sub(before).filter(|ns| *ns >= 0).ok_or(MomentError::Range);
    }
    let (local, offset_s) = split_offset(text).ok_or(MomentError::Notation)?;
    let local = if local.len() == "2026-08-01".len() { format!("{local}T00:00:00") } else { local };
    let time = humantime::parse_rfc3339_weak(&local).map_err(|_| MomentError::Notation)?;
    let ns = unix_ns(time)?.checked_sub(offset_s * 1_000_000_000);
    ns.filter(|ns| *ns >= 0).ok_or(MomentError::Range)
}

/// The time without its offset from UTC, and the offset in seconds. The offset is 0 for `Z`, for no offset, and for a
/// date.
fn split_offset(text: &str) -> Option<(String, i64)> {
    let text = text.to_ascii_uppercase();
    let Some(clock) = text.get("2026-08-01".len()..) else { return Some((text, 0)) };
    let Some(at) = clock.rfind(['+', '-']) else { return Some((text, 0)) };
    let (local, offset) = text.split_at("2026-08-01".len() + at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let part =
        |part: &str, max: i64| part.parse::<i64>().ok().filter(|number| part.len() == 2 && *number <= max);
    let seconds = part(hours, 23)? * 3_600 + part(minutes, 59)? * 60;
    // A local time with `Z` has no offset.
    let is_local = local.len() > "2026-08-01".len() && !local.ends_with('Z');
    is_local.then(|| (local.to_owned(), if offset.starts_with('-') { -seconds } else { seconds }))
}

fn parse_seconds(text: &str) -> Result<i64, MomentError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return Err(MomentError::Notation);
    }
    let seconds = i64::try_from(digits(whole)?).map_err(|_| MomentError::Range)?;
    let nanoseconds = i64::try_from(digits(&format!("{fraction:0<9}"))?).map_err(|_| MomentError::Range)?;
    let whole = seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanoseconds));
    whole.ok_or(MomentError::Range)
}

fn digits(text: &str) -> Result<u64, MomentError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MomentError::Notation);
    }
    text.parse().map_err(|_| MomentError::Range)
}

fn unix_ns(time: SystemTime) -> Result<i64, MomentError> {
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| MomentError::Range)?;
    i64::try_from(since.as_nanos()).map_err(|_| MomentError::Range)
}

/// Converts to a time of the system. A time before 1970 becomes 1970.
pub fn time(unix_ns: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_ns.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_PAST: i64 = 1_785_585_600_500_000_000;

    #[test]
    fn a_moment_has_several_notations() {
        for text in [
            "2026-08-01T12:00:00.5Z",
            "2026-08-01t12:00:00.5z",
            "2026-08-01 12:00:00.5",
            "2026-08-01T14:00:00.5+02:00",
            "2026-08-01T07:30:00.5-04:30",
            "2026-08-02 11:59:00.5+23:59",
            "2026-08-01T12:00:00.5-00:00",
            "1785585600.5",
            "1785585600500000000ns",
        ] {
            assert_eq!(parse_moment(text), Ok(HALF_PAST), "{text}");
        }
        assert_eq!(parse_moment("2026-08-01"), Ok(1_785_542_400_000_000_000));
        assert_eq!(parse_moment("1970-01-01"), Ok(0));
        assert_eq!(parse_moment("0"), Ok(0));
        assert_eq!(parse_moment("1.000000001"), Ok(1_000_000_001));
    }

    #[test]
    fn a_time_before_now_counts_from_now() {
        for (text, before_s) in [("-1h", 3_600), ("-2d", 2 * 86_400), ("-1h 30m", 5_400), ("-0s", 0)] {
            assert_eq!(parse_at(text, HALF_PAST), Ok(HALF_PAST - before_s * 1_000_000_000), "{text}");
        }
        assert_eq!(parse_at("-5ns", HALF_PAST), Ok(HALF_PAST - 5));
        assert_eq!(parse_at("-100y", HALF_PAST), Err(MomentError::Range));
        let now_ns = unix_now_ns();
        assert!((now_ns..now_ns + 60_000_000_000).contains(&parse_moment("-0s").unwrap()));
    }

    #[test]
    fn an_invalid_moment_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1.0000000001",
            "1.2.3",
            "ns",
            "1.5ns",
            "-",
            "-1",
            "noon",
            "2026-08",
            "2026-08-01T12:00:00+02",
            "2026-08-01T12:00:00+2:00",
            "2026-08-01T12:00:00+24:00",
            "2026-08-01T12:00:00+02:60",
            "2026-08-01T12:00:00Z+02:00",
            "2026-08-01+02:00",
            "2026-08-01T+02:00",
            "2026-08-01T12:00:00+é:00",
            "ééééééééééé+02:00",
        ] {
            assert_eq!(parse_moment(text), Err(MomentError::Notation), "{text}");
        }
        for text in [
            "1785585600500000000",
            "99999999999999999999ns",
            "9300000000",
            "9999-01-01T00:00:00Z",
            "1970-01-01T00:00:00+00:01",
        ] {
            assert_eq!(parse_moment(text), Err(MomentError::Range), "{text}");
        }
    }
}
