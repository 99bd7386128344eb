//! Links from equipment that speaks its own protocol, outputs to software that does not speak ours, and the switchboard
//! that runs both.
//!
//! | module | purpose |
//! |---|---|
//! | [`links`] | bytes of equipment become frames of a stream |
//! | [`outputs`] | subscribers inside the daemon that send the frames in other formats |
//! | [`switchboard`] | starts and ends the links and the outputs as the configuration and operators say |
//!
//! Links know `ingest`, outputs know `feed`; they do not know each other. This crate never depends on what shows it
//! (`observe`, `web`) nor on the daemon.

pub mod links;
pub mod outputs;
pub mod switchboard;
