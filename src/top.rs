//! A running daemon on one screen, over its HTTP API.
//!
//! * [`fetch`]: asks the daemon, for a [`Snapshot`](model::Snapshot);
//! * [`model`]: what is known and what is looked at; keys and answers change it in one pure step;
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
