//! USLP transfer frames, CCSDS 732.1-B, section 4.1.2: a primary header of 7 to 14 bytes.

use crate::header::check_start;
use crate::transfer_frame::{CONTROL_BYTES, IDLE_CHANNEL, Margins, TransferFrame, Zone};
use crate::{Count, DecodeError, FrameFields, Header, Pointer};

const FORMAT: &str = "a USLP transfer frame";
/// Bytes of the header of a truncated frame.
const TRUNCATED_BYTES: usize = 4;
/// Bytes of the header before the frame count.
const FIXED_BYTES: usize = 7;
/// Bytes of the frame count in frames that are made here.
const COUNT_BYTES: u8 = 4;
/// Packets span frames, and a pointer gives the first byte of the first packet that begins.
const RULE_SPANNING: u8 = 0;
/// Packets are not segmented, and there is no pointer.
const RULE_WHOLE: u8 = 7;
/// Space packets and encapsulation packets.
const PROTOCOL_PACKETS: u8 = 0;
/// Nothing but fill.
const PROTOCOL_IDLE: u8 = 31;
/// First header pointer of a frame in which no packet begins.
const POINTER_NONE: u16 = 0xFFFF;

/// The layout of USLP transfer frames.
#[derive(Debug)]
pub(crate) struct Uslp;

impl TransferFrame for Uslp {
    fn header(&self, frame: &[u8]) -> Result<Header, DecodeError> {
        let start: &[u8; TRUNCATED_BYTES] = check_start(frame, FORMAT, 4, 12)?;
        let id = u32::from_be_bytes(*start);
        let channel = id >> 5 & 0x3F;
        let header = Header {
            spacecraft: Some(id >> 12 & 0xFFFF),
            channel,
            is_idle: channel == IDLE_CHANNEL,
            ..Header::default()
        };
        let is_truncated = start[3] & 1 == 1;
        if is_truncated {
            return Ok(header);
        }
        let fixed: &[u8; FIXED_BYTES] = check_start(frame, FORMAT, 4, 12)?;
        let claimed = usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) + 1;
        if claimed != frame.len() {
            return Err(DecodeError::Length { header: claimed, length: frame.len() });
        }
        let needed = header_length(fixed);
        let counted = frame.get(FIXED_BYTES..needed);
        let counted = counted.ok_or(DecodeError::TooShort { format: FORMAT, length: frame.len(), needed })?;
        let count = (!counted.is_empty()).then(|| Count {
            value: counted.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
            modulo: 1 << (8 * counted.len()),
        });
        Ok(Header { is_bypass: fixed[6] & 0x80 != 0, count, ..header })
    }

    /// The data field begins with the rule of its construction and its protocol (732.1-B, section 4.1.4.2).
    fn zone<'a>(&self, frame: &'a [u8], margins: Margins) -> Option<Zone<'a>> {
        let header: &[u8; FIXED_BYTES] = frame.first_chunk()?;
        if header[3] & 1 == 1 {
            return None;
        }
        let control = if header[6] & 8 != 0 { CONTROL_BYTES } else { 0 };
        let (content, bytes) = margins.data_field(frame, header_length(header), control)?.split_first()?;
        let map = usize::from(header[3] >> 1 & 0x0F);
        match (content >> 5, content & 0x1F) {
            (RULE_SPANNING, PROTOCOL_PACKETS) => {
                let (pointer, bytes) = bytes.split_first_chunk()?;
                let pointer = u16::from_be_bytes(*pointer);
                let first = (pointer != POINTER_NONE).then_some(pointer.into());
                Some(Zone { map, bytes, first, is_self_contained: false })
            }
            (RULE_WHOLE, PROTOCOL_PACKETS) => {
                Some(Zone { map, bytes, first: Some(0), is_self_contained: true })
            }
            (_, PROTOCOL_IDLE) => Some(Zone { map, bytes: &[], first: None, is_self_contained: false }),
            _ => None,
        }
    }

    /// The header of a frame of map 0 with a count of 4 bytes, and the header of its data field.
    ///
    /// # Panics
    /// If the frame would be longer than 65,536 bytes.
    fn encode(&self, fields: &FrameFields, margins: Margins, length: usize, out: &mut Vec<u8>) {
        let id = 12 << 28 | (fields.spacecraft & 0xFFFF) << 12 | (fields.channel & 0x3F) << 5;
        let (content, pointer) = match fields.pointer {
            Pointer::At(first) => (PROTOCOL_PACKETS, first as u16),
            Pointer::NoPacket => (PROTOCOL_PACKETS, POINTER_NONE),
            Pointer::Idle => (PROTOCOL_IDLE, POINTER_NONE),
        };
        let around = FIXED_BYTES + usize::from(COUNT_BYTES) + 3 + margins.insert_zone + margins.trailer;
        let last = u16::try_from(around + length - 1).expect("a USLP frame of 65,536 bytes at most");
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&last.to_be_bytes());
        out.push(COUNT_BYTES);
        out.extend_from_slice(&(fields.count as u32).to_be_bytes());
        out.resize(out.len() + margins.insert_zone, 0);
        out.push(content);
        out.extend_from_slice(&pointer.to_be_bytes());
    }
}

/// Bytes of a header that is not truncated.
const fn header_length(fixed: &[u8; FIXED_BYTES]) -> usize {
    FIXED_BYTES + (fixed[6] & 7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_book_has_them() {
        // Spacecraft 0xABCD, channel 0x15, map 3, 12 bytes, bypass, a count of two bytes.
        let frame = [0xCA, 0xBC, 0xDA, 0xA6, 0, 11, 0x82, 0x12, 0x34, 0, 1, 2];
        let header = Uslp.header(&frame).unwrap();
        assert_eq!((header.spacecraft, header.channel), (Some(0xABCD), 0x15));
        assert_eq!((header.is_bypass, header.is_idle), (true, false));
        assert_eq!(header.count, Some(Count { value: 0x1234, modulo: 1 << 16 }));
    }

    #[test]
    fn counts_have_up_to_seven_bytes() {
        let frame = [0xC0, 0, 0x07, 0xE0, 0, 13, 7, 1, 2, 3, 4, 5, 6, 7];
        let header = Uslp.header(&frame).unwrap();
        assert_eq!((header.channel, header.is_idle), (63, true));
        assert_eq!(header.count, Some(Count { value: 0x01_0203_0405_0607, modulo: 1 << 56 }));
        assert_eq!(Uslp.header(&[0xC0, 0, 0, 0, 0, 6, 0]).unwrap().count, None);
        assert!(matches!(Uslp.header(&frame[..9]), Err(DecodeError::Length { header: 14, length: 9 })));
        assert!(matches!(
            Uslp.header(&[0xC0, 0, 0, 0, 0, 6, 1]),
            Err(DecodeError::TooShort { length: 7, needed: 8, .. })
        ));
    }

    #[test]
    fn a_truncated_frame_has_no_count() {
        let header = Uslp.header(&[0xC0, 0x01, 0x00, 0x21, 0xE0]).unwrap();
        assert_eq!((header.spacecraft, header.channel, header.count), (Some(0x10), 1, None));
        assert!(matches!(Uslp.header(&[0xC0, 0, 0]), Err(DecodeError::TooShort { needed: 4, .. })));
    }
}
