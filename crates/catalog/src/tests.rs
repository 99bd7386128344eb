//! Which texts are catalogs, why others are refused, and where the satellites are.

use proptest::prelude::*;

use super::sample::{ISS, summed, text_of};
use super::*;

/// The test cases of "Revisiting Spacetrack Report #3" (Vallado, Crawford, Hujsak, Kelso; AIAA 2006-6753): Vanguard 1
/// near the earth, 11801 in deep space, and Molniya 2-14 in resonance with the earth's rotation.
pub(super) const VANGUARD: [&str; 2] = [
    "1 00005U 58002B   00179.78495062  .00000023  00000-0  28098-4 0  4753",
    "2 00005  34.2682 348.7242 1859667 331.7664  19.3264 10.82419157413667",
];
pub(super) const MOLNIYA: [&str; 2] = [
    "1 08195U 75081A   06176.33215444  .00000099  00000-0  11873-3 0   813",
    "2 08195  64.1586 279.0717 6877146 264.7651  20.2257  2.00491383225656",
];

fn names(text: &str) -> Vec<(u64, String)> {
    let sets = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    sets.into_iter().map(|set| (set.norad_id, set.name.into())).collect()
}

fn refusal(text: &str) -> String {
    parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn sets_come_with_and_without_titles() {
    let text = format!(
        "\u{feff}# from the operator\r\n\r\n0 ISS (ZARYA)\r\n{}\r\n{}\r\n{}\n{}   \n\n# next\nMOLNIYA 2-14\n{}\n{}",
        ISS[0], ISS[1], VANGUARD[0], VANGUARD[1], MOLNIYA[0], MOLNIYA[1]
    );
    let expected = [(25544, "ISS (ZARYA)"), (5, "NORAD 5"), (8195, "MOLNIYA 2-14")];
    assert_eq!(names(&text), expected.map(|(id, name)| (id, name.to_owned())));
}

#[test]
fn numbers_beyond_99999_are_read_as_alpha_5() {
    let [one, two] = ISS.map(|line| summed(&line.replace("25544", "B0001")));
    assert_eq!(names(&format!("{one}\n{two}")), [(110_001, "NORAD 110001".to_owned())]);
}

#[test]
fn a_text_without_sets_is_no_catalog() {
    for text in ["", "\n\r\n", "# nothing yet\n"] {
        assert_eq!(parse(text.as_bytes()), Err(ParseError::NoSets), "{text:?}");
    }
}

/// `text` with one part replaced.
fn with(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from:?} is not in {line:?}");
    line.replacen(from, to, 1)
}

