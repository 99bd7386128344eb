//! Takes space packets out of transfer frames.

use crate::packet::{self, HEADER_BYTES, PACKET_BYTES_MAX};
use crate::transfer_frame::{Margins, Zone};
use crate::{Count, Decode, Format, Header};

/// Maps of a USLP channel.
const MAPS: usize = 16;

/// What became of the frames of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractCounts {
    /// Complete space packets.
    pub packets: u64,
    /// Packets that began and did not end, because frames are missing or a header is damaged.
    pub cut: u64,
    /// Packets of the encapsulation protocol (133.1-B), which are left out.
    pub encapsulated: u64,
    /// Frames that carry something else than packets, or that are too short for their headers.
    pub frames_skipped: u64,
}

/// Takes space packets out of the frames of one channel, across the borders of the frames.
///
/// A channel is one spacecraft, station, virtual channel and bypass flag. The extractor holds one incomplete packet
/// per map of the channel, of 64 KiB at most, plus what one frame adds.
#[derive(Debug)]
pub struct Extractor {
    /// The format of the frames of the channel.
    decode: Decode,
    /// The count that the next frame should have; another one means that frames are missing.
    next: Option<Count>,
    /// The incomplete packet of each map, by the number of the map. Only USLP has more than map 0.
    maps: Vec<Assembly>,
    /// The counts since the beginning.
    counts: ExtractCounts,
    /// The label of the next frame; see [`set_label`](Self::set_label).
    label: u64,
}

impl Extractor {
    /// An extractor that waits for the first packet that begins. Units that are packets are passed on, and units of
    /// [`Format::None`] are skipped.
    #[must_use]
    pub fn new(decode: Decode) -> Self {
        Self { decode, next: None, maps: Vec::new(), counts: ExtractCounts::default(), label: 0 }
    }

    /// Calls `each` with every space packet that `frame` completes, idle packets included.
    ///
    /// `header` is what [`Decode::header`] has read from `frame`. A frame that is bad must not come here: its absence
    /// counts as a gap.
    pub fn take(&mut self, frame: &[u8], header: &Header, mut each: impl FnMut(&[u8])) {
        if self.decode.format == Format::Packet {
            self.counts.packets += 1;
            return each(frame);
        }
        if header.count.is_some() && self.next.is_some() && self.next != header.count {
            self.cut();
        }
        self.next = header.count.map(Count::next).or(self.next);
        if header.is_idle {
            return;
        }
        let Some(zone) = self.zone(frame) else {
            self.counts.frames_skipped += 1;
            return;
        };
        if self.maps.len() <= zone.map {
            debug_assert!(zone.map < MAPS, "a map has 4 bits");
            self.maps.resize_with(zone.map + 1, Assembly::default);
        }
        let map = &mut self.maps[zone.map];
        let had_begun = map.has_begun();
        let packets = self.counts.packets + self.counts.cut + self.counts.encapsulated;
        map.take(&zone, &mut self.counts, &mut each);
        let has_ended = packets != self.counts.packets + self.counts.cut + self.counts.encapsulated;
        if !had_begun || has_ended {
            map.label = self.label;
        }
    }

    /// Gives each packet that begins in the next frame this label.
    pub const fn set_label(&mut self, label: u64) {
        self.label = label;
    }

    /// The lowest label of a packet that has begun and not ended; `None` if there is none. A new extractor that takes
    /// the frames from this label on completes the same packets.
    #[must_use]
    pub fn incomplete_since(&self) -> Option<u64> {
        self.maps.iter().filter(|map| map.has_begun()).map(|map| map.label).min()
    }

    /// Memory of the packets that have begun and not ended, in bytes.
    #[must_use]
    pub fn incomplete_bytes(&self) -> usize {
        self.maps.iter().map(|map| map.partial.capacity()).sum()
    }

    /// Drops what has begun and waits for the next packet that begins: frames may be missing.
    pub fn cut(&mut self) {
        self.maps.iter_mut().for_each(|map| map.cut(&mut self.counts));
    }

    /// The counts since the beginning.
    #[must_use]
    pub const fn counts(&self) -> ExtractCounts {
        self.counts
    }

