//! Sizes and durations as people write them: `"64 MiB"`, `"2ms"`.
//!
//! Sizes are exact: there is no floating point. So a printed size reads back as the same number.

use std::fmt;
use std::time::Duration;

/// One kibibyte in bytes.
pub const KIB: u64 = 1 << 10;
/// One mebibyte in bytes.
pub const MIB: u64 = 1 << 20;
/// One gibibyte in bytes.
pub const GIB: u64 = 1 << 30;
/// One tebibyte in bytes.
pub const TIB: u64 = 1 << 40;

/// Accepted unit names in lower case, with their bytes. A size without a unit is in bytes.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kib", KIB),
    ("mib", MIB),
    ("gib", GIB),
    ("tib", TIB),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Limit of digits after the point. More digits could only mean a fraction of a byte.
const FRACTION_DIGITS_MAX: usize = 12;

/// Reads a size such as `64 MiB`, `0.5 KiB`, `1.5 GB` or `4096` (bytes), upper or lower case.
///
/// `None` if the text is not a size, is not a whole number of bytes, or exceeds `u64`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit_bytes = UNITS.iter().find(|(name, _)| *name == unit)?.1;

    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let fraction: u128 = fraction.parse::<u64>().ok()?.into();
    // 2^64 * 10^12 * 2^40 exceeds 128 bits, so this checks for overflow.
    let scaled = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(u128::from(unit_bytes))?;
    (scaled % scale == 0).then_some(scaled / scale).and_then(|bytes| u64::try_from(bytes).ok())
}

/// A size in the largest unit that divides it, so that it reads back as the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(
    /// Bytes.
    pub u64,
);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        match units.iter().find(|(bytes, _)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)) {
            Some((bytes, name)) => write!(f, "{} {name}", self.0 / bytes),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A size rounded up to tenths of a MiB, for sums that people compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundedMib(
    /// Bytes.
    pub u64,
);

impl fmt::Display for RoundedMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (u128::from(self.0) * 10).div_ceil(u128::from(MIB));
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

/// Reads a duration such as `5s`, `2ms`, `1h 30m` or `30days`. `None` if the text is not a duration.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Writes a duration so that it reads back as the same one.
pub(super) fn print_duration(duration: Duration) -> String {
    // humantime would write 90 s as "1m 30s", but the settings are usually in seconds.
    if duration.subsec_nanos() == 0 && duration.as_secs() < 600 {
        return format!("{}s", duration.as_secs());
    }
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_in_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("7 B", 7),
            ("0.5 KiB", 512),
            ("64 MiB", 64 * MIB),
            ("64MiB", 64 * MIB),
            (" 2 gib ", 2 * GIB),
            ("1.5 GB", 1_500_000_000),
            ("16777215 TiB", 16_777_215 * TIB),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn an_invalid_size_is_refused() {
        for text in [
            "",
            " ",
            "MiB",
            "-1 MiB",
            "+1",
            "1e3",
            "64 M",
            "64 MiBs",
            "1.2.3 KiB",
            ".5 KiB",
            "1. KiB",
            "0.3 B",
            "0.0000000000001 TiB",
            "16777216 TiB",
            "18446744073709551616",
            "99999999999999999999999999999999999999999 B",
            "1 MiB 2 KiB",
            "\u{0661} B",
        ] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn sums_are_rounded_up_to_tenths() {
        assert_eq!(RoundedMib(0).to_string(), "0.0 MiB");
        assert_eq!(RoundedMib(1).to_string(), "0.1 MiB");
        assert_eq!(RoundedMib(360 * MIB).to_string(), "360.0 MiB");
        assert_eq!(RoundedMib(u64::MAX).to_string(), "17592186044416.0 MiB", "no overflow");
    }

    #[test]
    fn durations_read_and_print() {
        assert_eq!(parse_duration("2ms"), Some(Duration::from_millis(2)));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("-5s"), None);
        assert_eq!(print_duration(Duration::from_secs(90)), "90s");
        assert_eq!(print_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(print_duration(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(bytes: u64) {
            prop_assert_eq!(parse_size(&Size(bytes).to_string()), Some(bytes));
        }

        #[test]
        fn a_printed_duration_reads_back(secs in 0u64..1 << 40, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_a_size_or_an_error(text in "\\PC{0,24}|[0-9. KMGTib]{0,24}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}
