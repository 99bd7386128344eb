//! The upper bound of the memory that the limits allow.

use std::fmt;

use super::Config;
use super::fixed::{DISPLACED_AT_ONCE, HTTP_CONNECTIONS_MAX, HTTP_READERS};
use super::framings::unit_bytes_max;
use super::links::{CANDIDATES_MAX, Link, LinkTransport};
use super::outputs::{Output, OutputTransport};
use super::units::{KIB, MIB, RoundedMib, Size};
use catalog::CATALOG_BYTES_MAX;
pub use connection::CONNECTION_BYTES;
use connection::tcp::HANDSHAKES_MAX;
use connection::{PARTING_MAX, UNAUTHENTICATED_BYTES, UNAUTHENTICATED_MAX};
use feed::READERS_MAX;
use frame::{Lanes, weight_max};
pub use ingest::STREAM_BYTES;
use ingest::pipeline::BATCH_BYTES_MAX;
use ingest::{BUFFER_BYTES_MAX, FREE_BUFFERS_MAX};
use support::logging::LOG_BYTES;
use upload::UPLOAD_BYTES;

/// Size at which a batch of the broadcast ends, in bytes. The frame that reaches it still belongs to the batch.
pub const BATCH_BYTES: u64 = BATCH_BYTES_MAX as u64;

/// Size at which a commit of the archive ends, in bytes.
pub const COMMIT_BYTES: u64 = archive::BLOCK_BYTES;

/// Memory to build the index or the export of a full segment, in bytes. According to measurements an export takes less
/// than an index.
const MAINTENANCE_BYTES: u64 = archive::INDEX_BUILD_BYTES;

/// Memory of HTTP under every configuration, in bytes: connections, responses made from memory, responses that wait for
/// the client, events, and catalogs that are uploaded. The HTTP server enforces the bound.
pub const HTTP_BYTES: u64 = 100 * MIB;

/// Memory of a known stream in the reports, in bytes: the rates of each second, and the responses with them.
const REPORT_BYTES: u64 = KIB + 256;

/// Memory that a link reads into, the least that it allocates to find units in, and the frames of a read on their way to
/// the queues, in bytes.
const LINK_READ_BYTES: u64 = 128 * KIB + BUFFER_BYTES_MAX as u64;

/// Memory of a channel whose gaps a link notices, in bytes: its entry in a tree, and in a report.
pub const CHANNEL_BYTES: u64 = 320;

/// Memory of a stream while a link carries it, in bytes: the lists of its queue, and its entries in tables.
const CARRIED_STREAM_BYTES: u64 = 12 * KIB;

/// Memory of what waits to be sent to a client of an output, and of what was read ahead for it, in bytes.
const OUTPUT_SEND_BYTES: u64 = MIB;

/// Memory of what a forwarder has sent without an acknowledgement in each of its two lanes, in bytes. A lane may exceed it
/// by one message. The client of the bus holds each message a second time until it is sent.
pub const FORWARDED_BYTES: u64 = 4 * MIB;

/// Memory of the connection of a forwarder, in bytes: buffers, and notes of what is in flight.
const BUS_BYTES: u64 = 2 * MIB;

/// Memory of a connection of a forwarder to another aggregator, in bytes: what is written and read, and its notes.
const FORWARDING_BYTES: u64 = 192 * KIB;

/// Memory of incomplete packets that a client of an output waits for, in bytes, where packets are taken out of frames.
pub const INCOMPLETE_PACKET_BYTES: u64 = 4 * MIB;

/// Memory of the process itself in bytes: code, stacks, allocator, runtime.
pub const PROCESS_BYTES: u64 = 32 * MIB;

/// Upper bound of the memory of the daemon, for every behaviour of clients and consumers.
///
/// The bound holds because every queue of frames has a limit. A connection's share covers the queues of its stream. The
/// queues may outlive the connection, so the connection counts until they are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// The items of the sum.
    pub items: Vec<MemoryItem>,
    /// The largest sum that is allowed, in bytes: `ingest.memory_limit`.
    pub limit: u64,
}

