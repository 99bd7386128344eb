//! Turns DELIVER and GAP messages into the bytes that a reader understands.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::channels::Channels;
use super::cursor::Position;
use super::status::OutputStatus;
use api::OutputCounts;
use config::{Config, Cosmos, Output, OutputFraming, OutputTransport};
use frame::{Frame, FrameFlags, SourceKind, StreamKey};
use framing::Preidentified;
use framing::packet::{HEADER_BYTES, IDLE_APID, apid};
use framing::{Decode, ExtractCounts, Format, Length};
use support::logging::{Kind, by_peer};
use wire::{Deliver, FeedMessage, Gap, GapReason};

#[cfg(test)]
mod tests;

/// At most one mark is made in this many bytes. So marks take little memory; a restart repeats a little more.
const MARK_BYTES: usize = 1 << 10;
/// One conversion ends when it has made so many bytes. Small packets with long headers may become many times longer.
const CONVERTED_BYTES: usize = 128 << 10;
/// The longest payload of a UDP datagram over IPv4, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// The name of a packet that the configuration does not name.
const UNKNOWN: &str = "UNKNOWN";

/// What goes out for some messages.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// Frames or packets, each in its framing.
    pub(super) bytes: Vec<u8>,
    /// Where each of them ends. Only for datagrams.
    pub(super) ends: Vec<usize>,
    /// Pairs of a number of bytes and a position: a reader that has received so many of the bytes is at that position.
    /// Only for a cursor.
    pub(super) marks: Vec<(usize, Position)>,
    /// Frames with their offsets. Only for a forwarder, which has no bytes.
    pub(super) frames: Vec<(u64, Frame)>,
}

/// Converts for one reader.
pub(super) struct Converter {
    /// Puts the result into the framing.
    encoder: Encoder,
    /// The configuration of all links.
    all: Arc<Config>,
    /// The results of [`Output::decode_of`] so far.
    decodes: HashMap<StreamKey, Option<Decode>>,
    /// The incomplete packets of each channel.
    channels: Channels,
    /// The counts of the channels that were added to the status.
    counted: ExtractCounts,
    /// Whether marks are made: the output has a cursor.
    makes_marks: bool,
    /// Every frame below this offset was converted or left out.
    position: u64,
}

impl Converter {
    /// Converts for the output of `config`. If a link of `all` delivers a source, its `decode` says how to read the
    /// frames of the source. Packets that end in a frame below `send_from` were sent before.
    pub(super) fn new(
        config: Arc<Output>,
        all: Arc<Config>,
        status: Arc<OutputStatus>,
        send_from: u64,
        makes_marks: bool,
    ) -> Self {
        Self {
            encoder: Encoder { config, status, send_from },
            all,
            decodes: HashMap::new(),
            channels: Channels::default(),
            counted: ExtractCounts::default(),
            makes_marks,
            position: 0,
        }
    }

    /// Every frame below this offset was converted or left out.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Converts whole messages from the front of `messages`, which reach up to `next_offset`, until all are converted
    /// or the result is long enough.
    pub(super) fn convert(&mut self, messages: &mut Bytes, next_offset: u64) -> Converted {
        let mut out = Converted::default();
        let mut frame_bytes = 0;
        while messages.has_remaining() && out.bytes.len() + frame_bytes < CONVERTED_BYTES {
            let length = messages.get_u32() as usize;
            let message = FeedMessage::decode(messages.split_to(length));
            match message.expect("a message that the feed has encoded") {
                FeedMessage::Deliver(Deliver { offset, frame }) => {
                    frame_bytes += if self.encoder.config.is_forwarder() { frame.payload.len() } else { 0 };
                    self.convert_frame(offset, &frame, &mut out);
                    self.position = offset + 1;
                    self.add_mark(MARK_BYTES, &mut out);
                }
                FeedMessage::Gap(gap) => {
                    self.note_gap(&gap);
                    self.position = gap.offsets.end;
                }
                _ => {}
            }
        }
        if messages.is_empty() {
            self.position = next_offset;
        }
        self.add_mark(0, &mut out);
        self.count_packets();
        out
    }

