//! Days in UTC. Exports are partitioned by day.

use std::fmt;

const DAY_NS: i64 = 86_400_000_000_000;

/// A day in UTC, counted from 1970-01-01. Displays as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(i64);

impl Day {
    /// The day of a unix time in nanoseconds. Days begin at midnight UTC, also before 1970.
    pub(super) const fn of(unix_ns: i64) -> Self {
        Self(unix_ns.div_euclid(DAY_NS))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Howard Hinnant, "chrono-compatible low-level date algorithms": a year begins in March, so that the leap day
        // comes last.
        let since_march_0000 = self.0 + 719_468;
        let era = since_march_0000.div_euclid(146_097);
        let day_of_era = since_march_0000.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_ns: i64) -> String {
        Day::of(unix_ns).to_string()
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let midnight = 1_785_542_400_000_000_000;
        assert_eq!(text(midnight - 1), "2026-07-31");
        assert_eq!(text(midnight), "2026-08-01");
        assert_eq!(text(midnight + DAY_NS - 1), "2026-08-01");
        assert_eq!(text(midnight + DAY_NS), "2026-08-02");
    }

    #[test]
    fn times_of_zero_and_before_have_days_too() {
        assert_eq!(text(0), "1970-01-01");
        assert_eq!(text(-1), "1969-12-31");
        assert_eq!(text(-DAY_NS), "1969-12-31");
        assert_eq!(text(-DAY_NS - 1), "1969-12-30");
        assert_eq!(text(i64::MIN), "1677-09-21");
        assert_eq!(text(i64::MAX), "2262-04-11");
    }

    #[test]
    fn leap_days_are_where_they_belong() {
        for (unix_s, day) in [
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_735_603_200, "2024-12-31"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(text(unix_s * 1_000_000_000), day);
        }
    }
}
