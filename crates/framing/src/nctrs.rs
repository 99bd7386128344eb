//! Telemetry data units of an NCTRS, the network controller of ESA's SCOS-2000 (EGOS-NIS-NCTR-ICD-0002, version 0).
//!
//! | bytes | field |
//! |---|---|
//! | 0-3 | size of the data unit, header included |
//! | 4-5 | spacecraft |
//! | 6 | type of the data stream |
//! | 7 | virtual channel |
//! | 8-9 | route |
//! | 10-17 | Earth reception time: days since 1958 (u16), milliseconds of the day (u32), microseconds (u16) |
//! | 18 | sequence flag |
//! | 19 | quality: 0 good, 1 bad, 2 not determined |

use bytes::Buf;

use crate::cut::{Cut, Input};
use crate::{Fault, Unit};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 20;
/// Bytes of the longest data unit that is accepted unless the configuration says otherwise.
pub const UNIT_BYTES_MAX: usize = HEADER_BYTES + 65_536;

/// 1970-01-01 in days since 1958-01-01.
const UNIX_EPOCH_DAYS: i64 = 4_383;
const NS_PER_DAY: i64 = 86_400_000_000_000;
/// A day with a leap second.
const MS_PER_DAY_MAX: u32 = 86_401_000;

/// Limits of the data units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nctrs {
    /// Bytes of the longest data unit that is accepted, header included.
    pub max: usize,
}

impl Default for Nctrs {
    fn default() -> Self {
        Self { max: UNIT_BYTES_MAX }
    }
}

impl Nctrs {
    pub(crate) const fn check(&self) -> Result<(), &'static str> {
        if self.max > HEADER_BYTES { Ok(()) } else { Err("max must be at least 21") }
    }
}

/// The fields of a header that a sender chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NctrsHeader {
    /// Spacecraft.
    pub spacecraft: u16,
    /// Virtual channel.
    pub channel: u8,
    /// Earth reception time, unix nanoseconds. Microseconds are sent.
    pub ert_ns: i64,
    /// The frame is marked as bad.
    pub bad_quality: bool,
}

impl NctrsHeader {
    /// Appends a data unit with `frame`. A time before 1958 or after 2137 is sent as the nearest day.
    ///
    /// # Panics
    /// If `frame` has 4 GiB or more.
    pub fn encode(&self, frame: &[u8], out: &mut Vec<u8>) {
        let size = u32::try_from(HEADER_BYTES + frame.len()).expect("a frame below 4 GiB");
        let days = self.ert_ns.div_euclid(NS_PER_DAY) + UNIX_EPOCH_DAYS;
        let us = self.ert_ns.rem_euclid(NS_PER_DAY) / 1_000;
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&self.spacecraft.to_be_bytes());
        out.extend_from_slice(&[0, self.channel, 0, 0]);
        out.extend_from_slice(&(days.clamp(0, u16::MAX.into()) as u16).to_be_bytes());
        out.extend_from_slice(&((us / 1_000) as u32).to_be_bytes());
        out.extend_from_slice(&((us % 1_000) as u16).to_be_bytes());
        out.extend_from_slice(&[0, self.bad_quality.into()]);
        out.extend_from_slice(frame);
    }
}

/// A data unit without a frame is not delivered.
impl Cut for Nctrs {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        loop {
            let Some(header) = input.buffer.first_chunk::<HEADER_BYTES>() else {
                return Ok(None);
            };
            let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
            if size < HEADER_BYTES {
                return Err(Fault::NctrsSize(size));
            }
            if size > self.max {
                return Err(Fault::TooLong { length: size, max: self.max });
            }
            if input.buffer.len() < size {
                return Ok(None);
            }
            let header = *header;
            let mut data = input.take(size);
            data.advance(HEADER_BYTES);
            if !data.is_empty() {
                return Ok(Some(Unit {
                    ert_ns: ert_ns(&header),
                    bad_quality: !matches!(header[19], 0 | 2),
                    spacecraft: Some(u16::from_be_bytes([header[4], header[5]])),
                    channel: Some(header[7]),
                    ..input.unit(data)
                }));
            }
        }
    }
}

/// The Earth reception time, CCSDS 301.0-B, section 3.3; `None` if there is no such time of the day.
fn ert_ns(header: &[u8; HEADER_BYTES]) -> Option<i64> {
    let days = i64::from(u16::from_be_bytes([header[10], header[11]])) - UNIX_EPOCH_DAYS;
    let ms = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let us = u16::from_be_bytes([header[16], header[17]]);
    let is_time = ms < MS_PER_DAY_MAX && us < 1_000;
    is_time.then(|| days * NS_PER_DAY + i64::from(ms) * 1_000_000 + i64::from(us) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deframer, Framing};

    /// 2024-02-29T12:34:56.789012Z.
    const ERT_NS: i64 = 1709210096789012000;

    fn deframer() -> Deframer {
        Deframer::new(&Framing::Nctrs(Nctrs { max: 100 }))
    }

    #[test]
    fn the_bytes_are_those_of_the_interface_document() {
        let header = NctrsHeader { spacecraft: 123, channel: 5, ert_ns: ERT_NS, bad_quality: true };
        let mut stream = Vec::new();
        header.encode(b"frame", &mut stream);
        let expected = [
            0, 0, 0, 25, 0, 123, 0, 5, 0, 0, // size, spacecraft, stream, channel, route
            0x5E, 0x65, 0x02, 0xB3, 0x2C, 0x95, 0, 12, // 24,165 days, 45,296,789 ms, 12 us
            0, 1, b'f', b'r', b'a', b'm', b'e',
        ];
        assert_eq!(stream, expected);
        let mut deframer = deframer();
        deframer.push(&stream);
        let unit = deframer.next_unit().unwrap().unwrap();
        assert_eq!((&unit.data[..], unit.ert_ns, unit.bad_quality), (&b"frame"[..], Some(ERT_NS), true));
        assert_eq!((unit.spacecraft, unit.channel), (Some(123), Some(5)));
    }

    #[test]
    fn a_time_that_is_none_and_a_unit_without_a_frame_are_left_out() {
        let mut stream = Vec::new();
        NctrsHeader::default().encode(b"", &mut stream);
        NctrsHeader::default().encode(b"a", &mut stream);
        let second = stream.len() - 21;
        stream[second + 12] = 0xFF;
        stream[second + 19] = 2;
        let mut deframer = deframer();
        deframer.push(&stream);
        let unit = deframer.next_unit().unwrap().unwrap();
        assert_eq!((&unit.data[..], unit.ert_ns, unit.bad_quality), (&b"a"[..], None, false));
        assert_eq!(deframer.next_unit().unwrap(), None);
        assert_eq!((deframer.counts().units, deframer.counts().bytes), (1, 41));
    }

    #[test]
    fn a_size_that_cannot_be_ends_the_stream() {
        for (size, fault) in [(19, Fault::NctrsSize(19)), (101, Fault::TooLong { length: 101, max: 100 })] {
            let mut deframer = deframer();
            let mut stream = vec![0; 30];
            stream[3] = size;
            deframer.push(&stream);
            assert_eq!(deframer.next_unit().unwrap_err().fault, fault);
        }
    }
}
