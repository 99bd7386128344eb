//! AOS transfer frames, CCSDS 732.0-B, section 4.1.2: a primary header of 6 bytes.

use crate::header::check_start;
use crate::transfer_frame::{IDLE_CHANNEL, Margins, TransferFrame, Zone, packet_zone, pointer_bits};
use crate::{Count, DecodeError, FrameFields, Header};

/// Bytes of the primary header.
const HEADER_BYTES: usize = 6;

/// Length of the spacecraft id in AOS frames. Issue 4 of 732.0-B has added two bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScidBits {
    /// 8 bits.
    #[default]
    Eight,
    /// 10 bits, the two highest of them in bits 42 and 43.
    Ten,
}

/// The layout of AOS transfer frames with a spacecraft id of this length.
#[derive(Debug)]
pub(crate) struct Aos(pub(crate) ScidBits);

impl TransferFrame for Aos {
    fn header(&self, frame: &[u8]) -> Result<Header, DecodeError> {
        let header: &[u8; HEADER_BYTES] = check_start(frame, "an AOS transfer frame", 2, 1)?;
        let id = u16::from_be_bytes([header[0], header[1]]);
        let signaling = header[5];
        let high = match self.0 {
            ScidBits::Eight => 0,
            ScidBits::Ten => u32::from(signaling >> 4 & 3) << 8,
        };
        let low = u64::from(u32::from_be_bytes([0, header[2], header[3], header[4]]));
        let count = if signaling & 0x40 == 0 {
            Count { value: low, modulo: 1 << 24 }
        } else {
            Count { value: u64::from(signaling & 0x0F) << 24 | low, modulo: 1 << 28 }
        };
        let channel = u32::from(id & 0x3F);
        Ok(Header {
            spacecraft: Some(high | u32::from(id >> 6 & 0xFF)),
            channel,
            count: Some(count),
            is_idle: channel == IDLE_CHANNEL,
            ..Header::default()
        })
    }

    /// The packets follow a header of two bytes (732.0-B, section 4.1.4.2).
    fn zone<'a>(&self, frame: &'a [u8], margins: Margins) -> Option<Zone<'a>> {
        let (pointer, bytes) = margins.data_field(frame, HEADER_BYTES, 0)?.split_first_chunk()?;
        packet_zone(bytes, u16::from_be_bytes(*pointer))
    }

    /// The header of the frame and the header of its packets. The count has 28 bits.
    fn encode(&self, fields: &FrameFields, margins: Margins, _length: usize, out: &mut Vec<u8>) {
        let id = 0x4000 | (fields.spacecraft as u16 & 0xFF) << 6 | fields.channel as u16 & 0x3F;
        let [.., cycle, high, middle, low] = fields.count.to_be_bytes();
        let extension = if self.0 == ScidBits::Ten { fields.spacecraft >> 8 & 3 } else { 0 };
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[high, middle, low, 0x40 | (extension as u8) << 4 | cycle & 0x0F]);
        out.resize(out.len() + margins.insert_zone, 0);
        out.extend_from_slice(&pointer_bits(fields.pointer).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_book_has_them() {
        // Spacecraft 0xA5, channel 0x2A; count 0x123456; replay, cycle in use, extension 2, cycle 9.
        let frame = [0x69, 0x6A, 0x12, 0x34, 0x56, 0xE9];
        let header = Aos(ScidBits::Eight).header(&frame).unwrap();
        assert_eq!((header.spacecraft, header.channel, header.is_idle), (Some(0xA5), 0x2A, false));
        assert_eq!(header.count, Some(Count { value: 0x0912_3456, modulo: 1 << 28 }));
        assert_eq!(Aos(ScidBits::Ten).header(&frame).unwrap().spacecraft, Some(0x2A5));
        let frame = [0x69, 0x7F, 0x12, 0x34, 0x56, 0xA9];
        let header = Aos(ScidBits::Eight).header(&frame).unwrap();
        assert_eq!((header.channel, header.is_idle), (63, true));
        assert_eq!(header.count, Some(Count { value: 0x0012_3456, modulo: 1 << 24 }));
    }

    #[test]
    fn another_version_is_refused() {
        let error = Aos(ScidBits::Eight).header(&[0xC0; 6]).unwrap_err();
        assert_eq!(error.to_string(), "version 3 in the first bits, an AOS transfer frame has 1");
    }
}
