//! The frames of a lane that are under way, in the order of the log.
//!
//! Streams settle their frames independently. The cursor moves over the oldest frame only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;

/// Which frames of a lane are settled.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The frames under way.
    under_way: Mutex<UnderWay>,
    /// Notified when the oldest frame is settled.
    changed: Notify,
}

/// The frames under way, oldest first.
#[derive(Debug, Default)]
struct UnderWay {
    /// The number of the oldest one. Numbers ascend by one.
    first: u64,
    /// Whether each one is settled.
    settled: VecDeque<bool>,
}

/// The right to settle a frame.
#[derive(Debug)]
pub(super) struct Ticket {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Ledger {
    /// Notes that one more frame is under way.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        let mut under_way = lock(&self.under_way);
        under_way.settled.push_back(false);
        let number = under_way.first + under_way.settled.len() as u64 - 1;
        Ticket { ledger: Arc::clone(self), number }
    }

    /// Waits until the oldest frame is settled, and takes it out.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn oldest_settled(&self) {
        while !self.take_settled() {
            self.changed.notified().await;
        }
    }

    fn take_settled(&self) -> bool {
        let mut under_way = lock(&self.under_way);
        let is_settled = under_way.settled.pop_front_if(|is_settled| *is_settled).is_some();
        under_way.first += u64::from(is_settled);
        is_settled
    }
}

impl Ticket {
    /// The other aggregator has the frame on its disk.
    pub(super) fn settle(self) {
        let mut under_way = lock(&self.ledger.under_way);
        let index = usize::try_from(self.number - under_way.first).unwrap_or(usize::MAX);
        if let Some(is_settled) = under_way.settled.get_mut(index) {
            *is_settled = true;
        }
        drop(under_way);
        if index == 0 {
            self.ledger.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_their_order_however_they_are_settled() {
        let ledger = Arc::new(Ledger::default());
        let [first, second, third] = [ledger.ticket(), ledger.ticket(), ledger.ticket()];
        second.settle();
        assert!(!ledger.take_settled(), "the first is under way");
        first.settle();
        assert!(ledger.take_settled());
        assert!(ledger.take_settled(), "the second was settled before");
        assert!(!ledger.take_settled());
        third.settle();
        let fourth = ledger.ticket();
        assert!(ledger.take_settled());
        fourth.settle();
        assert!(ledger.take_settled());
        assert!(!ledger.take_settled(), "nothing is under way");
    }
}