/// One line of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryItem {
    /// The part that takes the memory, and the keys that determine it.
    pub what: &'static str,
    /// The largest count.
    pub count: u64,
    /// The largest size of each, in bytes.
    pub bytes_each: u64,
}

impl MemoryItem {
    /// Count times size in bytes, at most `u64::MAX`.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.bytes_each)
    }
}

impl MemoryBound {
    /// The sum in bytes, at most `u64::MAX`.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.bytes()))
    }

    /// Whether the sum is within the limit.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.total() <= self.limit
    }
}

impl fmt::Display for MemoryBound {
    /// Writes one line per item and one line with the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            let (sum, count) = (RoundedMib(item.bytes()).to_string(), item.count);
            let (each, what) = (Size(item.bytes_each), item.what);
            writeln!(f, "{sum:>14} = {count} x {each}: {what}")?;
        }
        let (sum, limit) = (RoundedMib(self.total()).to_string(), Size(self.limit));
        write!(f, "{sum:>14} in all, ingest.memory_limit is {limit}")
    }
}

impl Config {
    /// The sum of all limits. [`Config::load`] refuses a sum above `ingest.memory_limit`.
    #[must_use]
    pub fn memory_bound(&self) -> MemoryBound {
        let message = self.ingest.max_message;
        let batch = BATCH_BYTES + message;
        // The number of slots of the broadcast ring is a power of two.
        let ring = self.pipeline.broadcast_capacity.get().next_power_of_two();
        let item = |what, count: usize, bytes_each| MemoryItem { what, count: count as u64, bytes_each };
        let mut items = vec![
            item(
                "connections (ingest.max_connections), each with 1.25 times routine_window and \
                 emergency_window, a read buffer (max_message and at least 64 KiB; 16 KiB up to that) and 32 KiB",
                self.ingest.max_connections.get(),
                self.connection_bytes(),
            ),
            item("buffers that wait to be read into", FREE_BUFFERS_MAX, BUFFER_BYTES_MAX as u64),
            item("known streams (ingest.max_streams)", self.ingest.max_streams.get(), STREAM_BYTES),
            item(
                "frames in the processor (pipeline.processor_capacity), each with all that was read with it",
                self.pipeline.processor_capacity.get(),
                weight_max(message).max(BUFFER_BYTES_MAX as u64),
            ),
            item(
                "batches in the broadcast and in the tail kept for subscribers \
                 (pipeline.broadcast_capacity, twice), each of 1.25 times 256 KiB and a message",
                2 * ring,
                weight_max(batch),
            ),
            item(
                "blocks of the archive, two gathered and one running, each of 1 MiB and a batch: as bytes, as notes of \
                 what lies where, and as half as much of what came when, all in buffers that double",
                3 * 5,
                COMMIT_BYTES + batch,
            ),
            item(
                "pages that small blocks are copied to for the disk, of the segment being written and of the reserve",
                2,
                (archive::COPY_BYTES + 8_192) as u64,
            ),
            item(
                "subscribers (feed.max_subscribers), each with two batches and 32 KiB",
                self.feed.max_subscribers.get(),
                2 * batch + CONNECTION_BYTES,
            ),
            item(
                "subscribers that read the archive at a time, each with two blocks and an index of it",
                READERS_MAX,
                2 * (COMMIT_BYTES + batch) + archive::INDEX_READER_BYTES,
            ),
            item(
                "indexes of the archive: of the segment being written, of sealed ones, and one that upkeep has in \
                 hand, or an export",
                3,
                MAINTENANCE_BYTES,
            ),
            item(
                "connections of sources and of subscribers that have not said HELLO or SUBSCRIBE, or are refused",
                2 * (UNAUTHENTICATED_MAX + PARTING_MAX),
                UNAUTHENTICATED_BYTES,
            ),
            item(
                "connections that were taken over a moment ago, each with max_message and 32 KiB",
                DISPLACED_AT_ONCE,
                CONNECTION_BYTES + message,
            ),
            item("HTTP: connections, answers, events, and twice a message", 1, HTTP_BYTES + 2 * message),
            item(
                "HTTP requests that read the archive at a time, each with two blocks, an index of it and a page, which \
                 grows by doubling",
                HTTP_READERS,
                2 * (COMMIT_BYTES + batch) + archive::INDEX_READER_BYTES + 4 * (MIB + message),
            ),
            item(
                "known streams (ingest.max_streams), as they are looked at",
                self.ingest.max_streams.get(),
                REPORT_BYTES,
            ),
            item("catalogs, the current one and one that is read", 2, CATALOG_BYTES_MAX as u64),
            item("lines that wait for stderr and stdout", 1, LOG_BYTES),
            item(
                "uploads of exports (export.store), with a part of a file and a request",
                usize::from(self.upload_config().is_some()),
                UPLOAD_BYTES,
            ),
            item("the process itself", 1, PROCESS_BYTES),
        ];
        items.extend(self.tls_items().into_iter().chain(self.link_items(batch)));
        // An item for none is left out.
        items.retain(|item| item.bytes() > 0);
        MemoryBound { items, limit: self.ingest.memory_limit }
    }