    /// Notes the position, unless the last mark is less than `min_bytes` bytes away.
    fn add_mark(&self, min_bytes: usize, out: &mut Converted) {
        let last = out.marks.last().map_or(0, |(bytes, _)| *bytes);
        if self.makes_marks && out.bytes.len() >= last + min_bytes {
            // A packet may begin below `send_from` and end above it.
            let read_from = self.channels.incomplete_since().unwrap_or(self.position).min(self.position);
            let next_offset = self.position.max(self.encoder.send_from);
            out.marks.push((out.bytes.len(), Position { next_offset, read_from }));
        }
    }

    fn convert_frame(&mut self, offset: u64, frame: &Frame, out: &mut Converted) {
        let select = &self.encoder.config.select;
        let stream = &frame.origin.stream;
        let is_bad = frame.flags.contains(FrameFlags::BAD_QUALITY);
        if !select.stations.is_empty() && !select.stations.contains(&stream.station) {
            return self.count(|counts| counts.filtered += 1);
        }
        if is_bad {
            self.channels.note_missing(stream);
        }
        if is_bad && (!select.bad || self.encoder.config.extract_packets) {
            return self.count(|counts| counts.filtered += 1);
        }
        if self.encoder.config.extract_packets {
            return self.extract_packets(offset, frame, out);
        }
        if !select.idle && !is_bad && self.is_idle(frame) {
            return self.count(|counts| counts.filtered += 1);
        }
        self.count(|counts| counts.frames += 1);
        self.encoder.put_unit(offset, &frame.payload, frame, out);
    }

    fn is_idle(&mut self, frame: &Frame) -> bool {
        let decode = self.decode_of(&frame.origin.stream);
        decode.is_some_and(|decode| decode.header(&frame.payload).is_ok_and(|header| header.is_idle))
    }

    fn extract_packets(&mut self, offset: u64, frame: &Frame, out: &mut Converted) {
        let header =
            self.decode_of(&frame.origin.stream).map(|decode| (decode, decode.header(&frame.payload)));
        let Some((decode, Ok(header))) = header else {
            self.channels.note_missing(&frame.origin.stream);
            return self.count(|counts| counts.undecoded += 1);
        };
        self.count(|counts| counts.frames += 1);
        let encoder = &self.encoder;
        let each = |packet: &[u8]| encoder.put_packet(offset, packet, frame, out);
        self.channels.take(offset, frame, decode, &header, each);
    }

    /// How to read the frames of `stream`; `None` if their headers are not read.
    fn decode_of(&mut self, stream: &StreamKey) -> Option<Decode> {
        if let Some(decode) = self.decodes.get(stream) {
            return *decode;
        }
        let decode = self.encoder.config.decode_of(stream.source_id, &stream.station, &self.all.links);
        let decode = decode.filter(|decode| decode.format != Format::None);
        self.decodes.insert(stream.clone(), decode);
        decode
    }

    /// Counts the offsets of `gap`, and logs why the archive does not have them.
    fn note_gap(&mut self, gap: &Gap) {
        self.channels.cut_all();
        // What lies below `send_from` was sent before.
        let from = gap.offsets.start.max(self.encoder.send_from);
        let mut offsets = gap.offsets.end.saturating_sub(from);
        if self.encoder.config.is_forwarder() {
            offsets = self.encoder.status.count_gap(&(from..gap.offsets.end));
        }
        match gap.reason {
            GapReason::Skipped => self.count(|counts| counts.skipped += offsets),
            GapReason::Expired | GapReason::Damaged => {
                self.count(|counts| {
                    counts.gaps += u64::from(offsets > 0);
                    counts.missing += offsets;
                });
                by_peer!(
                    Kind::Unread,
                    WARN,
                    output = self.encoder.config.name,
                    reason = gap.reason.name(),
                    from_offset = gap.offsets.start,
                    to_offset = gap.offsets.end,
                    "frames are missing in the archive; the output goes on behind them"
                );
            }
        }
    }