#[test]
fn every_fault_is_named_with_its_line_and_its_satellite() {
    let [one, two] = ISS;
    let iss = |one: &str, two: &str| format!("# elements\n\nISS\n{one}\n{two}\n");
    let sum = |line: &str, from: &str, to: &str| summed(&with(line, from, to));
    for (text, expected) in [
        (iss(&one[..68], two), "line 4: 68 characters, an element line has 69 (ISS)"),
        (iss(&with(one, "2927", "2923"), two), "line 4: checksum is 3, expected 7 (ISS)"),
        (
            iss(one, &with(two, "563537", "56353X")),
            "line 5: the checksum in column 69 is 'X', expected 7 (ISS)",
        ),
        (
            iss(&with(one, "25544U", "25544Ü"), two),
            "line 4: 'Ü' in column 8, element lines are plain ASCII (ISS)",
        ),
        (
            iss(one, &sum(two, " 51.6416", "181.6416")),
            "line 5: the inclination is 181.6416 (columns 9 to 16), allowed is 0 to 180 (ISS)",
        ),
        (
            iss(one, &sum(two, " 51.6416", "     inf")),
            "line 5: the inclination is \"     inf\" (columns 9 to 16), expected a number (ISS)",
        ),
        (
            iss(one, &sum(two, "15.72125391", " 0.00000000")),
            "line 5: the mean motion is 0.00000000 (columns 53 to 63), allowed is above 0, up to 20 (ISS)",
        ),
        (
            iss(&sum(one, "264.51782528", "367.00000000"), two),
            "line 4: the epoch's day is 367.00000000 (columns 21 to 32), allowed is 1 up to 367 (ISS)",
        ),
        (
            iss(one, &sum(two, "25544", "25545")),
            "line 5: line 2 is of NORAD 25545, line 1 of NORAD 25544 (ISS)",
        ),
        (
            iss(one, one),
            "line 5: line 2 of an element set is due, which begins with \"2 \", not \"1 25544U 98067A   08264.\" (ISS)",
        ),
        (iss(one, ""), "line 5: line 2 of an element set is due, which begins with \"2 \", not \"\" (ISS)"),
        (iss("", two), "line 4: line 1 of an element set is due, which begins with \"1 \", not \"\" (ISS)"),
        (format!("{two}\n{one}"), "line 1: line 2 of an element set without its line 1 (NORAD 25544)"),
        (
            format!("{one}\nrubbish"),
            "line 2: line 2 of an element set is due, which begins with \"2 \", not \"rubbish\" (NORAD 25544)",
        ),
        (format!("{one}\n{two}\nISS"), "line 3: the text ends, but line 1 of the element set is due (ISS)"),
        (format!("ISS\n{one}"), "line 2: the text ends, but line 2 of the element set is due (ISS)"),
        (format!("{one}\n{two}\n0 AGAIN\n{one}\n{two}"), "line 5: NORAD 25544 is in line 1 already (AGAIN)"),
        (format!("I\u{7}SS\n{one}\n{two}"), "line 1: the name holds a control character, '\\u{7}'"),
        (format!("{}\n{one}\n{two}", "N".repeat(65)), "line 1: a name of 65 bytes, at most 64 are taken"),
    ] {
        assert_eq!(refusal(&text), expected);
    }
    let latin_1 = [b"\xc9TOILE\n", one.as_bytes()].concat();
    assert_eq!(parse(&latin_1).unwrap_err().to_string(), "line 1: it is not UTF-8");
}

#[test]
fn errors_of_sgp4_are_reported_with_the_line() {
    let [one, two] = ISS;
    let text = format!("{}\n{two}", summed(&with(one, "25544U", "25544X")));
    let error = refusal(&text);
    assert!(error.starts_with("line 1: unknown classification"), "{error}");
    // An orbit through the centre of the earth.
    let text = format!("{one}\n{}", summed(&with(two, "0006703", "9999999")));
    let error = refusal(&text);
    assert!(error.starts_with("line 2: the elements cannot be propagated: "), "{error}");
}

#[test]
fn a_text_beyond_a_limit_is_refused_with_the_limit() {
    let long = "#".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(refusal(&long), "the text has 4194305 bytes, at most 4194304 are taken");
    let text = text_of(SETS_MAX);
    assert!(text.len() < TEXT_BYTES_MAX);
    assert_eq!(parse(text.as_bytes()).unwrap().len(), SETS_MAX);
    let one_more = format!("{text}{}\n{}", VANGUARD[0], VANGUARD[1]);
    assert_eq!(
        refusal(&one_more),
        format!("line {}: more than 20000 element sets (NORAD 00005)", 3 * SETS_MAX + 2)
    );
}

/// The start of a line, so that random texts get past the first check.
fn any_line() -> impl Strategy<Value = String> {
    let element_lines = [ISS, VANGUARD, MOLNIYA].concat();
    let edited =
        (proptest::sample::select(element_lines), 0..68usize, "[ -~]{0,6}").prop_map(|(line, at, patch)| {
            let end = (at + patch.len()).min(68);
            summed(&format!("{}{}{}", &line[..at], &patch[..end - at], &line[end..]))
        });
    prop_oneof![3 => edited, 1 => "\\PC{0,20}", 1 => "[012] [ -~]{0,70}", 1 => Just(String::new())]
}

proptest! {
    #[test]
    fn any_bytes_give_a_catalog_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_text_gives_a_catalog_with_positions_or_an_error(
        lines in proptest::collection::vec(any_line(), 0..8), now_ns in any::<i64>(),
    ) {
        if let Ok(catalog) = Catalog::new(1, lines.join("\n").into()) {
            for point in catalog.sub_points(now_ns % (1 << 61)) {
                prop_assert!(point.latitude_deg.abs() <= 90.0 && point.longitude_deg.abs() <= 180.0, "{:?}", point);
            }
        }
    }
}
