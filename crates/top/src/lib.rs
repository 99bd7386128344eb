//! A running daemon on one screen, over its HTTP API.
//!
//! * [`fetch`]: reads a [`Snapshot`](model::Snapshot) from the daemon;
//! * [`model`]: the data of the daemon and the view that the user has selected;
//! * [`links`]: which links and outputs are in trouble, and how fast the outputs are;
//! * `update`: changes the model in one pure step for each key and each answer;
//! * [`draw`](mod@draw): draws the screen, as a function of the model and the size alone;
//! * `figures`: formats numbers for the screen.
//!
//! The command `top` owns the terminal with its keys and signals. This crate knows of the daemon nothing but its HTTP API.

pub mod draw;
pub mod fetch;
mod figures;
pub mod links;
pub mod model;
#[cfg(test)]
mod tests;
mod update;
