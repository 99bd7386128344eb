//! Element sets for tests.

/// From the description of the format at celestrak.org.
pub(crate) const ISS: [&str; 2] = [
    "1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927",
    "2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537",
];

/// `line` with its correct checksum.
pub(crate) fn summed(line: &str) -> String {
    let value = |byte: u8| if byte == b'-' { 1 } else { u32::from(byte.wrapping_sub(b'0')) };
    let counts = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    let sum: u32 = line.as_bytes()[..68].iter().copied().filter(counts).map(value).sum();
    format!("{}{}", &line[..68], sum % 10)
}

/// A text with `satellites` sets, each with a title line.
#[must_use]
pub fn text_of(satellites: usize) -> String {
    (0..satellites)
        .map(|index| {
            let id = 10_000 + index;
            let [one, two] = ISS;
            let (one, two) = (one.replace("25544", &id.to_string()), two.replace("25544", &id.to_string()));
            format!("SAT {index}\n{}\n{}\n", summed(&one), summed(&two))
        })
        .collect()
}