    fn zone<'a>(&self, frame: &'a [u8]) -> Option<Zone<'a>> {
        let Decode { format, fecf, insert_zone, trailer } = self.decode;
        let frame = &frame[..frame.len().checked_sub(fecf.length())?];
        format.frames()?.zone(frame, Margins { insert_zone, trailer })
    }
}

/// Puts the packets of one map together.
#[derive(Debug, Default)]
struct Assembly {
    /// A packet that has begun and not ended.
    partial: Vec<u8>,
    /// The next byte of the map continues `partial`, or begins a packet if there is none.
    is_following: bool,
    /// The label of the frame in which `partial` began.
    label: u64,
}

impl Assembly {
    const fn has_begun(&self) -> bool {
        !self.partial.is_empty()
    }

    fn take(&mut self, zone: &Zone<'_>, counts: &mut ExtractCounts, each: &mut impl FnMut(&[u8])) {
        let first = zone.first.unwrap_or(zone.bytes.len());
        let Some((end_of_last, packets)) = zone.bytes.split_at_checked(first) else {
            counts.frames_skipped += 1;
            return self.cut(counts);
        };
        if self.is_following {
            self.finish_last(end_of_last, zone.first.is_some(), counts, each);
        }
        if zone.first.is_some() {
            self.is_following = true;
            self.split(packets, counts, each);
        }
        if zone.is_self_contained {
            self.cut(counts);
        }
    }

    /// Appends the bytes before the first packet that begins. If one begins, they must end the packet before.
    fn finish_last(
        &mut self,
        bytes: &[u8],
        must_end: bool,
        counts: &mut ExtractCounts,
        each: &mut impl FnMut(&[u8]),
    ) {
        if self.partial.is_empty() {
            self.is_following = bytes.is_empty();
            return;
        }
        self.partial.extend_from_slice(bytes);
        match length(&self.partial) {
            Ok(Some(length)) if length == self.partial.len() => {
                deliver(&self.partial, counts, each);
                self.partial = Vec::new();
            }
            Ok(Some(length)) if length > self.partial.len() && !must_end => {}
            Ok(None) if !must_end => {}
            _ => self.cut(counts),
        }
    }

    /// Delivers the packets at the front of `rest` and keeps what is not complete.
    fn split(&mut self, mut rest: &[u8], counts: &mut ExtractCounts, each: &mut impl FnMut(&[u8])) {
        loop {
            match length(rest) {
                Ok(Some(length)) if length <= rest.len() => {
                    let (packet, behind) = rest.split_at(length);
                    deliver(packet, counts, each);
                    rest = behind;
                }
                Ok(_) => return self.partial.extend_from_slice(rest),
                Err(NoPacket) => {
                    self.partial.extend_from_slice(rest);
                    return self.cut(counts);
                }
            }
        }
    }

    /// Drops the packet that has begun, and waits for the next that begins.
    fn cut(&mut self, counts: &mut ExtractCounts) {
        counts.cut += u64::from(!self.partial.is_empty());
        self.partial = Vec::new();
        self.is_following = false;
    }
}

fn deliver(packet: &[u8], counts: &mut ExtractCounts, each: &mut impl FnMut(&[u8])) {
    if packet[0] >> 5 == 0 {
        counts.packets += 1;
        each(packet);
    } else {
        counts.encapsulated += 1;
    }
}

/// No packet begins like this.
struct NoPacket;

/// Length of the packet that begins `bytes`; `None` if that needs more bytes. Space packets (133.0-B) and
/// encapsulation packets (133.1-B, section 4.1.2) tell their lengths.
fn length(bytes: &[u8]) -> Result<Option<usize>, NoPacket> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let length = match (first >> 5, first & 3) {
        (0, _) => bytes.first_chunk::<HEADER_BYTES>().and_then(|header| packet::length(header).ok()),
        (7, 0) => Some(1),
        (7, 1) => bytes.get(1).map(|length| usize::from(*length)),
        (7, 2) => bytes.get(2..4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]]))),
        (7, _) => bytes
            .get(4..8)
            .map(|length| u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize),
        _ => return Err(NoPacket),
    };
    let header = [1, 2, 4, 8][usize::from(first & 3)];
    match length {
        Some(length) if first >> 5 == 7 && length < header || length > PACKET_BYTES_MAX => Err(NoPacket),
        known => Ok(known),
    }
}

#[cfg(test)]
mod tests;
