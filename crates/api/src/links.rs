//! `/api/v1/links`: the input links and their channels.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of the input links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    /// How many links the configuration in force has.
    pub total: usize,
    /// The links on this page, by name.
    pub links: Vec<Link>,
}

impl Links {
    /// The links as a client may see them that may not read payloads: without the bytes of the stream.
    #[must_use]
    pub fn without_payloads(mut self) -> Self {
        self.links.iter_mut().for_each(|link| link.trouble_bytes = None);
        self
    }
}

/// A page of the channels of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkChannels {
    /// How many channels the link has.
    pub total: usize,
    /// The channels on this page, by source and channel.
    pub channels: Vec<LinkChannel>,
}

/// One input link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The name in the configuration.
    pub name: String,
    /// What the link is configured to do, in a sentence.
    pub description: String,
    /// What the link does.
    pub state: LinkState,
    /// Since when it is in this state, or connected if it is silent.
    pub since_ms: i64,
    /// Why the last connection ended or failed, or which stream the link may not carry.
    #[schema(required)]
    pub trouble: Option<String>,
    /// The first bytes of the unit that `trouble` is about, in hexadecimal digits, 32 bytes at most. Only for clients
    /// that may read payloads.
    #[schema(required)]
    pub trouble_bytes: Option<String>,
    /// The address on which the link listens or receives.
    #[schema(required)]
    pub address: Option<String>,
    /// The peer that is connected, or the last sender of datagrams.
    #[schema(required)]
    pub peer: Option<String>,
    /// When the last bytes came.
    #[schema(required)]
    pub heard_ms: Option<i64>,
    /// Of a link that receives datagrams: the receive buffer that the kernel granted. The kernel counts its own overhead
    /// in it.
    #[schema(required)]
    pub receive_buffer_bytes: Option<u64>,
    /// Units per second, over the last second.
    pub units_per_s: f64,
    /// Bytes of units per second, framing included, over the last second.
    pub bytes_per_s: f64,
    /// The counts since the daemon started.
    pub counts: LinkCounts,
    /// Units of all channels that have not come, at least.
    pub missing: u64,
    /// How many channels there are.
    pub channels_total: usize,
    /// The continuity of the spacecraft's own counts, by source and channel: the first 64 channels.
    pub channels: Vec<LinkChannel>,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// The configuration or an operator has switched it off.
    Disabled,
    /// It waits for a peer to connect.
    Listening,
    /// It connects, or waits before it tries again.
    Connecting,
    /// A peer is connected. A link that receives datagrams is always connected.
    Connected,
    /// A peer is connected, and nothing has come for 10 seconds.
    Silent,
    /// It cannot run; `trouble` says why.
    Failed,
}

/// Counts of a link. units = kept + idle_dropped + bad_dropped + full_dropped + refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkCounts {
    /// Units that the framing has cut: transfer frames, packets or datagrams.
    pub units: u64,
    /// Bytes of the units, framing included.
    pub bytes: u64,
    /// Units that became frames.
    pub kept: u64,
    /// Idle units.
    pub idle: u64,
    /// Idle units that were dropped, as configured.
    pub idle_dropped: u64,
    /// Units whose check failed, that cannot be decoded, or that come from a spacecraft that is not in the list.
    pub bad: u64,
    /// Bad units that were dropped, as configured, or because no source is configured for them.
    pub bad_dropped: u64,
    /// Units that were dropped because the window of their stream was full.
    pub full_dropped: u64,
    /// Units of streams that the link may not carry.
    pub refused: u64,
    /// Units of channels whose gaps are not noticed, because the link follows as many channels as it may.
    pub unfollowed: u64,
    /// Units that were longer than the limit of the framing.
    pub oversize: u64,
    /// How often the framing lost the synchronisation.
    pub sync_losses: u64,
    /// Bytes that belong to no unit.
    pub skipped_bytes: u64,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub kernel_drops: u64,
    /// Connections and datagrams from addresses that are not in `peers`.
    pub strangers: u64,
    /// Connections so far.
    pub connects: u64,
}

/// The continuity of one counter of a spacecraft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkChannel {
    /// The source that the frames belong to.
    pub source: u32,
    /// The virtual channel, or the application process of packets.
    pub channel: u32,
    /// Of USLP: frames with the bypass flag, which have a count of their own.
    pub bypass: bool,
    /// Units that the spacecraft has sent, as far as the counts show: received + missing.
    pub expected: u64,
    /// Units received.
    pub received: u64,
    /// Units that have not come, at least.
    pub missing: u64,
    /// The counter begins again at this value.
    #[schema(required)]
    pub modulo: Option<u64>,
    /// How often the counter began again, or jumped too far for a loss.
    pub restarts: u64,
}
