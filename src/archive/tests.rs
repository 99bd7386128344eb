//! Tests of the archive as a whole, on the fake storage and on the real one.

mod bad_sectors;
mod commit;
mod disk;
mod faults;
mod foreign;
mod forget;
mod gather;
mod holes;
mod index;
mod model;
mod reader;
mod recover;
mod reset;
mod space;
mod sparse;
pub(crate) mod support;
mod unreadable;
mod visit;
pub(crate) mod watched;
