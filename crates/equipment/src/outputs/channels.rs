//! Takes space packets out of the frames of many channels.

use std::collections::HashMap;

use config::INCOMPLETE_PACKET_BYTES;
use frame::{Frame, FrameFlags, StreamKey};
use framing::{Decode, ExtractCounts, Extractor, Header};

/// Most channels of which incomplete packets are kept. One more takes the place of the one that was silent longest.
const CHANNELS_MAX: usize = 1_024;
/// Most memory of incomplete packets, in bytes. Beyond it, channels that were silent longest give theirs up.
const INCOMPLETE_BYTES_MAX: usize = INCOMPLETE_PACKET_BYTES as usize;

/// A virtual channel of a stream. Each has counts and packets of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The stream.
    stream: StreamKey,
    /// The virtual channel.
    channel: u32,
    /// Of USLP: frames with the bypass flag, which have a count of their own.
    is_bypass: bool,
}

/// The state of a channel.
#[derive(Debug)]
struct Channel {
    /// Takes the packets out, and keeps the incomplete one.
    extractor: Extractor,
    /// Whether its frames have a count, which shows gaps.
    has_count: bool,
    /// Offset of its newest frame. The channel with the lowest one was silent longest.
    last_offset: u64,
}

/// The extractors of all channels that an output reads.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// The channels, at most [`CHANNELS_MAX`].
    channels: HashMap<Key, Channel>,
    /// Memory of the incomplete packets of all channels.
    incomplete_bytes: usize,
    /// The counts of the channels that were given up.
    before: ExtractCounts,
}

impl Channels {
    /// Calls `each` with every packet that `frame` at `offset` completes. `header` is what `decode` has read from it.
    pub(super) fn take(
        &mut self,
        offset: u64,
        frame: &Frame,
        decode: Decode,
        header: &Header,
        each: impl FnMut(&[u8]),
    ) {
        let key =
            Key { stream: frame.origin.stream.clone(), channel: header.channel, is_bypass: header.is_bypass };
        if self.channels.len() >= CHANNELS_MAX && !self.channels.contains_key(&key) {
            self.give_up_oldest();
        }
        let channel = self.channels.entry(key).or_insert_with(|| Channel {
            extractor: Extractor::new(decode),
            has_count: header.count.is_some(),
            last_offset: offset,
        });
        (channel.last_offset, channel.has_count) = (offset, header.count.is_some());
        let before = channel.extractor.incomplete_bytes();
        if !channel.has_count && frame.flags.contains(FrameFlags::DISCONTINUITY) {
            channel.extractor.cut();
        }
        channel.extractor.set_label(offset);
        channel.extractor.take(&frame.payload, header, each);
        self.incomplete_bytes = self.incomplete_bytes + channel.extractor.incomplete_bytes() - before;
        while self.incomplete_bytes > INCOMPLETE_BYTES_MAX {
            self.give_up_oldest();
        }
    }

    /// A frame of `stream` is missing whose channel is not known. A count shows the gap; channels without one are cut.
    pub(super) fn note_missing(&mut self, stream: &StreamKey) {
        for (key, channel) in &mut self.channels {
            if !channel.has_count && key.stream == *stream {
                self.incomplete_bytes -= channel.extractor.incomplete_bytes();
                channel.extractor.cut();
            }
        }
    }

    /// Frames of any channel are missing.
    pub(super) fn cut_all(&mut self) {
        self.channels.drain().for_each(|(_, channel)| give_up(channel, &mut self.before));
        self.incomplete_bytes = 0;
    }

    /// The offset of the oldest frame in which a packet begins that has not ended.
    pub(super) fn incomplete_since(&self) -> Option<u64> {
        self.channels.values().filter_map(|channel| channel.extractor.incomplete_since()).min()
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> ExtractCounts {
        let mut counts = self.before;
        self.channels.values().for_each(|channel| add(&mut counts, channel.extractor.counts()));
        counts
    }

    fn give_up_oldest(&mut self) {
        let oldest = self.channels.iter().min_by_key(|(_, channel)| channel.last_offset);
        if let Some(key) = oldest.map(|(key, _)| key.clone())
            && let Some(channel) = self.channels.remove(&key)
        {
            self.incomplete_bytes -= channel.extractor.incomplete_bytes();
            give_up(channel, &mut self.before);
        }
    }
}

fn give_up(mut channel: Channel, counts: &mut ExtractCounts) {
    channel.extractor.cut();
    add(counts, channel.extractor.counts());
}

const fn add(sum: &mut ExtractCounts, counts: ExtractCounts) {
    sum.packets += counts.packets;
    sum.cut += counts.cut;
    sum.encapsulated += counts.encapsulated;
    sum.frames_skipped += counts.frames_skipped;
}
