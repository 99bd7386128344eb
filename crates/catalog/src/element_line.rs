//! One line of an element set: its form, its checksum, and the ranges of its fields.
//!
//! `sgp4` reads the lines afterwards. They are checked here first, because its errors name neither the field nor the
//! line of the text, and because it assumes that lines are ASCII and end with a digit.

use std::ops::RangeInclusive;

use super::error::LineError;

/// Characters of an element line.
const LINE_CHARS: usize = 69;

/// A number in fixed columns.
struct Field {
    /// What an error calls it.
    name: &'static str,
    /// First and last column, counted from 1, as in descriptions of the format.
    columns: (usize, usize),
    /// Whether the number is written without its leading "0.".
    is_fraction: bool,
    /// The allowed values.
    range: RangeInclusive<f64>,
    /// The same in words, for an error.
    allowed: &'static str,
}

const fn field(name: &'static str, columns: (usize, usize), max: f64, allowed: &'static str) -> Field {
    Field { name, columns, is_fraction: false, range: 0.0..=max, allowed }
}

const FIELDS: [&[Field]; 2] = [
    &[
        field("the epoch's year", (19, 20), 99.0, "00 to 99"),
        Field { range: 1.0..=366.999_999_99, ..field("the epoch's day", (21, 32), 0.0, "1 up to 367") },
    ],
    &[
        field("the inclination", (9, 16), 180.0, "0 to 180"),
        field("the right ascension", (18, 25), 360.0, "0 to 360"),
        Field { is_fraction: true, ..field("the eccentricity", (27, 33), 0.999_999_9, "0 up to 1") },
        field("the argument of perigee", (35, 42), 360.0, "0 to 360"),
        field("the mean anomaly", (44, 51), 360.0, "0 to 360"),
        Field { range: 0.000_000_01..=20.0, ..field("the mean motion", (53, 63), 0.0, "above 0, up to 20") },
    ],
];

/// Checks `line`, which begins as line `number` (1 or 2) of a set.
pub(super) fn check(number: u8, line: &str) -> Result<(), LineError> {
    if let Some((column, character)) = line.chars().enumerate().find(|(_, c)| !matches!(c, ' '..='~')) {
        return Err(LineError::NotAscii { character, column: column + 1 });
    }
    if line.len() != LINE_CHARS {
        return Err(LineError::Length { chars: line.len() });
    }
    check_sum(line)?;
    FIELDS[usize::from(number) - 1].iter().try_for_each(|field| check_field(field, line))
}

/// The text in the columns of the catalog number.
pub(super) fn norad_columns(line: &str) -> Option<&str> {
    line.get(2..7).map(str::trim_start).filter(|id| !id.is_empty())
}

/// Checks the checksum: the sum of all digits, with 1 for each minus sign, modulo 10.
fn check_sum(line: &str) -> Result<(), LineError> {
    let (summed, last) = line.split_at(LINE_CHARS - 1);
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'-' => 1,
        _ => 0,
    };
    let expected = (summed.bytes().map(value).sum::<u32>() % 10) as u8;
    let found = last.chars().next().unwrap_or(' ');
    match found.to_digit(10).map(|digit| digit as u8) {
        Some(digit) if digit == expected => Ok(()),
        Some(digit) => Err(LineError::Checksum { found: digit, expected }),
        None => Err(LineError::NoChecksum { found, expected }),
    }
}

fn check_field(field: &Field, line: &str) -> Result<(), LineError> {
    let Field { name, columns, is_fraction, ref range, allowed } = *field;
    let found = &line[columns.0 - 1..columns.1];
    let plain = found.trim_start();
    let number = if is_fraction { format!("0.{plain}") } else { plain.to_owned() };
    // Rust parses more than the format allows: "inf", "nan", exponents.
    let is_plain = plain.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+'));
    let Some(value) = number.parse::<f64>().ok().filter(|_| is_plain && !plain.is_empty()) else {
        return Err(LineError::NoNumber { field: name, found: found.to_owned(), columns });
    };
    if !range.contains(&value) {
        let found = plain.to_owned();
        return Err(LineError::OutOfRange { field: name, found, columns, allowed });
    }
    Ok(())
}
