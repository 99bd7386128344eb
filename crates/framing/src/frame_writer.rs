//! Makes transfer frames, for simulators and tests.

use crate::packet::{self, IDLE_APID, PACKET_BYTES_MIN};
use crate::transfer_frame::Margins;
use crate::{Decode, FrameFields, PacketHeader, Pointer};

impl Decode {
    /// Appends a transfer frame with `data` in its data field. The insert zone and the trailer are zeros.
    ///
    /// # Panics
    /// If the format is no transfer frame.
    pub fn encode(&self, fields: &FrameFields, data: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let Some(frames) = self.format.frames() else { panic!("{self} are no transfer frames") };
        let behind = self.trailer + self.fecf.length();
        let margins = Margins { insert_zone: self.insert_zone, trailer: behind };
        frames.encode(fields, margins, data.len(), out);
        out.extend_from_slice(data);
        out.resize(out.len() + self.trailer, 0);
        self.fecf.append(out, start);
    }

    /// Bytes of a frame around its data field, as [`encode`](Self::encode) makes it.
    ///
    /// # Panics
    /// If the format is no transfer frame.
    #[must_use]
    pub fn overhead(&self) -> usize {
        let mut frame = Vec::new();
        self.encode(
            &FrameFields { spacecraft: 0, channel: 0, count: 0, pointer: Pointer::Idle },
            &[],
            &mut frame,
        );
        frame.len()
    }
}

/// Puts packets into the frames of one channel.
#[derive(Debug)]
pub struct FrameWriter {
    /// The format of the frames.
    decode: Decode,
    /// The spacecraft in the header of every frame.
    spacecraft: u32,
    /// The virtual channel in the header of every frame.
    channel: u32,
    /// The count of the next frame, before it is cut to the bits of the format.
    count: u64,
    /// Bytes of a data field.
    data_length: usize,
    /// The data field of the next frame, as far as packets fill it.
    data: Vec<u8>,
    /// Where in `data` the first packet begins; `None` if none begins in this frame.
    first: Option<usize>,
    /// The last frame; kept only for its memory.
    frame: Vec<u8>,
}

impl FrameWriter {
    /// A writer of frames of `length` bytes whose count begins with `count`.
    ///
    /// # Panics
    /// If the format is no transfer frame, or the data field has fewer than 7 bytes.
    #[must_use]
    pub fn new(decode: Decode, spacecraft: u32, channel: u32, length: usize, count: u64) -> Self {
        let data_length = length.saturating_sub(decode.overhead());
        assert!(data_length >= PACKET_BYTES_MIN, "no room for packets in frames of {length} bytes");
        Self {
            decode,
            spacecraft,
            channel,
            count,
            data_length,
            data: Vec::new(),
            first: None,
            frame: Vec::new(),
        }
    }

    /// Appends a packet. Calls `each` with every frame that becomes full.
    pub fn packet(&mut self, mut packet: &[u8], mut each: impl FnMut(&[u8])) {
        self.first.get_or_insert(self.data.len());
        while !packet.is_empty() {
            let (now, later) = packet.split_at(packet.len().min(self.data_length - self.data.len()));
            self.data.extend_from_slice(now);
            packet = later;
            if self.data.len() == self.data_length {
                let pointer = self.first.take().map_or(Pointer::NoPacket, Pointer::At);
                self.frame(pointer, &mut each);
            }
        }
    }

    /// Whether the last frame is full.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Fills the last frame with an idle packet, which goes on in one more frame if it does not fit otherwise.
    pub fn flush(&mut self, each: impl FnMut(&[u8])) {
        if self.data.is_empty() {
            return;
        }
        let room = self.data_length - self.data.len();
        let length = if room < PACKET_BYTES_MIN { room + self.data_length } else { room };
        let mut packet = Vec::new();
        let header = PacketHeader { apid: IDLE_APID, ..PacketHeader::default() };
        header.encode(&vec![0; length - packet::HEADER_BYTES], &mut packet);
        self.packet(&packet, each);
    }

    /// Makes a frame with nothing but fill.
    ///
    /// # Panics
    /// If a frame is not full. [`flush`](Self::flush) fills it.
    pub fn idle(&mut self, mut each: impl FnMut(&[u8])) {
        assert!(self.data.is_empty(), "a frame is not full");
        self.data.resize(self.data_length, 0x55);
        self.frame(Pointer::Idle, &mut each);
    }

    fn frame(&mut self, pointer: Pointer, each: &mut impl FnMut(&[u8])) {
        let Self { spacecraft, channel, count, .. } = *self;
        self.frame.clear();
        let fields = FrameFields { spacecraft, channel, count, pointer };
        self.decode.encode(&fields, &self.data, &mut self.frame);
        each(&self.frame);
        self.count += 1;
        self.data.clear();
    }
}
