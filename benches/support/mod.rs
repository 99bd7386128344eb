//! Parts that the benches of the running daemon share: the measured processes, the flooding sources, and the figures
//! of the disk.
//!
//! The receiver is always a child process, so that its CPU time and memory can be separated from those of the sender
//! on the same machine. The same code sends to every compared receiver, so that the cost of the sender is the same
//! for all.

#![allow(dead_code, unused_imports, reason = "each bench takes what it needs")]

mod connection;
mod daemon;
mod disk;
mod flood;
mod frames;
mod receiver;
mod sink;
mod tls;

pub use self::tls::Certificate;
pub use connection::{Connection, Credit, hello};
pub use daemon::Daemon;
pub use disk::Disk;
pub use flood::{Amount, Flood, Flooded};
pub use frames::Frames;
pub use receiver::{Receiver, Usage, own_thread_cpu_ns};
pub use sink::{Sink, SinkKind};

/// Whether the run must measure. `cargo test --benches` runs benches only to see that they work, so nothing is
/// measured then.
pub fn is_asked_for(bench: &str) -> bool {
    let asked = std::env::args().any(|arg| arg == "--bench");
    if !asked {
        println!("run it with: cargo bench --bench {bench}");
    }
    asked
}

/// The median of `figures`. If their number is even, the upper one of the middle two.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
