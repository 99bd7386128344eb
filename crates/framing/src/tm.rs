//! TM transfer frames, CCSDS 132.0-B, section 4.1.2: a primary header of 6 bytes.

use crate::header::check_start;
use crate::transfer_frame::{
    CONTROL_BYTES, Margins, POINTER_IDLE, TransferFrame, Zone, packet_zone, pointer_bits,
};
use crate::{Count, DecodeError, FrameFields, Header};

/// Bytes of the primary header.
const HEADER_BYTES: usize = 6;

/// The layout of TM transfer frames.
#[derive(Debug)]
pub(crate) struct Tm;

impl TransferFrame for Tm {
    fn header(&self, frame: &[u8]) -> Result<Header, DecodeError> {
        let header: &[u8; HEADER_BYTES] = check_start(frame, "a TM transfer frame", 2, 0)?;
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

    fn zone<'a>(&self, frame: &'a [u8], margins: Margins) -> Option<Zone<'a>> {
        let header: &[u8; HEADER_BYTES] = frame.first_chunk()?;
        let status = u16::from_be_bytes([header[4], header[5]]);
        if status & 0x4000 != 0 {
            return None;
        }
        let control = if header[1] & 1 == 1 { CONTROL_BYTES } else { 0 };
        let mut bytes = margins.data_field(frame, HEADER_BYTES, control)?;
        if status & 0x8000 != 0 {
            bytes = bytes.get(usize::from(bytes.first()? & 0x3F) + 1..)?;
        }
        packet_zone(bytes, status)
    }

    /// The header of a frame without secondary header and control field.
    fn encode(&self, fields: &FrameFields, margins: Margins, _length: usize, out: &mut Vec<u8>) {
        let id = (fields.spacecraft as u16 & 0x3FF) << 4 | (fields.channel as u16 & 7) << 1;
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[fields.count as u8; 2]);
        out.extend_from_slice(&(0x1800 | pointer_bits(fields.pointer)).to_be_bytes());
        out.resize(out.len() + margins.insert_zone, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_book_has_them() {
        // Spacecraft 0x2A5, channel 5, with a control field; counts 7 and 200; pointer 0x123.
        let frame = [0x2A, 0x5B, 7, 200, 0x19, 0x23, 0];
        let header = Tm.header(&frame).unwrap();
        assert_eq!((header.spacecraft, header.channel, header.is_idle), (Some(0x2A5), 5, false));
        assert_eq!(header.count, Some(Count { value: 200, modulo: 256 }));
    }

    #[test]
    fn the_pointer_says_idle_unless_the_data_are_no_packets() {
        assert!(Tm.header(&[0, 0, 0, 0, 0x1F, 0xFE]).unwrap().is_idle);
        assert!(!Tm.header(&[0, 0, 0, 0, 0x5F, 0xFE]).unwrap().is_idle);
        assert!(!Tm.header(&[0, 0, 0, 0, 0x1F, 0xFF]).unwrap().is_idle);
    }

    #[test]
    fn another_version_and_a_short_unit_are_refused_in_words() {
        let error = Tm.header(&[0x40, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "version 1 in the first bits, a TM transfer frame has 0");
        let error = Tm.header(&[0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "5 bytes are too few for a TM transfer frame, which has 6 at least");
    }
}
