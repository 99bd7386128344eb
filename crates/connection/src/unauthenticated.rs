//! Connections that have not yet identified themselves, and which of them is evicted when there are too many.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::Notify;

/// The addresses that one peer controls: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(IpAddr);

impl Group {
    /// The group of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
        }
    }
}

/// The connections that may be evicted, by group, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unauthenticated {
    /// The connections of each group of addresses, oldest first. A group without any is left out.
    groups: HashMap<Group, VecDeque<Connection>>,
    /// The id of the next connection.
    id_next: u64,
}

/// A connection that may be evicted.
#[derive(Debug)]
struct Connection {
    /// Its id.
    id: u64,
    /// Notified when it must go.
    evict: Arc<Notify>,
}

impl Unauthenticated {
    /// Adds the newest connection of `group`. `evict` is notified when the connection must go.
    pub(super) fn add(&mut self, group: Group, evict: Arc<Notify>) -> u64 {
        let id = self.id_next;
        self.id_next += 1;
        self.groups.entry(group).or_default().push_back(Connection { id, evict });
        id
    }

    /// Removes a connection, so that it is never evicted.
    pub(super) fn remove(&mut self, group: Group, id: u64) {
        let Some(connections) = self.groups.get_mut(&group) else { return };
        connections.retain(|connection| connection.id != id);
        if connections.is_empty() {
            self.groups.remove(&group);
        }
    }

    /// Notifies and removes the oldest connection of the largest group. The size of the newcomer's group
    /// includes the newcomer.
    ///
    /// Among groups of equal size the choice is random. So a peer that renews its connections quickly evicts
    /// its own.
    pub(super) fn evict_for(&mut self, newcomer: Group) {
        let size = |group: &Group, count: usize| count + usize::from(*group == newcomer);
        let sizes =
            || self.groups.iter().map(|(group, connections)| (*group, size(group, connections.len())));
        let Some(most) = sizes().map(|(_, size)| size).max() else { return };
        let largest: Vec<_> = sizes().filter(|(_, size)| *size == most).map(|(group, _)| group).collect();
        let group = largest[rand::random_range(..largest.len())];
        let Some(connections) = self.groups.get_mut(&group) else { return };
        if let Some(oldest) = connections.pop_front() {
            oldest.evict.notify_one();
        }
        if connections.is_empty() {
            self.groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(last: u8) -> Group {
        Group::of(IpAddr::from([192, 0, 2, last]))
    }

    fn counts(unauthenticated: &Unauthenticated) -> Vec<usize> {
        let mut counts: Vec<_> = unauthenticated.groups.values().map(VecDeque::len).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn an_ipv6_network_is_one_peer_and_an_ipv4_address_is_one_however_it_is_written() {
        let of = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn the_oldest_connection_of_the_largest_group_is_evicted() {
        let mut unauthenticated = Unauthenticated::default();
        let evicts: Vec<_> = (0..4).map(|_| Arc::new(Notify::new())).collect();
        let groups = [group(1), group(2), group(2), group(3)];
        let ids: Vec<_> = groups
            .iter()
            .zip(&evicts)
            .map(|(group, evict)| unauthenticated.add(*group, Arc::clone(evict)))
            .collect();
        unauthenticated.evict_for(group(4));
        assert_eq!(unauthenticated.groups[&group(2)][0].id, ids[2]);
        assert_eq!(counts(&unauthenticated), [1, 1, 1]);
        // The newcomer counts, so its group is the largest.
        unauthenticated.evict_for(group(3));
        assert_eq!(counts(&unauthenticated), [1, 1]);
        assert!(!unauthenticated.groups.contains_key(&group(3)));
        unauthenticated.remove(group(1), ids[0]);
        unauthenticated.remove(group(2), ids[2]);
        unauthenticated.evict_for(group(1));
        assert!(counts(&unauthenticated).is_empty());
    }

    /// Two peers that renew as fast as they can never evict a third peer that has one connection.
    #[test]
    fn reconnects_of_one_group_evict_only_that_group() {
        let mut unauthenticated = Unauthenticated::default();
        let add =
            |unauthenticated: &mut Unauthenticated, last| unauthenticated.add(group(last), Arc::default());
        for _ in 0..128 {
            add(&mut unauthenticated, 1);
            add(&mut unauthenticated, 2);
        }
        add(&mut unauthenticated, 3);
        for round in 0..10_000_u32 {
            let flooder = group(1 + u8::from(round % 3 == 0));
            unauthenticated.evict_for(flooder);
            unauthenticated.add(flooder, Arc::default());
        }
        assert_eq!(unauthenticated.groups[&group(3)].len(), 1);
    }

    #[test]
    fn among_equally_large_groups_the_evicted_one_is_random() {
        let mut hits = [0; 4];
        for _ in 0..400 {
            let mut unauthenticated = Unauthenticated::default();
            for last in 0..4 {
                unauthenticated.add(group(last), Arc::default());
            }
            unauthenticated.evict_for(group(9));
            let gone = (0..4).find(|last| !unauthenticated.groups.contains_key(&group(*last)));
            hits[usize::from(gone.unwrap())] += 1;
        }
        assert!(hits.iter().all(|hits| *hits > 20), "{hits:?}");
    }
}
