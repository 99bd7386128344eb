//! Parses and formats numbers.

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

/// Formats all digits, like `1,234,567`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
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
