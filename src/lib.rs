//! The telemetry aggregator: satellite uplinks over TCP into a durable archive, emergencies first.

pub mod actor;
pub mod archive;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod frame;
pub mod ingest;
pub mod pipeline;
pub mod sim;
pub mod wire;
