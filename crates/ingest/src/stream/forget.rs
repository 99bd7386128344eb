//! Forgets streams that are finished: their positions, counters and entries in the table.
//!
//! Between [`StreamTable::begin_forget`] and the end of [`Forgetting`], no session may speak for the streams
//! and none of their frames is in flight. So no frame can bring the streams back into the archive after the
//! edit of its positions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Stream, StreamTable};
use connection::SessionId;
use frame::{SourceKind, StreamKey};

/// Most streams that one [`StreamTable::begin_forget`] holds.
pub const FORGET_MAX: usize = 4_096;

/// Selects streams. A stream matches when all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// From one of these sources; empty for any source.
    pub source_ids: Vec<u32>,
    /// Of this kind.
    pub kind: Option<SourceKind>,
    /// From exactly this station.
    pub station: Option<String>,
    /// From a station that this pattern matches, see [`glob`].
    pub station_glob: Option<String>,
    /// Without a connection for longer than this. A connected stream does not match then.
    pub offline_for: Option<Duration>,
}

impl Selector {
    /// Whether no condition is set, so that every stream matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the name of a stream matches. The time offline does not count.
    #[must_use]
    pub fn has_name(&self, source_id: u32, kind: SourceKind, station: &str) -> bool {
        (self.source_ids.is_empty() || self.source_ids.contains(&source_id))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.station.as_ref().is_none_or(|wanted| wanted == station)
            && self.station_glob.as_ref().is_none_or(|pattern| glob(pattern, station))
    }

    fn has_key(&self, key: &StreamKey) -> bool {
        self.has_name(key.source_id, key.source_kind, key.station.as_str())
    }
}

/// Whether `pattern` matches all of `text`: `*` stands for any characters, `?` for one.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    // The position of the last `*`, and how much of the text it has matched.
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(sign) if *sign == '?' || *sign == text[read] => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, read) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|sign| *sign == '*')
}

/// Why a stream cannot be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetRefused {
    /// This connection speaks for the stream.
    Connected(SessionId),
    /// This many of its frames wait for the archive.
    Queued(usize),
    /// This many of its frames are not on stable storage yet.
    Unsynced(u64),
    /// Another edit already resets or forgets the stream.
    UnderWay,
}

/// The result of a selection.
#[derive(Debug)]
pub struct Selected {
    /// The streams to forget. They are held, except in a dry run.
    pub forgetting: Forgetting,
    /// Streams that match but cannot be forgotten, ordered by key.
    pub refused: Vec<(StreamKey, ForgetRefused)>,
    /// Number of matching streams beyond [`FORGET_MAX`].
    pub remaining: usize,
}

/// Streams about to be forgotten, ordered by key. Unless this is a dry run, they are held: no session can open them
/// until this value is dropped.
#[derive(Debug)]
pub struct Forgetting {
    /// The streams.
    streams: Vec<(StreamKey, Arc<Stream>)>,
    /// Whether the streams are only named, and not held.
    is_dry_run: bool,
}

impl StreamTable {
    /// Selects the streams that match `selector` and holds them, so that no session can open them. A dry run
    /// selects the same streams and holds none.
    #[must_use]
    pub fn begin_forget(&self, selector: &Selector, is_dry_run: bool) -> Selected {
        // The table stays locked until the streams are held. Otherwise a stream could be removed and created
        // under the same key in between.
        let tables = self.read();
        let named = tables.named.iter().filter(|(key, stream)| {
            selector.has_key(key) && selector.offline_for.is_none_or(|min| stream.is_offline_for(min))
        });
        let mut meant: Vec<_> = named.collect();
        let remaining = meant.len().saturating_sub(FORGET_MAX);
        if remaining > 0 {
            meant.select_nth_unstable_by_key(FORGET_MAX, |(key, _)| *key);
            meant.truncate(FORGET_MAX);
        }
        meant.sort_unstable_by_key(|(key, _)| *key);
        let (mut streams, mut refused) = (Vec::new(), Vec::new());
        for (key, stream) in meant {
            match stream.hold_to_forget(selector.offline_for, is_dry_run) {
                Some(Ok(())) => streams.push((key.clone(), Arc::clone(stream))),
                Some(Err(why)) => refused.push((key.clone(), why)),
                // The stream has connected after the filter above.
                None => {}
            }
        }
        Selected { forgetting: Forgetting { streams, is_dry_run }, refused, remaining }
    }

    /// Forgets the held streams. The archive must have forgotten them already.
    pub fn finish_forget(&self, mut forgetting: Forgetting) {
        let mut tables = self.write();
        // `take` empties `forgetting`, so its drop does not release the streams. They stay held after their
        // removal: a session that found one of them before cannot open it and must look it up again.
        for (key, stream) in std::mem::take(&mut forgetting.streams) {
            if tables.named.get(&key).is_some_and(|known| Arc::ptr_eq(known, &stream)) {
                tables.remove(&key);
            }
        }
    }
}

impl Stream {
    /// Holds the stream, unless this is a dry run or the stream cannot be forgotten. `None` if the stream has
    /// not been offline for `offline_for`.
    fn hold_to_forget(
        &self,
        offline_for: Option<Duration>,
        is_dry_run: bool,
    ) -> Option<Result<(), ForgetRefused>> {
        let mut state = self.lock();
        if offline_for.is_some_and(|min| !state.is_offline_for(min)) {
            return None;
        }
        let queued = self.queue.queued_frames().values().sum();
        Some(if let Some(owner) = &state.owner {
            Err(ForgetRefused::Connected(owner.session_id))
        } else if state.held_because.is_some() {
            Err(ForgetRefused::UnderWay)
        } else if queued > 0 {
            Err(ForgetRefused::Queued(queued))
        } else if state.in_flight > 0 {
            Err(ForgetRefused::Unsynced(state.in_flight))
        } else {
            if !is_dry_run {
                state.held_because = Some("it is being forgotten");
            }
            Ok(())
        })
    }

    fn is_offline_for(&self, min: Duration) -> bool {
        self.lock().is_offline_for(min)
    }
}

impl super::State {
    fn is_offline_for(&self, min: Duration) -> bool {
        let since = self.offline.map(|offline| offline.since);
        since.is_some_and(|since| Instant::now().saturating_duration_since(since) >= min)
    }
}

impl Forgetting {
    /// The streams, each with the time when its last connection ended, unix nanoseconds.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&StreamKey, Option<i64>)> {
        self.streams.iter().map(|(key, stream)| (key, stream.lock().offline.map(|offline| offline.since_ns)))
    }
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        for (_, stream) in self.streams.iter().filter(|_| !self.is_dry_run) {
            stream.lock().held_because = None;
        }
    }
}
