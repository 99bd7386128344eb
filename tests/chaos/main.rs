//! Faults of every kind against real daemon processes: kill -9, broken networks, stopped processes, stalled and failing
//! disks, clocks that step. `docs/reliability.md` says what is promised and how to run the long forms.
//!
//! The sources, subscribers and readers of these tests keep their own records. What was acknowledged is compared with
//! the archive as `archive cat` reads it in a process of its own, never with counters of the daemon.
//!
//! | file | purpose |
//! |---|---|
//! | `content.rs` | sequences and payloads as functions of source, lane and index |
//! | `wire.rs`, `session.rs`, `source.rs` | a source that records its acknowledgements, reconnects and resumes |
//! | `follower.rs`, `reader.rs`, `equipment.rs` | a subscriber, the software of an output, the equipment of a link |
//! | `track.rs`, `audit.rs`, `exports.rs` | each frame once, in order, without a hole, content right; the reading of archive and exports |
//! | `scene.rs`, `scene/ending.rs`, `setup.rs` | a daemon with all of these |
//! | `proxy.rs`, `netns.rs`, `shim.rs`, `shim.c` | a network, a disk and a clock that can fail |
//! | `kills.rs`, `drains.rs`, `network.rs`, `partition.rs`, `stops.rs`, `disk.rs`, `power.rs`, `clock.rs` | the faults |
//! | `fault.rs`, `campaign.rs`, `figures.rs` | rounds of faults, and what they found |
//! | `short.rs`, `long.rs` | the tests |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what a test measured belongs to its output")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod campaign;
mod clock;
mod content;
mod disk;
mod drains;
mod equipment;
mod exports;
mod fault;
mod figures;
mod follower;
mod kills;
mod long;
mod netns;
mod network;
mod partition;
mod power;
mod proxy;
mod reader;
mod scene;
mod session;
mod setup;
mod shim;
mod short;
mod source;
mod stops;
mod track;
mod wire;
