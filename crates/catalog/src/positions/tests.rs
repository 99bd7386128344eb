//! Compares with published positions and with an independent conversion to the ground.

use super::*;
use crate::tests::{MOLNIYA, VANGUARD};

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() < tolerance, "{found} is not {expected}");
}

/// Example 3-5 of Vallado, Fundamentals of Astrodynamics and Applications: 1992-08-20 12:14 UT1.
#[test]
fn the_rotation_of_the_earth_agrees_with_the_textbook() {
    close(sidereal_angle(714_312_840_000_000_000).to_degrees(), 152.578_788, 1e-5);
}

/// By Heikkinen's closed form, which is independent of the code here.
#[test]
fn heights_are_above_the_ellipsoid_everywhere() {
    let (latitude, longitude, altitude) = geodetic([3000.0, -4000.0, 5500.0]);
    close(latitude.to_degrees(), 47.890_339_251_5, 1e-9);
    close(longitude.to_degrees(), -53.130_102_354_2, 1e-9);
    close(altitude, 1_066.627_310_116, 1e-6);
    for sign in [1.0, -1.0] {
        let (latitude, _, altitude) = geodetic([0.0, 0.0, sign * 7000.0]);
        close(latitude.to_degrees(), sign * 90.0, 1e-9);
        close(altitude, 7_000.0 - 6_356.752_314_245, 1e-6);
    }
    close(geodetic([-7000.0, 0.0, 0.0]).2, 7000.0 - 6378.137, 1e-9);
}

/// The positions in TEME are those of the test cases of AIAA 2006-6753. They are converted to the ground by Meeus'
/// expression for the sidereal time and by Heikkinen's closed form.
#[test]
fn satellites_are_where_the_published_test_cases_say() {
    let text = [VANGUARD, MOLNIYA].concat().join("\n");
    let catalog = Catalog::new(1, text.into()).unwrap();
    // 360 minutes after the epoch of Vanguard 1, 240 after that of Molniya 2-14.
    let points = catalog.sub_points(962_153_419_733_571_000);
    assert_eq!((points[0].norad_id, &*points[0].name), (5, "NORAD 5"));
    close(points[0].latitude_deg, -23.705_347, 1e-4);
    close(points[0].longitude_deg, -81.144_676, 1e-4);
    close(points[0].altitude_km, 2456.906, 0.01);
    close(points[0].elements_age_days, 0.25, 1e-6);
    let points = catalog.sub_points(1_151_236_698_143_622_000);
    let molniya = points.iter().find(|point| point.norad_id == 8195).unwrap();
    close(molniya.latitude_deg, 60.162_080, 1e-4);
    close(molniya.longitude_deg, -116.589_976, 1e-4);
    close(molniya.altitude_km, 36_905.584, 0.05);
}

/// An error case of the same test cases: the satellite decays about 1500 minutes after its epoch, in the year 2005.
#[test]
fn a_satellite_that_cannot_be_propagated_is_omitted() {
    let decaying = [
        "1 28872U 05037B   05333.02012661  .25992681  00000-0  24476-3 0  1534",
        "2 28872  96.4736 157.9986 0303955 244.0492 110.6523 16.46015938 10708",
    ];
    let catalog = Catalog::new(1, [decaying, VANGUARD].concat().join("\n").into()).unwrap();
    let ids = |now_ns| catalog.sub_points(now_ns).iter().map(|point| point.norad_id).collect::<Vec<_>>();
    assert_eq!(ids(1_133_224_138_000_000_000), [28872, 5], "at the epoch");
    assert_eq!(ids(1_133_224_138_000_000_000 + 86_400_000_000_000 * 30), [5]);
}