    /// What TLS takes.
    fn tls_items(&self) -> Vec<MemoryItem> {
        if self.tls.certificate.is_none() && self.tls.ca.is_none() {
            return Vec::new();
        }
        let count = |is_on: bool, count: usize| if is_on { count } else { 0 };
        let (ingest, feed) = (&self.ingest, &self.feed);
        let entrances = usize::from(ingest.tls) + usize::from(feed.tls);
        let encrypted = || self.links.iter().filter(|link| link.enabled && link.tls);
        let listens = |link: &&Link| matches!(link.transport, LinkTransport::Listen { .. });
        let listening = encrypted().filter(listens).count();
        let connections = count(ingest.tls, ingest.max_connections.get() + DISPLACED_AT_ONCE)
            + count(feed.tls, feed.max_subscribers.get())
            + entrances * PARTING_MAX
            + count(self.http.tls, HTTP_CONNECTIONS_MAX + 1)
            + encrypted().count();
        vec![
            MemoryItem {
                what: "TLS of connections that have not identified themselves, each with a handshake",
                count: (entrances * UNAUTHENTICATED_MAX + listening * HANDSHAKES_MAX) as u64,
                bytes_each: tls::HANDSHAKE_BYTES,
            },
            MemoryItem {
                what: "TLS of connections (ingest.max_connections, feed.max_subscribers, HTTP, links), each with a record \
                       to read, its content and a record to write",
                count: connections as u64,
                bytes_each: tls::CONNECTION_BYTES,
            },
        ]
    }

