//! Places that one address alone can never use up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::unauthenticated::Group;

/// An address may have this many places as long as any is free.
const FLOOR: usize = 4;

/// Places that addresses share.
///
/// An address may have as many places as are still free. So one address alone gets half of them, a second one
/// half of the rest, and each new address finds some.
#[derive(Debug, Default)]
pub struct Shares {
    /// How many places are taken.
    taken: Mutex<Taken>,
}

/// How many places are taken, in all and by the addresses of one peer.
#[derive(Debug, Default)]
struct Taken {
    /// All taken places.
    all: usize,
    /// The taken places of each group of addresses. A group without any is left out.
    by_group: HashMap<Group, usize>,
}

/// One place. Dropping it frees the place.
#[derive(Debug)]
pub struct Share {
    /// Where the place is freed.
    shares: Arc<Shares>,
    /// The addresses that have the place.
    group: Group,
}

/// All places are taken, or as many as the address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// How many places the address has.
    pub has: usize,
}

impl Shares {
    /// Takes one of `max` places for `address`.
    pub fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Result<Share, NoPlace> {
        let group = Group::of(address);
        let mut taken = self.lock();
        let has = taken.by_group.get(&group).copied().unwrap_or(0);
        let free = max.saturating_sub(taken.all);
        if free == 0 || has >= free.max(FLOOR) {
            return Err(NoPlace { has });
        }
        taken.all += 1;
        taken.by_group.insert(group, has + 1);
        Ok(Share { shares: Arc::clone(self), group })
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.lock().all == 0
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_group.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                taken.by_group.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Arc<Shares>, last: u8) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(IpAddr::from([192, 0, 2, last]), 128).ok()).collect()
    }

    #[test]
    fn each_new_group_gets_half_of_the_free_permits() {
        let shares = Arc::<Shares>::default();
        let held: Vec<_> = (0..8).map(|last| take_all(&shares, last)).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [64, 32, 16, 8, 4, 4, 0, 0]);
        drop(held);
        assert_eq!(take_all(&shares, 9).len(), 64);
        let taken = shares.lock();
        assert_eq!((taken.all, taken.by_group.len()), (0, 0));
    }
}
