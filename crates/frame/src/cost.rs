//! The cost of a frame while it waits, and the memory that it may keep for that cost.
//!
//! Credit, queues and the bound of all memory use only these functions.

/// The lowest cost of a FRAME, so that tiny frames cannot flood a window.
pub const FRAME_COST_MIN: u64 = 256;

/// The part of its lane's credit that a FRAME with a body of `body_bytes` uses.
#[must_use]
#[inline]
pub const fn frame_cost(body_bytes: usize) -> u64 {
    let bytes = body_bytes as u64;
    if bytes > FRAME_COST_MIN { bytes } else { FRAME_COST_MIN }
}

/// The most memory, in bytes, that frames of `cost` keep while they wait: 1.25 times as much.
#[must_use]
pub const fn weight_max(cost: u64) -> u64 {
    cost.saturating_add(cost / 4)
}

/// The least cost that may keep memory of `weight` bytes, see [`weight_max`].
#[must_use]
pub const fn cost_of_weight(weight: u64) -> u64 {
    weight - weight / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_costs_its_length_and_at_least_256() {
        assert_eq!([0, 20, 256, 257, 1 << 20].map(frame_cost), [256, 256, 256, 257, 1 << 20]);
    }

    #[test]
    fn the_cost_of_a_weight_allows_that_weight() {
        for weight in (0..5_000).chain([u64::MAX / 4]) {
            let cost = cost_of_weight(weight);
            assert!(weight_max(cost) >= weight, "{weight}");
            assert!(cost == 0 || weight_max(cost - 1) <= weight, "{weight}");
        }
        assert_eq!(weight_max(u64::MAX), u64::MAX);
    }
}