    /// What links and outputs take.
    fn link_items(&self, batch: u64) -> Vec<MemoryItem> {
        let enabled = || self.links.iter().filter(|link| link.enabled);
        let Lanes { emergency, routine } = self.ingest_config().windows().map(weight_max);
        let buffers = |link: &Link| {
            let waiting = if link.takes_any_header() { CANDIDATES_MAX } else { 0 };
            LINK_READ_BYTES + (6 + waiting as u64) * unit_bytes_max(&link.framing) as u64
        };
        let clients: usize = self.outputs.iter().map(Output::clients_max).sum();
        let extracting = self.outputs.iter().filter(|output| output.extract_packets);
        let extracting: usize = extracting.map(Output::clients_max).sum();
        let connections = self.outputs.iter().map(|output| match &output.transport {
            OutputTransport::Aggregator(aggregator) => aggregator.connections,
            _ => 0,
        });
        let forwarders = self.outputs.iter().filter(|output| output.is_forwarder()).count();
        vec![
            MemoryItem {
                what: "enabled links, each with buffers to read into and of three units that wait, which grow by doubling",
                count: 1,
                bytes_each: enabled().map(buffers).sum(),
            },
            MemoryItem {
                what: "windows that all streams of an enabled link share, each with 1.25 times ingest.routine_window and \
                       emergency_window",
                count: enabled().count() as u64,
                bytes_each: emergency.saturating_add(routine),
            },
            MemoryItem {
                what: "streams that enabled links carry at a time (links.max_sources, or those that the link names)",
                count: enabled().map(Link::streams_max).sum::<usize>() as u64,
                bytes_each: CARRIED_STREAM_BYTES,
            },
            MemoryItem {
                what: "channels of enabled links (4 for each source, at least 256)",
                count: enabled().map(Link::channels_max).sum::<usize>() as u64,
                bytes_each: CHANNEL_BYTES,
            },
            MemoryItem {
                what: "known streams whose sources the peers of links have chosen (links.max_sources), with and without a \
                       position",
                count: enabled().map(Link::invented_max).sum::<usize>() as u64 * 2,
                bytes_each: STREAM_BYTES + REPORT_BYTES,
            },
            MemoryItem {
                what: "clients of outputs, each with 1 MiB to send or read ahead and a batch",
                count: clients as u64,
                bytes_each: OUTPUT_SEND_BYTES + batch,
            },
            MemoryItem {
                what: "clients of outputs with extract = \"packets\", each with incomplete packets of 4 MiB",
                count: extracting as u64,
                bytes_each: INCOMPLETE_PACKET_BYTES,
            },
            MemoryItem {
                what: "forwarders, each with two lanes of 8 MiB and four batches in flight, and a connection",
                count: forwarders as u64,
                bytes_each: 4 * (FORWARDED_BYTES + batch) + BUS_BYTES,
            },
            MemoryItem {
                what: "connections of forwarders to other aggregators (connections)",
                count: connections.sum::<usize>() as u64,
                bytes_each: FORWARDING_BYTES + tls::CONNECTION_BYTES,
            },
        ]
    }

    /// Upper bound of one connection in bytes: the frames that fill both windows ([`weight_max`]), the read buffer and
    /// [`CONNECTION_BYTES`].
    #[must_use]
    pub fn connection_bytes(&self) -> u64 {
        self.ingest_config().connection_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit() {
        let bound = Config::default().memory_bound();
        assert!(bound.fits(), "{bound}");
        // Without spare room, every change of a limit would be an error.
        let left_mib = (bound.limit - bound.total()) / MIB;
        assert!(left_mib >= 8, "{left_mib} MiB are left:\n{bound}");
    }

    #[test]
    fn every_item_is_in_the_sum() {
        let bound = Config::default().memory_bound();
        let sum: u64 = bound.items.iter().map(MemoryItem::bytes).sum();
        assert_eq!(bound.total(), sum);
        assert_eq!(bound.items[0].bytes(), 256 * (1280 + 320 + 128 + 32) * KIB, "connections");
    }

    #[test]
    fn both_rings_count_with_their_allocated_slots() {
        let mut config = Config::default();
        let rings = |config: &Config| {
            let items = config.memory_bound().items;
            let rings = items.iter().find(|a| a.what.contains("broadcast"));
            rings.map(MemoryItem::bytes)
        };
        assert_eq!(rings(&config), Some(2 * 64 * (320 + 160) * KIB));
        config.pipeline.broadcast_capacity = config.pipeline.broadcast_capacity.saturating_add(1);
        assert_eq!(rings(&config), Some(2 * 128 * (320 + 160) * KIB));
    }

    #[test]
    fn a_total_equal_to_the_limit_fits() {
        let mut config = Config::default();
        config.ingest.memory_limit = config.memory_bound().total();
        assert!(config.memory_bound().fits());
        config.ingest.memory_limit -= 1;
        assert!(!config.memory_bound().fits());
    }

    #[test]
    fn the_sum_does_not_wrap() {
        let mut config = Config::default();
        config.ingest.routine_window = u64::MAX;
        let bound = config.memory_bound();
        assert_eq!(bound.total(), u64::MAX);
        assert!(!bound.fits());
    }
}
