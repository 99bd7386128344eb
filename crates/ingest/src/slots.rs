//! The slots of `ingest.max_connections`. An open connection takes one slot. So does a queue with frames that an
//! ended connection has left behind. Links take none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::IngestConfig;
use super::stream::Stream;
use connection::SessionId;
use frame::{Lanes, StreamKey};
use wire::{ErrorCode, WireError};

/// The slots in use, and an upper bound of the memory behind each of them.
///
/// A slot is in use until its connection has ended and the queue of its stream is empty, because the frames in
/// the queue still take memory.
///
/// The windows in force when a connection comes decide how many bytes it may hold. A reload may make the windows
/// smaller. Then an older connection may hold more than a new one. So each slot counts with its own bytes. If the
/// sum is above the new limit, it falls as connections end.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The slots of open connections.
    held: HashMap<SessionId, Slot>,
    /// Which connection holds the slot of a stream that has an epoch.
    holders: HashMap<StreamKey, SessionId>,
    /// Streams whose connection ended before the queue was empty, and the bytes that each may hold.
    unfinished: Vec<(Arc<Stream>, u64)>,
    /// Number of open connections of each address.
    per_address: HashMap<IpAddr, usize>,
    /// Sum of the bytes that the connections in `held` may hold.
    held_bytes: u64,
}

/// The slot of an open connection.
#[derive(Debug)]
struct Slot {
    /// Where the connection comes from.
    address: IpAddr,
    /// Its stream.
    stream: Arc<Stream>,
    /// `None` for a connection without an epoch: such a connection has no successor.
    key: Option<StreamKey>,
    /// The bytes that it may hold.
    bytes: u64,
}

/// A connection that asks for a slot.
pub(super) struct Candidate<'a> {
    /// Where the connection comes from.
    pub(super) address: IpAddr,
    /// The key of the stream. `None` for a connection without an epoch. In [`Slots::judge`] also `None` if the
    /// stream is new or has a higher epoch, because the candidate then takes over nothing.
    pub(super) key: Option<&'a StreamKey>,
    /// The known stream that the candidate takes over, or whose queue an ended connection has left behind.
    pub(super) stream: Option<&'a Arc<Stream>>,
    /// The bytes that the connection may hold.
    pub(super) bytes: u64,
}

impl Slots {
    /// Whether there is a slot for `candidate` under the limits of `config`. If the candidate takes over a slot, that
    /// slot counts as free.
    ///
    /// # Errors
    /// `busy`, with the limit that is reached.
    pub(super) fn judge(
        &mut self,
        candidate: &Candidate<'_>,
        config: &IngestConfig,
    ) -> Result<(), WireError> {
        let IngestConfig { max_connections, max_connections_per_address, .. } = *config;
        if !self.fits(candidate, config) {
            self.unfinished.retain(|(stream, _)| stream.is_unfinished());
        }
        let text = if !self.fits(candidate, config) {
            format!("all {max_connections} connections are in use (ingest.max_connections)")
        } else if self.of_address(candidate) >= max_connections_per_address {
            format!(
                "all {max_connections_per_address} connections of {} are in use \
                 (ingest.max_connections_per_address)",
                candidate.address
            )
        } else {
            return Ok(());
        };
        Err(WireError::new(ErrorCode::Busy, text))
    }

    /// Whether the number of slots and the sum of their bytes stay within the limits with `candidate`. A candidate
    /// that needs no more bytes than the slot it takes over fits even if the sum is above the limit.
    fn fits(&self, candidate: &Candidate<'_>, config: &IngestConfig) -> bool {
        let inherited = self.inherited(candidate);
        let others = self.held.len() + self.unfinished.len() - usize::from(inherited.is_some());
        let inherited = inherited.unwrap_or(0);
        let bytes =
            self.unfinished.iter().fold(self.held_bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let rest = bytes.saturating_sub(inherited);
        let max = config.connection_bytes().saturating_mul(config.max_connections as u64);
        others < config.max_connections
            && (candidate.bytes <= inherited || rest.saturating_add(candidate.bytes) <= max)
    }

    /// The bytes of the slot that `candidate` takes over, if there is one.
    fn inherited(&self, candidate: &Candidate<'_>) -> Option<u64> {
        if let Some(predecessor) = self.predecessor(candidate) {
            return Some(predecessor.bytes);
        }
        let stream = candidate.stream?;
        self.unfinished.iter().find(|(known, _)| Arc::ptr_eq(known, stream)).map(|(_, bytes)| *bytes)
    }

    /// The slot of the open connection whose stream `candidate` takes over.
    fn predecessor(&self, candidate: &Candidate<'_>) -> Option<&Slot> {
        self.held.get(self.holders.get(candidate.key?)?)
    }

    /// How many connections the address of `candidate` has beside that which it takes over.
    fn of_address(&self, candidate: &Candidate<'_>) -> usize {
        let address = candidate.address;
        let is_predecessor = self.predecessor(candidate).is_some_and(|slot| slot.address == address);
        self.per_address.get(&address).copied().unwrap_or(0) - usize::from(is_predecessor)
    }

    /// Gives `session_id` a slot for `stream`. If there is a predecessor, its slot is taken over.
    pub(super) fn take(&mut self, session_id: SessionId, candidate: &Candidate<'_>, stream: &Arc<Stream>) {
        // The queue may still hold frames that an earlier connection sent under larger windows. Then the larger
        // number of bytes counts.
        let queue_is_empty = stream.queue.queued_frames() == Lanes::default();
        let inherited = self.inherited(candidate).filter(|_| !queue_is_empty).unwrap_or(0);
        let bytes = inherited.max(candidate.bytes);
        self.unfinished.retain(|(known, _)| !Arc::ptr_eq(known, stream));
        let key = candidate.key.cloned();
        if let Some(key) = &key
            && let Some(predecessor) = self.holders.insert(key.clone(), session_id)
        {
            self.remove_held(predecessor);
        }
        let address = candidate.address;
        *self.per_address.entry(address).or_default() += 1;
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        self.held.insert(session_id, Slot { address, stream: Arc::clone(stream), key, bytes });
    }

    /// Releases the slot of a connection that has ended.
    pub(super) fn release(&mut self, session_id: SessionId) {
        let Some(Slot { stream, key, bytes, .. }) = self.remove_held(session_id) else { return };
        if let Some(key) = &key {
            self.holders.remove(key);
        }
        if stream.is_unfinished() {
            self.unfinished.push((stream, bytes));
        }
    }

    /// Removes the slot of `session_id` and corrects the sums. The caller updates `holders` and `unfinished`.
    fn remove_held(&mut self, session_id: SessionId) -> Option<Slot> {
        let slot = self.held.remove(&session_id)?;
        self.held_bytes = self.held_bytes.saturating_sub(slot.bytes);
        if let Some(count) = self.per_address.get_mut(&slot.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&slot.address);
            }
        }
        Some(slot)
    }
}
