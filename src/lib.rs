//! The telemetry aggregator: satellite uplinks over TCP into a durable archive, emergencies first.
//!
//! This page is the map. A frame's way, and where to read about each step:
//!
//! ```text
//!  socket            one per source           two lanes per stream     at most 64 frames       group commit
//! +--------+  bytes +-----------------+ batch +-------------------+ pull +-----------+ batch +----------------+
//! | client | -----> | ingest::session | ----> | pipeline::queue   | ---> | pipeline  | ----> | archive        |
//! |        | <----- |                 | <---- |                   |      | processor |       | commit thread  |
//! +--------+  ACK   +-----------------+ credit+-------------------+      +-----------+       +----------------+
//!                        ^                                                    | broadcast          |
//!                        |                                                    v                    |
//!                        +--------------- durable positions (ingest::stream) <---------------------+
//! ```
//!
//! 1. [`wire`] cuts bytes into messages, `ingest::session` judges them and hands frames over, a whole read at a time, which
//!    stays together from here on ([`frame::FrameRun`]);
//! 2. [`pipeline::queue`] keeps them in two lanes, [`pipeline::fan_in`] picks what goes next, emergencies first;
//! 3. [`pipeline::processor`] counts, logs, broadcasts ([`pipeline::fanout`]) and hands on;
//! 4. [`archive`] encodes them into a block of their lane, writes and syncs it, then reports the durable positions;
//! 5. [`ingest::stream`] takes note, and the session writes the ACK;
//! 6. [`feed::tail`] keeps the newest durable frames for subscribers. [`feed`] serves subscribers that are behind from the
//!    log, which it reads as an [`archive::History`].
//!
//! [`outputs`] are subscribers inside the daemon: they send the frames to software that does not speak the protocol.
//!
//! The archive's maintenance thread works on each full segment: it writes the index, which saves readers most of the
//! reading, then runs the steps that the daemon gave ([`export`]). It removes a segment when retention says so.
//!
//! The other way, [`catalog`] keeps the orbital elements that an operator gives. A session sends each version if its client
//! asked for it.
//!
//! Equipment that speaks its own protocol comes in over [`links`], which cut its bytes into units ([`framing`]) and hand
//! them to the queues as sessions do. One [`switchboard`] starts and ends the links,
//! another one the outputs.
//!
//! Around that: [`daemon`] wires and drains, [`config`] reads the one file, [`connection`] holds what listeners for sources
//! and for subscribers share, [`cli`] is the command line, with the commands on archive directories. [`observe`] is
//! everything there is to see of a running daemon, [`http`] serves it: health, metrics, an API with events, the dashboard.
//! [`systemd`] is how a service manager and the daemon talk, its watchdog over the [`liveness`] of each stage. [`replay`] sends
//! what an archive holds, [`import`] sends a recording of equipment, [`tail`] is a subscriber, [`top`] shows a running
//! daemon over [`http`]. [`demo`] is the RFC's scenario.
//!
//! # Crates
//!
//! This package is the daemon with its commands. Its libraries are crates of the workspace, in `crates/`. Each `lib.rs`
//! says what the crate never depends on and which file does what.
//!
//! | crate | holds | depends on |
//! |---|---|---|
//! | [`frame`] | the types that every part shares, [`histogram`], [`liveness`] | |
//! | [`wire`] | the protocol, the heartbeat clock | [`frame`] |
//! | [`actor`] | what router and sessions are built on | [`frame`] |
//! | [`tls`] | TCP connections with or without TLS 1.3, certificates | `support` |
//! | `support` | [`logging`], [`causes`], [`moment`], `number`, `plain_file`, `private` | [`frame`] |
//! | [`archive`] | the segment log: writing, reading, recovery, maintenance | [`frame`], `support` |
//! | [`export`] | Parquet, CSV and JSON lines, a step of sealed segments | [`archive`], [`frame`], `support` |
//! | [`catalog`] | orbital elements | `support` |
//! | [`framing`] | formats of ground equipment: framings and decoders | |
//! | [`api`] | the requests and answers of the HTTP API | [`frame`] |
//! | [`client`] | the client side of the protocol | [`frame`], [`wire`], [`tls`] |
//! | [`sim`] | a fleet of simulated sources | [`frame`], [`wire`], [`client`], [`catalog`], [`framing`], [`tls`], `support` |
//!
//! # What holds everywhere
//!
//! * An ACK is sent after `fdatasync`, and for nothing else but replays that are not to be stored.
//! * received = archived + not stored + duplicates + rejected + in flight ([`ingest::books`]).
//! * Nothing waits upstream: a session never waits for the pipeline, the pipeline never for a client.
//! * Every queue has a bound: windows bound the queues, 64 frames the processor, one block the archive's intake.
//! * Every task has an owner that joins it; no task is cancelled while it holds a frame.
//! * Crates < [`pipeline`] < [`connection`] < [`ingest`], [`feed`] < [`config`] < [`switchboard`] < [`links`], [`outputs`] < [`observe`] < [`http`] <
//!   [`daemon`] < [`demo`], [`cli`]: imports point down only. [`pipeline`] and [`archive`] do not know each other, nor do [`ingest`] and
//!   [`feed`].
//! * [`replay`] and [`tail`] know of the daemon nothing but its protocol. [`import`] also has the rules of [`links`]. [`top`] knows the types of [`api`] and the
//!   client of [`http`].

pub use ::{actor, api, archive, catalog, client, export, frame, framing, sim, wire};
pub use frame::{histogram, liveness};
pub use support::{causes, logging, moment, number, plain_file, private, stdio};

pub mod cli;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod demo;
pub mod feed;
pub mod http;
pub mod import;
pub mod ingest;
pub mod links;
pub mod observe;
pub mod outputs;
pub mod pipeline;
pub mod replay;
pub mod switchboard;
pub mod systemd;
pub mod tail;
pub mod top;
