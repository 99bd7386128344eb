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
//!    stays together from here on ([`frame::Run`]);
//! 2. [`pipeline::queue`] keeps them in two lanes, [`pipeline::fan_in`] picks what goes next, emergencies first;
//! 3. [`pipeline::processor`] counts, logs, broadcasts ([`pipeline::fanout`]) and hands on;
//! 4. [`archive`] encodes them into a block of their lane, writes and syncs it, then tells which positions became durable;
//! 5. [`ingest::stream`] takes note, and the session writes the ACK;
//! 6. [`feed::tail`] keeps the newest durable frames for subscribers, and [`feed`] serves who is behind from the log,
//!    which it reads as an [`archive::History`].
//!
//! What becomes of a segment once it is full: the archive's `upkeep` writes its `index`, which saves readers most of the
//! reading and was made with the segment where that is possible, exports it ([`archive::export`]), and removes it when it is due.
//!
//! The other way, [`catalog`] keeps the orbital elements an operator gives, and sessions that want them get each version.
//!
//! Around that: [`daemon`] wires and drains, [`config`] reads the one file, [`actor`] is what router, registry and
//! sessions are built on, [`connection`] what listeners for sources and for subscribers share, [`cli`] is the command
//! line, [`archive::cli`] what it has for archives. [`observe`] is everything there is to see of a running daemon, [`http`]
//! how it is told: health, metrics, an API with events, the dashboard. [`systemd`] is how a service manager and the daemon talk, its watchdog
//! over the [`pulse`] of each stage. [`logging`] is how lines of the log reach stderr without a part that waits for its
//! reader. `plain_file` opens what is named to the daemon. The other side of the wire: `client` is who sends frames, [`sim`] a
//! fleet of such clients, [`replay`] another that sends what an archive holds, [`tail`] is a subscriber. [`top`] shows a
//! running daemon over [`http`]. [`demo`] is the RFC's scenario. All commands share [`causes`], which puts an error into
//! one line, [`moment`], which reads times, and `number`, which reads numbers.
//!
//! # What holds everywhere
//!
//! * An ACK is sent after `fdatasync`, and for nothing else but replays that are not to be stored.
//! * received = archived + not stored + duplicates + rejected + in flight ([`ingest::books`]).
//! * Nothing waits upstream: a session never waits for the pipeline, the pipeline never for a client.
//! * Every queue has a bound: windows bound the queues, 64 frames the processor, one block the archive's intake.
//! * Every task has an owner that joins it; no task is cancelled while it holds a frame.
//! * [`frame`], [`pulse`], [`logging`] < [`wire`] < [`actor`], [`pipeline`], [`archive`], [`catalog`] < [`connection`] < [`ingest`],
//!   [`feed`] < [`config`] < [`observe`] < [`http`] < [`daemon`] < [`demo`], [`cli`]: imports point down only. [`pipeline`]
//!   and [`archive`] do not know each other, nor do [`ingest`] and [`feed`].
//! * `client` < [`sim`], [`replay`], and [`tail`]: they know [`frame`] and [`wire`], [`replay`] the [`archive`] it reads;
//!   nothing of the daemon, but that [`tail`] has the heartbeat of [`connection`]. [`top`] knows the shapes of [`observe`] and
//!   the client of [`http`].

pub mod actor;
pub mod archive;
pub mod catalog;
pub mod causes;
pub mod cli;
mod client;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod demo;
pub mod feed;
pub mod frame;
pub mod histogram;
pub mod http;
pub mod ingest;
pub mod logging;
pub mod moment;
mod number;
pub mod observe;
pub mod pipeline;
mod plain_file;
pub mod pulse;
pub mod replay;
pub mod sim;
pub mod systemd;
pub mod tail;
pub mod top;
pub mod wire;
