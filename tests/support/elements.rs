//! Orbital elements of satellites that do not exist.

use std::fmt::Write as _;

/// The text of a catalog of this many satellites: the elements of the ISS of 2008 under the numbers from 10000 on.
pub fn text_of(satellites: usize) -> String {
    let mut text = String::new();
    for id in 10_000..10_000 + satellites {
        writeln!(text, "SAT {id}").unwrap();
        for line in [
            format!("1 {id}U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  292"),
            format!("2 {id}  51.6416 247.4627 0006703 130.5360 325.0288 15.7212539156353"),
        ] {
            let value = |c: char| if c == '-' { 1 } else { c.to_digit(10).unwrap_or(0) };
            let sum: u32 = line.chars().map(value).sum();
            writeln!(text, "{line}{}", sum % 10).unwrap();
        }
    }
    text
}
