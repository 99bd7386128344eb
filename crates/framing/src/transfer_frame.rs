//! What the formats of transfer frames have in common.

use crate::{DecodeError, Header};

/// Bytes of the operational control field.
pub(crate) const CONTROL_BYTES: usize = 4;
/// The virtual channel of idle frames in AOS and USLP.
pub(crate) const IDLE_CHANNEL: u32 = 63;
/// First header pointer of a TM or AOS frame with nothing but idle data.
pub(crate) const POINTER_IDLE: u16 = 0x7FE;
/// First header pointer of a TM or AOS frame in which no packet begins.
const POINTER_NONE: u16 = 0x7FF;

/// The layout of one format of transfer frames.
pub(crate) trait TransferFrame: Sync {
    /// Reads the header of `frame`.
    fn header(&self, frame: &[u8]) -> Result<Header, DecodeError>;

    /// The packets of `frame`, which comes without its checksum; `None` if there are none.
    fn zone<'a>(&self, frame: &'a [u8], margins: Margins) -> Option<Zone<'a>>;

    /// Appends everything in front of the packets, which will have `length` bytes.
    fn encode(&self, fields: &FrameFields, margins: Margins, length: usize, out: &mut Vec<u8>);
}

/// What stands around the data field, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Margins {
    /// Between the primary header and the data field.
    pub(crate) insert_zone: usize,
    /// Behind the data field.
    pub(crate) trailer: usize,
}

impl Margins {
    /// `frame` without `header` bytes and the insert zone in front, and without the trailer of at least `trailer_min`
    /// bytes at the end.
    pub(crate) fn data_field(self, frame: &[u8], header: usize, trailer_min: usize) -> Option<&[u8]> {
        let end = frame.len().checked_sub(self.trailer.max(trailer_min))?;
        frame.get(header.checked_add(self.insert_zone)?..end)
    }
}

/// The part of a frame that holds packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone<'a> {
    /// The map of a USLP frame.
    pub(crate) map: usize,
    /// The data field without its header.
    pub(crate) bytes: &'a [u8],
    /// Where the first packet begins; `None` if no packet begins.
    pub(crate) first: Option<usize>,
    /// Every packet ends in the frame in which it begins.
    pub(crate) is_self_contained: bool,
}

/// The fields of a frame that a sender chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFields {
    /// Spacecraft.
    pub spacecraft: u32,
    /// Virtual channel.
    pub channel: u32,
    /// Count of the channel. The lowest bits are sent, as many as the format has.
    pub count: u64,
    /// What begins in the data field.
    pub pointer: Pointer,
}

/// The first header pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// The first packet begins at this byte of the data field.
    At(usize),
    /// No packet begins.
    NoPacket,
    /// There is nothing but fill.
    Idle,
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
