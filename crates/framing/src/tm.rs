//! TM transfer frames, CCSDS 132.0-B, section 4.1.2: a primary header of 6 bytes.

use crate::decode::check_start;
use crate::extract::{Zone, data_field};
use crate::{Count, Decode, DecodeError, FrameFields, Header, Pointer};

/// First header pointer of a frame with nothing but idle data.
const POINTER_IDLE: u16 = 0x7FE;
/// First header pointer of a frame in which no packet begins.
const POINTER_NONE: u16 = 0x7FF;
/// Bytes of the primary header.
const HEADER_BYTES: usize = 6;
/// Bytes of the operational control field.
pub(crate) const CONTROL_BYTES: usize = 4;

/// The header of a TM transfer frame.
pub(crate) fn decode(unit: &[u8]) -> Result<Header, DecodeError> {
    let header: &[u8; HEADER_BYTES] = check_start(unit, "a TM transfer frame", 2, 0)?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    let status = u16::from_be_bytes([header[4], header[5]]);
    let has_packets = status & 0x4000 == 0;
    Ok(Header {
        spacecraft: Some(u32::from(id >> 4 & 0x3FF)),
        channel: u32::from(id >> 1 & 7),
        count: Some(Count { value: header[3].into(), modulo: 1 << 8 }),
        is_idle: has_packets && status & 0x7FF == POINTER_IDLE,
        ..Header::default()
    })
}

/// The packets of `frame`, which comes without its checksum; `None` if there are none.
pub(crate) fn zone<'a>(frame: &'a [u8], decode: &Decode) -> Option<Zone<'a>> {
    let header: &[u8; HEADER_BYTES] = frame.first_chunk()?;
    let status = u16::from_be_bytes([header[4], header[5]]);
    if status & 0x4000 != 0 {
        return None;
    }
    let control = if header[1] & 1 == 1 { CONTROL_BYTES } else { 0 };
    let mut bytes = data_field(frame, HEADER_BYTES, control, decode)?;
    if status & 0x8000 != 0 {
        bytes = bytes.get(usize::from(bytes.first()? & 0x3F) + 1..)?;
    }
    packet_zone(bytes, status)
}

/// A zone with the pointer in the low 11 bits of `status`, as TM and AOS have it.
pub(crate) fn packet_zone(bytes: &[u8], status: u16) -> Option<Zone<'_>> {
    let (bytes, first) = match status & 0x7FF {
        POINTER_IDLE => (&bytes[..0], None),
        POINTER_NONE => (bytes, None),
        first => (bytes, Some(first.into())),
    };
    Some(Zone { map: 0, bytes, first, is_self_contained: false })
}

/// The low 11 bits that [`packet_zone`] reads.
pub(crate) const fn pointer_bits(pointer: Pointer) -> u16 {
    match pointer {
        Pointer::At(first) => first as u16 & 0x7FF,
        Pointer::NoPacket => POINTER_NONE,
        Pointer::Idle => POINTER_IDLE,
    }
}

/// Appends the header of a frame without secondary header and control field.
pub(crate) fn encode(decode: &Decode, fields: &FrameFields, out: &mut Vec<u8>) {
    let id = (fields.spacecraft as u16 & 0x3FF) << 4 | (fields.channel as u16 & 7) << 1;
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[fields.count as u8; 2]);
    out.extend_from_slice(&(0x1800 | pointer_bits(fields.pointer)).to_be_bytes());
    out.resize(out.len() + decode.insert_zone, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_book_has_them() {
        // Spacecraft 0x2A5, channel 5, with a control field; counts 7 and 200; pointer 0x123.
        let frame = [0x2A, 0x5B, 7, 200, 0x19, 0x23, 0];
        let header = decode(&frame).unwrap();
        assert_eq!((header.spacecraft, header.channel, header.is_idle), (Some(0x2A5), 5, false));
        assert_eq!(header.count, Some(Count { value: 200, modulo: 256 }));
    }

    #[test]
    fn the_pointer_says_idle_unless_the_data_are_no_packets() {
        assert!(decode(&[0, 0, 0, 0, 0x1F, 0xFE]).unwrap().is_idle);
        assert!(!decode(&[0, 0, 0, 0, 0x5F, 0xFE]).unwrap().is_idle);
        assert!(!decode(&[0, 0, 0, 0, 0x1F, 0xFF]).unwrap().is_idle);
    }

    #[test]
    fn another_version_and_a_short_unit_are_refused_in_words() {
        let error = decode(&[0x40, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "version 1 in the first bits, a TM transfer frame has 0");
        let error = decode(&[0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "5 bytes are too few for a TM transfer frame, which has 6 at least");
    }
}
