//! Forwarders: outputs whose other side acknowledges what it has stored.
//!
//! A forwarder has two lanes, which do not wait for each other. Each lane reads the log with a [`Reader`] of its own, packs
//! frames into [`Parcel`]s (`parcel`), and hands them to a [`Side`], the protocol of the other side (`nats`,
//! `aggregator`). `lane` is the loop. `lag` says how far a forwarder is behind while it is not connected. The cursor stands
//! at what the other side has acknowledged.
//!
//! After any doubt, the side says where it stands, and the lane goes on there. So each frame is stored once, in the order
//! of its lane.
//!
//! [`Reader`]: super::reader::Reader

pub(super) mod aggregator;
pub(super) mod lag;
pub(super) mod lane;
pub(super) mod nats;
mod parcel;

use parcel::Parcel;

/// The protocol of the other side, for one lane. Another transport is another implementation.
pub(super) trait Side {
    /// Forgets what is in flight, and asks where the other side stands.
    async fn resume(&mut self) -> Result<Stand, Trouble>;

    /// Whether one more parcel may be sent.
    fn has_room(&self) -> bool;

    /// Bytes of frames that a parcel may have before it is sent. 0: each frame is a parcel.
    fn parcel_bytes(&self) -> usize;

    /// Sends a parcel. Parcels are sent in order.
    async fn send(&mut self, parcel: &Parcel) -> Result<(), Trouble>;

    /// Waits until the oldest parcel in flight is stored. Returns the sequence that the other side gave to it. Never
    /// completes while nothing is in flight and the connection lasts. Cancel safe.
    async fn acknowledged(&mut self) -> Result<u64, Trouble>;

    /// Ends what the side has begun. Nothing is sent after that.
    async fn close(&mut self) {}

    /// Says whether a cursor at the sequence `stored` fits a side that has nothing.
    async fn explain_nothing(&mut self, stored: u64, file: &str) -> Result<(), Trouble>;
}

/// Where the other side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    /// Behind the last frame that it has; `None` if it has none.
    pub(super) next_offset: Option<u64>,
    /// The sequence of the last message; 0 if there is none.
    pub(super) sequence: u64,
}

/// Why a side cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A parcel was refused because of the ones before. [`Side::resume`] says where to go on.
    Doubt,
    /// The connection has to end. The sentence names the way out.
    Over(String),
}

/// The name of this host, of letters, digits, `-` and `_`.
fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let host: String = host.trim().chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
    if host.is_empty() { "localhost".to_owned() } else { host }
}
