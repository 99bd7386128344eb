//! Space packets, CCSDS 133.0-B, section 4.1: a primary header of 6 bytes, then up to 65,536 bytes of data.

use crate::cut::{Cut, Input};
use crate::{Count, DecodeError, Fault, Header, Unit};

/// Bytes of the primary header.
pub const HEADER_BYTES: usize = 6;
/// Bytes of the longest packet.
pub const PACKET_BYTES_MAX: usize = HEADER_BYTES + (1 << 16);
/// The application process of idle packets.
pub const IDLE_APID: u16 = 0x7FF;
/// Bytes of the shortest packet.
pub(crate) const PACKET_BYTES_MIN: usize = HEADER_BYTES + 1;

const FORMAT: &str = "a space packet";

/// The fields of a primary header that a sender chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketHeader {
    /// Application process, 11 bits.
    pub apid: u16,
    /// Sequence count, 14 bits.
    pub count: u16,
    /// The data begins with a secondary header.
    pub has_secondary_header: bool,
}

impl PacketHeader {
    /// Appends an unsegmented telemetry packet with this header.
    ///
    /// # Panics
    /// Unless `data` has 1 to 65,536 bytes.
    pub fn encode(&self, data: &[u8], out: &mut Vec<u8>) {
        assert!(!data.is_empty() && data.len() <= 1 << 16, "no packet holds {} bytes", data.len());
        let secondary = u16::from(self.has_secondary_header) << 11;
        out.extend_from_slice(&(secondary | self.apid & 0x7FF).to_be_bytes());
        out.extend_from_slice(&(0xC000 | self.count & 0x3FFF).to_be_bytes());
        out.extend_from_slice(&((data.len() - 1) as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
}

/// Application process of the packet whose header is `header`.
#[must_use]
pub const fn apid(header: &[u8; HEADER_BYTES]) -> u16 {
    u16::from_be_bytes([header[0], header[1]]) & 0x7FF
}

/// Length of the packet whose header is `header`, in bytes.
///
/// # Errors
/// The version, if it is not the version of space packets.
pub const fn length(header: &[u8; HEADER_BYTES]) -> Result<usize, u8> {
    match header[0] >> 5 {
        0 => Ok(HEADER_BYTES + 1 + u16::from_be_bytes([header[4], header[5]]) as usize),
        version => Err(version),
    }
}

/// Reads the header of a unit that is one packet.
pub(crate) fn decode(unit: &[u8]) -> Result<Header, DecodeError> {
    let Some(header) = unit.first_chunk() else {
        return Err(DecodeError::TooShort { format: FORMAT, length: unit.len(), needed: PACKET_BYTES_MIN });
    };
    let claimed =
        length(header).map_err(|found| DecodeError::Version { format: FORMAT, found, expected: 0 })?;
    if claimed != unit.len() {
        return Err(DecodeError::Length { header: claimed, length: unit.len() });
    }
    let apid = apid(header);
    let count = u16::from_be_bytes([header[2], header[3]]) & 0x3FFF;
    Ok(Header {
        channel: apid.into(),
        count: Some(Count { value: count.into(), modulo: 1 << 14 }),
        is_idle: apid == IDLE_APID,
        ..Header::default()
    })
}

/// Cuts packets that follow one another. There is no marker, so a header that cannot be is the end.
#[derive(Debug)]
pub(crate) struct CutPackets {
    /// Longest packet in bytes; a longer one ends the stream.
    pub(crate) max: usize,
}

impl Cut for CutPackets {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        let Some(header) = input.buffer.first_chunk() else {
            return Ok(None);
        };
        let length = length(header).map_err(Fault::PacketVersion)?;
        if length > self.max {
            return Err(Fault::TooLong { length, max: self.max });
        }
        if input.buffer.len() < length {
            return Ok(None);
        }
        let data = input.take(length);
        Ok(Some(input.unit(data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deframer, Framing};

    fn packet(apid: u16, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        PacketHeader { apid, count: 77, has_secondary_header: true }.encode(data, &mut out);
        out
    }

    #[test]
    fn the_longest_and_the_shortest_packet_pass() {
        let (long, short) = (packet(1, &[7; 1 << 16]), packet(IDLE_APID, &[1]));
        assert_eq!((long.len(), short.len()), (PACKET_BYTES_MAX, PACKET_BYTES_MIN));
        assert_eq!(short[..6], [0x0F, 0xFF, 0xC0, 77, 0, 0]);
        let mut deframer = Deframer::new(&Framing::Packet { max: PACKET_BYTES_MAX });
        deframer.push(&[&long[..], &short].concat());
        assert_eq!(deframer.next_unit().unwrap().unwrap().data, long);
        assert_eq!(deframer.next_unit().unwrap().unwrap().data, short);
        let header = decode(&short).unwrap();
        assert_eq!((header.channel, header.is_idle), (0x7FF, true));
        assert_eq!(header.count, Some(Count { value: 77, modulo: 16_384 }));
    }

    #[test]
    fn an_impossible_header_names_its_byte_and_keeps_the_bytes_apart() {
        let mut deframer = Deframer::new(&Framing::Packet { max: 20 });
        deframer.push(&packet(1, b"abc"));
        deframer.push(&[0x20; 40]);
        assert!(deframer.next_unit().unwrap().is_some());
        let error = deframer.next_unit().unwrap_err();
        assert_eq!(deframer.next_unit().unwrap_err(), error);
        assert_eq!(error.to_string(), "packet version 1, expected 0 at byte 9 of the stream");
        assert_eq!(error.hex(), "20".repeat(32));
        let mut deframer = Deframer::new(&Framing::Packet { max: 20 });
        deframer.push(&packet(1, &[0; 15])[..6]);
        let error = deframer.next_unit().unwrap_err();
        assert_eq!(error.fault, Fault::TooLong { length: 21, max: 20 });
        assert_eq!((error.offset, error.bytes.len()), (0, 6));
    }

    #[test]
    fn a_unit_that_is_not_one_packet_is_refused() {
        assert!(matches!(decode(&[0; 5]), Err(DecodeError::TooShort { length: 5, .. })));
        assert!(matches!(decode(&[0x80; 7]), Err(DecodeError::Version { found: 4, .. })));
        assert_eq!(decode(&[0; 9]), Err(DecodeError::Length { header: 7, length: 9 }));
    }
}
