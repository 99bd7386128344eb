//! What the benches of the running daemon share: the processes they measure, who floods them, and the disk's own figures.
//!
//! The receiver is always a child process, so that its CPU time and memory can be told from the sender's, which shares
//! the machine. Whatever is compared is sent by the same code, so that the sender's cost is the same on all sides.

#![allow(dead_code, unused_imports, reason = "each bench takes what it needs")]

mod connection;
mod daemon;
mod disk;
mod flood;
mod frames;
mod receiver;
mod sink;

pub use connection::{Connection, Credit, hello};
pub use daemon::Daemon;
pub use disk::Disk;
pub use flood::{Amount, Flood, Flooded};
pub use frames::Frames;
pub use receiver::{Receiver, Usage, own_thread_cpu_ns};
pub use sink::{Sink, SinkKind};

/// Whether figures are asked for. `cargo test --benches` runs benches to see that they work: nothing is measured then.
pub fn is_asked_for(bench: &str) -> bool {
    let asked = std::env::args().any(|arg| arg == "--bench");
    if !asked {
        println!("run it with: cargo bench --bench {bench}");
    }
    asked
}

/// The middle one of `figures`, the upper one of two.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
