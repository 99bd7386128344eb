//! A running daemon on one screen, over its HTTP API.
//!
//! * [`fetch`]: asks the daemon, for a [`Snapshot`](model::Snapshot);
//! * [`model`]: what is known and what the user looks at;
//! * `update`: changes the model in one pure step for each key and each answer;
//! * [`draw`](mod@draw): what of that is shown, a function of the model and the size alone;
//! * `figures`: numbers as they stand there.
//!
//! The terminal itself, with its keys and signals, is the command's: it lies in [`cli`](crate::cli).

pub mod draw;
pub mod fetch;
mod figures;
pub mod model;
#[cfg(test)]
mod tests;
mod update;
