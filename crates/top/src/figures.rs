//! Formats numbers so that people can read them in few columns.

use std::time::Duration;

use frame::is_hidden;

pub(super) use support::number::grouped;

/// Formats a count like `48,000`, and from ten million on like `12.3M`.
pub(super) fn count(count: u64) -> String {
    match count {
        0..10_000_000 => grouped(count),
        10_000_000..1_000_000_000 => format!("{:.1}M", count as f64 / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.1}G", count as f64 / 1e9),
        _ => format!("{:.1}T", count as f64 / 1e12),
    }
}

/// Formats a rate per second, like `0.4` and `48,000`.
pub(super) fn rate(per_s: f64) -> String {
    if per_s > 0.0 && per_s < 9.95 { format!("{per_s:.1}") } else { count(per_s.round() as u64) }
}

/// Formats bytes per second in MB, like `3.12`.
pub(super) fn megabytes(bytes_per_s: f64) -> String {
    format!("{:.2}", bytes_per_s / 1e6)
}

/// Formats bytes, like `512.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// Formats a latency, like `0.84ms`, `12ms`, `3.1s`. A dash stands for `None`.
pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.995 => format!("{ms:.2}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1e3),
    }
}

/// Formats an age, like `12s`, `3m05s`, `2h07m`, `5d03h`.
pub(super) fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// The time from `since_ms` to `until_ms`. Zero if a clock was set back in between.
pub(super) fn between(since_ms: i64, until_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(until_ms.saturating_sub(since_ms)).unwrap_or(0))
}

/// Formats unix milliseconds as the time of day in UTC.
pub(super) fn clock(unix_ms: i64) -> String {
    let s = unix_ms.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}Z", s / 3_600, s / 60 % 60, s % 60)
}

/// The share of `part` in `whole`, in percent, at most 999.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (u128::from(part) * 100 / u128::from(whole)).min(999) as u64 }
}

/// Replaces control characters and invisible ones in foreign text, because they could control the terminal or mislead.
pub(super) fn plain(text: &str) -> String {
    text.replace(is_hidden, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (9_999_999, "9,999,999"),
            (12_345_678, "12.3M"),
            (4_200_000_000, "4.2G"),
            (u64::MAX, "18446744.1T"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (rate(0.0), rate(0.25), rate(9.95), rate(48_000.4)),
            ("0".into(), "0.2".into(), "10".into(), "48,000".into())
        );
        assert_eq!((size(1_023), size(512 << 20)), ("1023 B".into(), "512.0 MiB".into()));
        for (ms, text) in [(0.843, "0.84ms"), (12.4, "12ms"), (999.4, "999ms"), (3_100.0, "3.1s")] {
            assert_eq!(latency(Some(ms)), text);
        }
        for (s, text) in [(59, "59s"), (185, "3m05s"), (7_620, "2h07m"), (442_800, "5d03h")] {
            assert_eq!(age(Duration::from_secs(s)), text);
        }
        assert_eq!((clock(1_785_585_600_999), clock(-1)), ("12:00:00Z".into(), "23:59:59Z".into()));
        assert_eq!((percent(1, 3), percent(5, 0), percent(u64::MAX, 1)), (33, 0, 999));
        assert_eq!(between(5, 4), Duration::ZERO);
        assert_eq!(plain("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
