//! Orbits for a simulated fleet, as TLE text: planes of satellites, evenly spread (a Walker constellation).

use std::fmt::Write as _;

/// Satellites of one plane.
const PLANE: u32 = 8;
const INCLINATION_DEG: f64 = 53.0;
/// About 550 km of altitude.
const REVOLUTIONS_PER_DAY: f64 = 15.05;

/// Elements of `satellites` satellites, numbered from 0, at `now_ns` (unix nanoseconds).
pub fn catalog(satellites: u32, now_ns: i64) -> String {
    let (year, day) = epoch(now_ns);
    let planes = satellites.div_ceil(PLANE).max(1);
    let mut text = String::new();
    for number in 0..satellites {
        let (plane, place) = (number / PLANE, number % PLANE);
        let node_deg = f64::from(plane) * 360.0 / f64::from(planes);
        let anomaly_deg = (f64::from(place) * 360.0 / f64::from(PLANE) + f64::from(plane) * 7.5) % 360.0;
        let first =
            format!("1 {number:05}U 26001A   {year:02}{day:012.8}  .00000000  00000+0  00000+0 0  999");
        let second = format!(
            "2 {number:05} {INCLINATION_DEG:8.4} {node_deg:8.4} 0001000   0.0000 {anomaly_deg:8.4} \
             {REVOLUTIONS_PER_DAY:11.8}    1"
        );
        let (first_sum, second_sum) = (checksum(&first), checksum(&second));
        let _ = writeln!(text, "MERIDIAN-{number:02}\n{first}{first_sum}\n{second}{second_sum}");
    }
    text
}

/// Year within its century, and day of the year with its fraction; 1 January is day 1.
fn epoch(now_ns: i64) -> (i64, f64) {
    let mut days = now_ns.div_euclid(86_400_000_000_000);
    let fraction = now_ns.rem_euclid(86_400_000_000_000) as f64 / 86_400e9;
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = if is_leap { 366 } else { 365 };
        if days < length {
            return (year % 100, days as f64 + 1.0 + fraction);
        }
        days -= length;
        year += 1;
    }
}

/// Sums the digits. A minus sign counts 1, any other character 0.
fn checksum(line: &str) -> u32 {
    line.chars().map(|sign| sign.to_digit(10).unwrap_or(u32::from(sign == '-'))).sum::<u32>() % 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::Catalog;

    /// 2026-11-21 12:00 UTC.
    const NOON_NS: i64 = 1_795_262_400_000_000_000;

    #[test]
    fn the_orbits_of_the_fleet_are_a_catalog_with_the_expected_positions() {
        let catalog = Catalog::new(1, catalog(48, NOON_NS).into()).unwrap();
        let points = catalog.sub_points(NOON_NS + 60_000_000_000);
        assert_eq!(points.len(), 48);
        assert_eq!((points[7].norad_id, &*points[7].name), (7, "MERIDIAN-07"));
        for point in &points {
            assert!((500.0..600.0).contains(&point.altitude_km), "{point:?}");
            assert!(point.latitude_deg.abs() < 54.0, "{point:?}");
        }
        let east = points.iter().filter(|point| point.longitude_deg > 0.0).count();
        assert!((12..=36).contains(&east), "{east} of 48 in the east");
    }

    #[test]
    fn the_epoch_counts_days_from_one() {
        assert_eq!(epoch(0), (70, 1.0));
        assert_eq!(epoch(NOON_NS), (26, 325.5));
        let leap_ns = 951_782_400_000_000_000;
        assert_eq!(epoch(leap_ns), (0, 60.0), "2000-02-29");
    }
}
