//! The actor module beside plain tokio channels, and beside ractor, kameo and rusm-otp.
//!
//!     cargo run --release --manifest-path benches/actor/Cargo.toml [-- CASE [CONTENDER]]
//!
//! Every case runs each contender in turn, five times over; a line gives the medians of the five, per operation:
//! wall-clock time, CPU time of the process, and the ratio of either to the first contender's, which is plain tokio. A
//! ratio below 1 is faster than tokio. On a busy machine believe the CPU times. `CASE` is a part of a case's name,
//! `CONTENDER` a contender's whole name.
//!
//! What each contender does is what its users would write: bounded mailboxes where it has them (ractor and rusm-otp have
//! none that make a sender wait). `call` always has a timeout; the asks of the others have none, except where the line
//! says so. rusm-otp has no request and response, and its messages are byte vectors.
//!
//! On two workers tasks that wake each other tend to stay on one of them, as tokio runs a task that was just woken next on
//! the same worker. Where the CPU time is no more than the wall-clock time, one worker did it all.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints and may fail")]

mod case;
mod gauge;
mod with_actor;
mod with_kameo;
mod with_ractor;
mod with_rusm;
mod with_tokio;

use case::{Case, Workers};

/// Round trips of a lone pair.
const ROUND_TRIPS: u64 = 200_000;
/// Pairs at once, and the round trips of each.
const PAIRS: u64 = 1_000;
const PAIR_ROUND_TRIPS: u64 = 500;
/// Messages of each of the [`SENDERS`] of a fan-in.
const FAN_IN_EACH: u64 = 20_000;
/// Senders of a fan-in, and askers at once.
const SENDERS: u64 = 48;
/// Asks of a lone asker, and of each of many.
const ASKS: u64 = 200_000;
const ASKS_EACH: u64 = 5_000;
/// Messages a mailbox holds per lane.
const CAPACITY: usize = 64;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let case = args.next().unwrap_or_default();
    let contender = args.next().unwrap_or_default();
    for chosen in cases().iter().filter(|known| known.name.contains(&case)) {
        chosen.compare(&contender);
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("ping-pong, one worker", "round trip", Workers::Current, ROUND_TRIPS)
            .ping_pong(1, ROUND_TRIPS),
        Case::new("ping-pong, two workers", "round trip", Workers::Two, ROUND_TRIPS)
            .ping_pong(1, ROUND_TRIPS),
        Case::new("1,000 pairs, two workers", "message", Workers::Two, PAIRS * PAIR_ROUND_TRIPS * 2)
            .ping_pong(PAIRS, PAIR_ROUND_TRIPS),
        Case::new("fan-in of 48 one by one, two workers", "message", Workers::Two, SENDERS * FAN_IN_EACH)
            .run("tokio", || with_tokio::fan_in(FAN_IN_EACH))
            .run("actor", || with_actor::fan_in(FAN_IN_EACH))
            .run("ractor", || with_ractor::fan_in(FAN_IN_EACH))
            .run("kameo", || with_kameo::fan_in(FAN_IN_EACH))
            .run("rusm-otp", || with_rusm::fan_in(FAN_IN_EACH)),
        Case::new("asks of one, one worker", "ask", Workers::Current, ASKS).asks(1, ASKS),
        Case::new("asks of one, two workers", "ask", Workers::Two, ASKS).asks(1, ASKS),
        Case::new("asks of 48, two workers", "ask", Workers::Two, SENDERS * ASKS_EACH)
            .asks(SENDERS, ASKS_EACH),
    ]
}

impl Case {
    fn ping_pong(self, pairs: u64, round_trips: u64) -> Self {
        self.run("tokio", move || with_tokio::ping_pong(pairs, round_trips))
            .run("actor", move || with_actor::ping_pong(pairs, round_trips))
            .run("ractor", move || with_ractor::ping_pong(pairs, round_trips))
            .run("kameo", move || with_kameo::ping_pong(pairs, round_trips))
            .run("rusm-otp", move || with_rusm::ping_pong(pairs, round_trips))
    }

    fn asks(self, askers: u64, each: u64) -> Self {
        self.run("tokio", move || with_tokio::asks(askers, each))
            .run("tokio, timeout", move || with_tokio::asks_within(askers, each))
            .run("actor", move || with_actor::asks(askers, each))
            .run("ractor", move || with_ractor::asks(askers, each))
            .run("kameo", move || with_kameo::asks(askers, each))
    }
}
