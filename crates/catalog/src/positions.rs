//! Positions of the satellites of a catalog at a given time.

use std::f64::consts::TAU;

use sgp4::{Constants, MinutesSinceEpoch};

use super::{Catalog, ElementSet};

/// WGS 84: equatorial radius in km, and flattening.
const EARTH_RADIUS_KM: f64 = 6378.137;
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// Julian date of the unix epoch minus that of J2000 (2000-01-01 12:00), in days.
const UNIX_SINCE_J2000_DAYS: f64 = -10_957.5;
const NS_PER_DAY: f64 = 86_400e9;
const NS_PER_MINUTE: f64 = 60e9;
/// This number of rounds gives an error below a millimetre, from the ground to beyond the geostationary ring.
const LATITUDE_ROUNDS: usize = 8;

/// The point on the earth below a satellite.
#[derive(Clone, Debug, PartialEq)]
pub struct SubPoint {
    /// Catalog number.
    pub norad_id: u64,
    /// Its name.
    pub name: Box<str>,
    /// Geodetic (WGS 84), -90 to 90.
    pub latitude_deg: f64,
    /// -180 up to 180, east is positive.
    pub longitude_deg: f64,
    /// Altitude above the ellipsoid.
    pub altitude_km: f64,
    /// Age of the elements. The error of a low orbit grows by kilometres per day. Negative before their epoch.
    pub elements_age_days: f64,
}

impl Catalog {
    /// The positions of all satellites at `now_ns` (unix nanoseconds), in the order of the text. Satellites that cannot
    /// be propagated to that time are left out: they have decayed, or their elements are too old.
    ///
    /// This takes some microseconds per satellite. For a large catalog, call it on a blocking thread.
    #[must_use]
    pub fn sub_points(&self, now_ns: i64) -> Vec<SubPoint> {
        let sidereal = sidereal_angle(now_ns);
        self.sets().iter().filter_map(|set| sub_point(set, now_ns, sidereal)).collect()
    }
}

fn sub_point(set: &ElementSet, now_ns: i64, sidereal: f64) -> Option<SubPoint> {
    let epoch_ns = set.elements.datetime.and_utc().timestamp_nanos_opt()?;
    let age_ns = (i128::from(now_ns) - i128::from(epoch_ns)) as f64;
    // Elements are made with WGS 72 and the formulas of the air force. Other formulas would only add an error.
    let constants = Constants::from_elements_afspc_compatibility_mode(&set.elements).ok()?;
    let minutes = MinutesSinceEpoch(age_ns / NS_PER_MINUTE);
    let position = constants.propagate_afspc_compatibility_mode(minutes).ok()?.position;
    let (latitude, longitude, altitude_km) = geodetic(to_earth_fixed(position, sidereal));
    (altitude_km.is_finite() && altitude_km > 0.0).then(|| SubPoint {
        norad_id: set.norad_id,
        name: set.name.clone(),
        latitude_deg: latitude.to_degrees(),
        longitude_deg: longitude.to_degrees(),
        altitude_km,
        elements_age_days: age_ns / NS_PER_DAY,
    })
}

/// Greenwich mean sidereal time in radians (IAU 1982). It uses UTC instead of UT1: they differ by less than a second.
pub(super) fn sidereal_angle(now_ns: i64) -> f64 {
    let centuries = (now_ns as f64 / NS_PER_DAY + UNIX_SINCE_J2000_DAYS) / 36_525.0;
    let seconds =
        67_310.548_41 + (876_600.0 * 3600.0 + 8_640_184.812_866) * centuries + 0.093_104 * centuries.powi(2)
            - 6.2e-6 * centuries.powi(3);
    (seconds / 86_400.0).rem_euclid(1.0) * TAU
}

/// Rotates TEME, which does not rotate with the earth, by the earth's angle. Polar motion (some metres) is ignored.
fn to_earth_fixed([x, y, z]: [f64; 3], sidereal: f64) -> [f64; 3] {
    let (sin, cos) = sidereal.sin_cos();
    [x * cos + y * sin, y * cos - x * sin, z]
}

/// Latitude and longitude in radians, and height in km above WGS 84.
pub(super) fn geodetic([x, y, z]: [f64; 3]) -> (f64, f64, f64) {
    let eccentricity_squared = FLATTENING * (2.0 - FLATTENING);
    let from_axis = x.hypot(y);
    // Distance of the centre of curvature from the equator. It depends on the latitude, so it is computed in rounds.
    let mut below = 0.0;
    let mut latitude = z.atan2(from_axis);
    for _ in 0..LATITUDE_ROUNDS {
        let sin = latitude.sin();
        let curvature = EARTH_RADIUS_KM / (1.0 - eccentricity_squared * sin * sin).sqrt();
        below = curvature * eccentricity_squared * sin;
        latitude = (z + below).atan2(from_axis);
    }
    let sin = latitude.sin();
    let curvature = EARTH_RADIUS_KM / (1.0 - eccentricity_squared * sin * sin).sqrt();
    // This formula also works at the poles, where the distance from the axis is 0.
    let altitude = from_axis.hypot(z + below) - curvature;
    (latitude, y.atan2(x), altitude)
}

#[cfg(test)]
mod tests;
