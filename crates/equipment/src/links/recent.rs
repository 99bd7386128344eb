//! A map of bounded size. A new entry replaces the least recently used one, if that has been idle for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// An entry that was not used for this long gives way.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// Values by key, each with the time of its last use.
///
/// A peer chooses the keys. A tree stays fast whichever keys come.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    /// The values, each with the time of its last use.
    entries: BTreeMap<K, (V, Instant)>,
    /// Until then no entry can have been idle for long enough, so there is no need to look.
    all_used_until: Option<Instant>,
}

/// Whether there is room for a new entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room<K, V> {
    /// There are fewer than `max` entries.
    Free,
    /// This entry was removed.
    GaveWay(K, V),
    /// All entries are in use.
    Full,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), all_used_until: None }
    }
}

impl<K: Copy + Ord, V> Recent<K, V> {
    pub(super) fn has(&self, key: K) -> bool {
        self.entries.contains_key(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`, which is used `now`.
    pub(super) fn using(&mut self, key: K, now: Instant) -> Option<&mut V> {
        let (value, used_at) = self.entries.get_mut(&key)?;
        *used_at = now;
        Some(value)
    }

    /// The value of `key`. This does not count as a use.
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|(value, _)| value)
    }

    /// Makes room for a new entry, so that there are at most `max` with it. If there is room, the caller then inserts
    /// it.
    pub(super) fn make_room(&mut self, max: usize, now: Instant) -> Room<K, V> {
        if self.entries.len() < max {
            return Room::Free;
        }
        if self.all_used_until.is_some_and(|until| now < until) {
            return Room::Full;
        }
        let idlest = self.entries.iter().min_by_key(|(_, (_, used_at))| *used_at);
        let Some((&key, &(_, used_at))) = idlest else { return Room::Full };
        if now < used_at + IDLE_AFTER {
            self.all_used_until = Some(used_at + IDLE_AFTER);
            return Room::Full;
        }
        self.entries.remove(&key).map_or(Room::Full, |(value, _)| Room::GaveWay(key, value))
    }

    /// Adds an entry that is used `now`, or replaces it.
    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) {
        self.entries.insert(key, (value, now));
    }

    /// The entries in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = V> {
        self.entries.into_values().map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idlest_entry_gives_way_once_it_has_been_idle_for_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut map = Recent::default();
        for (key, seconds) in [(1, 0), (2, 1)] {
            assert_eq!(map.make_room(2, at(seconds)), Room::Free);
            map.insert(key, "value", at(seconds));
        }
        assert_eq!(map.make_room(2, at(9)), Room::Full);
        assert!(map.using(1, at(9)).is_some(), "it is used");
        assert_eq!(map.make_room(2, at(10)), Room::Full, "the other one is idle for 9 s");
        assert_eq!(map.make_room(2, at(11)), Room::GaveWay(2, "value"));
        map.insert(3, "value", at(11));
        assert_eq!(map.make_room(2, at(12)), Room::Full);
        assert_eq!(map.make_room(3, at(12)), Room::Free, "the limit was raised");
        assert!(map.has(1) && map.has(3) && !map.has(2));
    }

    #[test]
    fn without_room_there_is_none() {
        assert_eq!(Recent::<u8, ()>::default().make_room(0, Instant::now()), Room::Full);
    }
}
