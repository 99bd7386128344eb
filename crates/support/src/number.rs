//! Parses numbers on the command line.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A parser of numbers within `range`. Its error names the range.
pub fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_the_range_is_told_the_range() {
        let source = number(0..=u32::MAX);
        assert_eq!(source("7"), Ok(7));
        for text in ["MERIDIAN-07", "", "-1", "4294967296", "1.5"] {
            assert_eq!(source(text), Err("expected a number from 0 to 4294967295".to_owned()), "{text}");
        }
        assert_eq!(
            number(1..=u64::MAX)("0").unwrap_err(),
            "expected a number from 1 to 18446744073709551615"
        );
    }
}