    /// Adds to the status what the channels have counted since the last call.
    fn count_packets(&mut self) {
        if !self.encoder.config.extract_packets {
            return;
        }
        let (before, after) = (self.counted, self.channels.counts());
        self.count(|counts| {
            counts.cut += after.cut - before.cut;
            counts.encapsulated += after.encapsulated - before.encapsulated;
        });
        self.counted = after;
    }

    fn count(&self, change: impl FnOnce(&mut OutputCounts)) {
        self.encoder.status.count(change);
    }
}

/// Puts frames and packets into the framing of an output.
struct Encoder {
    /// The configuration of the output.
    config: Arc<Output>,
    /// Where the counts appear.
    status: Arc<OutputStatus>,
    /// What ends in a frame below this offset was sent before. Frames below it are read only because packets begin in
    /// them.
    send_from: u64,
}

impl Encoder {
    /// Appends a packet that was taken out of frames and ends in `frame`.
    fn put_packet(&self, offset: u64, packet: &[u8], frame: &Frame, out: &mut Converted) {
        if !self.config.select.idle && apid_of(packet) == Some(IDLE_APID) || offset < self.send_from {
            return;
        }
        self.status.count(|counts| counts.packets += 1);
        self.put_unit(offset, packet, frame, out);
    }

    /// Appends `data`, which is `frame` or comes from it.
    fn put_unit(&self, offset: u64, data: &[u8], frame: &Frame, out: &mut Converted) {
        if offset < self.send_from {
            return;
        }
        if self.config.is_forwarder() {
            return out.frames.push((offset, frame.clone()));
        }
        let begin = out.bytes.len();
        let fits = match &self.config.framing {
            OutputFraming::Bare => {
                out.bytes.extend_from_slice(data);
                true
            }
            OutputFraming::Length(length) => put_length(length, data, &mut out.bytes),
            OutputFraming::Cosmos(cosmos) => {
                preidentified(cosmos, data, frame).encode(data, &mut out.bytes);
                true
            }
        };
        let is_datagram = matches!(self.config.transport, OutputTransport::Udp { .. });
        if !fits || is_datagram && out.bytes.len() - begin > DATAGRAM_BYTES_MAX {
            out.bytes.truncate(begin);
            self.status.count(|counts| counts.too_long += 1);
        } else if is_datagram {
            out.ends.push(out.bytes.len());
        }
    }
}

/// Appends `data` behind its length. Returns false if the length does not fit the field.
fn put_length(length: &Length, data: &[u8], out: &mut Vec<u8>) -> bool {
    let bytes = length.length_field_length;
    let highest = u64::MAX >> (64 - 8 * bytes);
    let value =
        i64::try_from(data.len()).ok().and_then(|len| len.checked_sub(length.length_adjustment as i64));
    let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value <= highest);
    let Some(value) = value.filter(|_| data.len() <= length.max_frame_length) else { return false };
    if length.big_endian {
        out.extend_from_slice(&value.to_be_bytes()[8 - bytes..]);
    } else {
        out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }
    out.extend_from_slice(data);
    true
}

/// The header of COSMOS for a packet. The packets of a replay are marked as stored: COSMOS does not take them for
/// current values.
fn preidentified<'a>(cosmos: &'a Cosmos, packet: &[u8], frame: &Frame) -> Preidentified<'a> {
    Preidentified {
        sync: cosmos.sync,
        is_stored: frame.source_kind == SourceKind::ArchivedReplay,
        extra: None,
        time_ns: if frame.ert_ns == 0 { frame.received_ns } else { frame.ert_ns },
        target: &cosmos.target,
        packet: apid_of(packet).and_then(|apid| cosmos.packets.get(&apid)).map_or(UNKNOWN, String::as_str),
    }
}

fn apid_of(packet: &[u8]) -> Option<u16> {
    packet.first_chunk::<HEADER_BYTES>().map(apid)
}
