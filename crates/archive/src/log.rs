//! Writes the log: from the blocks that appenders fill to durable segments.

pub(crate) mod appender;
pub(crate) mod commit;
pub(crate) mod commit_queue;
mod committer;
mod edit_request;
pub(crate) mod fault;
mod handover;
pub(crate) mod position_edits;
pub(crate) mod positions;
pub(crate) mod published;
pub(crate) mod segment;
pub(crate) mod shared;
mod signal;
pub(crate) mod space;
pub(crate) mod thread;
mod tuning;
pub(crate) mod writer;

pub(crate) use signal::MaintenanceSignal;
