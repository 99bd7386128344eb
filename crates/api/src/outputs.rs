//! `/api/v1/outputs`: the output links and their readers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of the output links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outputs {
    /// How many outputs the configuration in force has.
    pub total: usize,
    /// The outputs on this page, by name.
    pub outputs: Vec<Output>,
}

/// A page of the readers of an output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutputReaders {
    /// How many readers are connected.
    pub total: usize,
    /// The readers on this page, by the time of their connection.
    pub readers: Vec<OutputReader>,
}

/// One output link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// The name in the configuration.
    pub name: String,
    /// What the output is configured to do, in a sentence.
    pub description: String,
    /// What the output does.
    pub state: OutputState,
    /// Since when it is in this state.
    pub since_ms: i64,
    /// Why the last connection ended or failed, or why the cursor cannot be kept.
    #[schema(required)]
    pub trouble: Option<String>,
    /// The address on which the output listens.
    #[schema(required)]
    pub address: Option<String>,
    /// With a cursor: the offset below which the kernel of the reader has everything.
    #[schema(required)]
    pub cursor: Option<u64>,
    /// The counts since the daemon started.
    pub counts: OutputCounts,
    /// How far a forwarder is behind. Only of forwarders.
    #[schema(required)]
    pub forwarding: Option<Forwarding>,
    /// The least `next_offset` of all readers.
    #[schema(required)]
    pub slowest_offset: Option<u64>,
    /// How many readers are connected.
    pub readers_total: usize,
    /// The connected readers, by the time of their connection: the first 64.
    pub readers: Vec<OutputReader>,
}

/// How far a forwarder is behind: an output whose other side acknowledges what it has stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forwarding {
    /// Durable frames between the cursor and the end of the log, those that the selection leaves out included. With two
    /// lanes, those of the lane that is further behind.
    #[schema(required)]
    pub lag_frames: Option<u64>,
    /// About the payloads of these frames: `lag_frames` times the mean payload of the frames that the daemon has accepted
    /// since it started.
    #[schema(required)]
    pub lag_bytes: Option<u64>,
    /// The age of the oldest frame that is not forwarded; 0 when no frame waits.
    pub lag_ms: u64,
    /// `lag_max` of the configuration.
    #[schema(required)]
    pub lag_max_ms: Option<u64>,
    /// Whether `lag_ms` is above `lag_max_ms`.
    pub late: bool,
    /// When the oldest frame that is not forwarded was received.
    #[schema(required)]
    pub oldest_ms: Option<i64>,
    /// The archive keeps what is not forwarded.
    pub retention_hold: bool,
}

impl Output {
    /// A sentence for an output that is behind for longer than its `lag_max`.
    #[must_use]
    pub fn lateness(&self) -> Option<String> {
        let forwarding = self.forwarding.filter(|forwarding| forwarding.late)?;
        let (lag, max) = (forwarding.lag_ms / 1_000, forwarding.lag_max_ms? / 1_000);
        let why = self.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
        Some(format!("output {} is {lag} s behind, and lag_max is {max} s{why}", self.name))
    }
}

/// What an output does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputState {
    /// An operator has switched it off.
    Disabled,
    /// It waits for readers to connect.
    Listening,
    /// It connects, or waits before it tries again.
    Connecting,
    /// A reader is connected. An output that sends datagrams is always connected.
    Connected,
    /// It cannot run; `trouble` says why.
    Failed,
}

/// A connected reader of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputReader {
    /// The address of the reader.
    pub peer: String,
    /// When it connected.
    pub since_ms: i64,
    /// Every frame below this offset was handed over to the connection, or was left out.
    pub next_offset: u64,
}

/// Counts of an output, over all its readers. A frame counts for each reader that gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputCounts {
    /// Frames that were sent, whole or as packets.
    pub frames: u64,
    /// Space packets that were taken out of frames and went out.
    pub packets: u64,
    /// Bytes handed over to the kernel, framing included.
    pub bytes: u64,
    /// Frames that the selection left out: by station, quality or because they are idle.
    pub filtered: u64,
    /// Frames without packets to take out: no link decodes the source, or the frame is damaged.
    pub undecoded: u64,
    /// Packets that began and did not end, because frames are missing.
    pub cut: u64,
    /// Packets of the encapsulation protocol, which are left out.
    pub encapsulated: u64,
    /// Offsets that a timely reader was too slow for.
    pub skipped: u64,
    /// Gaps in the history: frames that retention has removed, or that cannot be read.
    pub gaps: u64,
    /// The offsets in these gaps.
    pub missing: u64,
    /// Frames and packets that are too long for the length field or for a datagram.
    pub too_long: u64,
    /// Datagrams that no program received: the host of the reader reported it.
    pub unreachable: u64,
    /// Connections from addresses that are not in `peers`, or for which there was no place.
    pub refused: u64,
    /// Connections so far.
    pub connects: u64,
}
