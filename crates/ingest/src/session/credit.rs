//! Credit of one lane: the cost that the client may have sent, counted from 0 on each connection.

/// Absolute credit, as ACK carries it. All values are costs in bytes, see [`frame_cost`](frame::frame_cost).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    /// The cost that may wait in the queue of the lane.
    window: u64,
    /// The cost of the largest message.
    message_max: u64,
    /// The cost of all messages so far.
    consumed: u64,
    /// The highest limit that was sent: the client may send until `consumed` reaches it.
    granted: u64,
}

impl Credit {
    /// Nothing is granted yet. A message costs up to `message_max`.
    pub(super) const fn new(window: u64, message_max: u64) -> Self {
        Self { window, message_max, consumed: 0, granted: 0 }
    }

    /// Consumes `cost`. Returns `Err` with the credit that is left when the client has sent more than it was
    /// granted.
    pub(super) const fn consume(&mut self, cost: u64) -> Result<(), u64> {
        let left = self.granted - self.consumed;
        if cost > left {
            return Err(left);
        }
        self.consumed += cost;
        Ok(())
    }

    /// The limit that can be granted while frames of cost `queued` wait. The limit never falls.
    pub(super) const fn grantable(&self, queued: u64) -> u64 {
        let limit = self.consumed + self.window.saturating_sub(queued);
        if limit > self.granted { limit } else { self.granted }
    }

    /// Notes that `limit` is sent to the client.
    pub(super) const fn grant(&mut self, limit: u64) {
        self.granted = limit;
    }

    /// Whether `limit` is worth a message of its own: growth by a quarter of the window, or by an eighth when
    /// less than half of the window is left.
    pub(super) const fn is_worth_sending(&self, limit: u64) -> bool {
        let grown = limit - self.granted;
        let is_short = self.granted - self.consumed < self.window / 2;
        grown >= self.window / 4 || (is_short && grown >= self.window / 8)
    }

    /// Whether the client has half of the window left and enough for any message. Growth can then wait for
    /// the next ACK.
    pub(super) const fn is_ample(&self) -> bool {
        let left = self.granted - self.consumed;
        left >= self.window / 2 && left >= self.message_max
    }

    /// Whether more credit can be granted, at once or when the queue is empty.
    pub(super) const fn is_outstanding(&self) -> bool {
        self.granted < self.consumed + self.window
    }

    /// The highest limit that was sent to the client.
    pub(super) const fn granted(&self) -> u64 {
        self.granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_only_grows_and_follows_the_queue() {
        let mut credit = Credit::new(1000, 100);
        assert_eq!(credit.consume(1), Err(0), "nothing was granted");
        credit.grant(credit.grantable(300));
        assert_eq!(credit.granted(), 700, "a newcomer's first credit is the window less what is queued");
        credit.consume(700).unwrap();
        assert_eq!(credit.consume(1), Err(0));
        assert_eq!(credit.grantable(1000), 700, "it never falls");
        assert_eq!(credit.grantable(2000), 700, "not even with more queued than the window");
        assert_eq!(credit.grantable(0), 1700, "an empty queue withholds nothing");
    }

    #[test]
    fn credit_is_ample_while_half_of_the_window_and_a_message_are_left() {
        let mut credit = Credit::new(1000, 400);
        assert!(!credit.is_ample(), "nothing is granted");
        credit.grant(1000);
        credit.consume(500).unwrap();
        assert!(credit.is_ample());
        credit.consume(1).unwrap();
        assert!(!credit.is_ample());
        let mut tight = Credit::new(1000, 1000);
        tight.grant(1000);
        assert!(tight.is_ample());
        tight.consume(1).unwrap();
        assert!(!tight.is_ample(), "the largest message takes all of it");
    }

    #[test]
    fn small_growth_of_credit_waits_for_more() {
        let mut credit = Credit::new(1000, 100);
        credit.grant(1000);
        credit.consume(100).unwrap();
        assert!(!credit.is_worth_sending(1100));
        assert!(credit.is_worth_sending(1250));
        credit.consume(500).unwrap();
        assert!(credit.is_worth_sending(1125), "the client runs short");
        assert!(!credit.is_worth_sending(1124), "but not for so little");
        assert!(!credit.is_worth_sending(1000), "nothing new");
    }
}
