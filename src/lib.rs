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
//! 1. [`wire`] cuts bytes into messages. A session of [`ingest`] checks them and hands frames over, a whole read at a time,
//!    which stays together from here on ([`frame::FrameRun`]);
//! 2. in [`ingest::pipeline`], `queue` keeps them in two lanes and `fan_in` picks what goes next, emergencies first;
//! 3. there, `processor` counts, logs, broadcasts (`fanout`) and hands on;
//! 4. [`archive`] encodes them into a block of their lane, writes and syncs it, then reports the durable positions;
//! 5. [`ingest::stream`] notes them, and the session writes the ACK;
//! 6. [`feed::tail`] keeps the newest durable frames for subscribers. [`feed`] serves subscribers that are behind from the
//!    log, which it reads as an [`archive::History`].
//!
//! [`equipment::outputs`] are subscribers inside the daemon: they send the frames to software that does not speak the
//! protocol.
//!
//! The archive's maintenance thread works on each full segment: it writes the index, which saves readers most of the
//! reading, then runs the steps that the daemon gave ([`export`]). It removes a segment when retention says so.
//!
//! The other way, [`catalog`] keeps the orbital elements that an operator gives. A session sends each version if its client
//! asked for it.
//!
//! Equipment that speaks its own protocol comes in over [`equipment::links`], which cut its bytes into units ([`framing`])
//! and hand them to the queues as sessions do. One [`equipment::switchboard`] starts and ends the links, another one the
//! outputs.
//!
//! Around that: [`daemon`] wires and drains, [`config`] reads the one file, [`connection`] holds what listeners for sources
//! and for subscribers share, [`cli`] is the command line, with the commands on archive directories. [`observe`] is
//! what operators see of a running daemon, [`web`] serves it: health, metrics, an API with events, the dashboard.
//! [`systemd`] is how a service manager and the daemon talk, its watchdog over the [`frame::liveness`] of each stage. Of
//! [`tools`], `replay` sends what an archive holds, `import` sends a recording of equipment, and `tail` is a subscriber.
//! [`top`] shows a running daemon over [`http_client`]. [`demo`] is the RFC's scenario.
//!
//! # Crates
//!
//! This package is the daemon with its commands. Its libraries are crates of the workspace, in `crates/`. Each `lib.rs`
//! says what the crate never depends on. A crate depends on crates of lower floors only; cargo refuses anything else.
//!
//! | floor | crates |
//! |---|---|
//! | 9 | [`web`] |
//! | 8 | [`observe`], [`tools`]: replay, import, tail |
//! | 7 | [`equipment`]: links, outputs, switchboard |
//! | 6 | [`config`] |
//! | 5 | [`ingest`] with its pipeline, [`feed`], [`sim`], [`top`], [`upload`] |
//! | 4 | [`connection`], [`client`], [`export`], [`http_client`] |
//! | 3 | [`archive`], [`catalog`], [`tls`] |
//! | 2 | [`wire`], [`actor`], [`support`], [`api`] |
//! | 1 | [`frame`], [`framing`], `jetstream` |
//!
//! # What holds everywhere
//!
//! * An ACK is sent after `fdatasync`, and for nothing else but replays that are not to be stored.
//! * received = archived + not stored + duplicates + rejected + in flight ([`ingest::books`]).
//! * Nothing waits upstream: a session never waits for the pipeline, the pipeline never for a client.
//! * Every queue has a bound: windows bound the queues, 64 frames the processor, one block the archive's intake.
//! * Every task has an owner that joins it; no task is cancelled while it holds a frame.
//! * In this package, imports point down only: [`systemd`] < [`daemon`] < [`demo`] < [`cli`].

pub mod cli;
pub mod daemon;
pub mod demo;
pub mod systemd;
