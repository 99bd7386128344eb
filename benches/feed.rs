//! What subscribers cost, and how fast history comes, beside what the machine does without them in the same run.
//!
//!     cargo bench --bench feed -- [live] [history] [MB]
//!
//! *live*: 48 connections flood the daemon with routine frames while 0, 1, 10 and 50 subscribers follow. `ratio` is the
//! frames taken in per second to those without subscribers. `delivered at once` is the part that had reached them when
//! the last frame was acknowledged, `read from the log` what was read there for that: 0, they stayed in the ring.
//!
//! *history*: one subscriber, then four at a time, from the oldest frame of an archive of MB (2000) that lies in the page
//! cache, beside plain reads of the same files (`cat`) and beside a writer that only writes as many bytes to a
//! socket (`bare`): loopback itself bounds what a subscriber can get.
//!
//! Daemon and receivers are processes of their own, and all of them share the machine. Figures of one run are ratios of
//! that run: machines differ.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

#[path = "feed/daemon.rs"]
mod daemon;
#[path = "feed/fan_out.rs"]
mod fan_out;
#[path = "feed/history.rs"]
mod history;
#[path = "feed/subscribers.rs"]
mod subscribers;

const ROUNDS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--subscribers") {
        return subscribers::run(&args[1..]);
    }
    // `cargo test --benches` runs benches to see that they work: nothing is measured there.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("run it with: cargo bench --bench feed");
        return;
    }
    let megabytes = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(2_000);
    let both = !args.iter().any(|arg| arg == "live" || arg == "history");
    if both || args.iter().any(|arg| arg == "live") {
        [64, 256].into_iter().for_each(fan_out::compare);
    }
    if both || args.iter().any(|arg| arg == "history") {
        [64, 1_115].into_iter().for_each(|payload_bytes| history::compare(payload_bytes, megabytes));
    }
}

fn median<T>(measured: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = measured.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
