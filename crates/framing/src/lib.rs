//! Formats of ground equipment and mission-control software: bytes in, units out, and the way back.
//!
//! This crate is pure. It does no I/O, has no clock and no task, and does not know the daemon. From tokio-util it
//! uses the codec of length fields. Arbitrary bytes never cause a panic, and no length that they claim leads to
//! more memory than the configuration allows.
//!
//! Imports point down in each of the two groups, framings and transfer frames.
//!
//! | file | purpose |
//! |---|---|
//! | `deframer.rs` | [`Deframer`]: cuts a byte stream into [`Unit`]s and counts what becomes of the bytes |
//! | `framing.rs` | [`Framing`]: the framings that a link can have, described in plain words |
//! | `packet.rs` | [`packet`]: space packets, as a framing and as a unit |
//! | `cadu.rs` | [`cadu`]: marker, lock, check symbols |
//! | `randomizer.rs` | [`randomize`]: the pseudo-random sequence of CADUs |
//! | `fixed.rs` | units of one length |
//! | `length.rs` | [`Length`]: units behind a length field, with tokio-util's codec |
//! | `kiss.rs` | [`kiss`]: frames of modems |
//! | `datagram.rs` | [`datagram`]: one unit per datagram |
//! | `nctrs.rs` | [`nctrs`]: data units of SCOS-2000's network controller |
//! | `unit_check.rs` | [`UnitCheck`]: recognises a unit that stands alone between other bytes |
//! | `cut.rs` | what every framing has in common |
//! | `extract.rs` | [`Extractor`]: takes space packets out of transfer frames |
//! | `frame_writer.rs` | [`FrameWriter`]: puts packets into transfer frames |
//! | `decode.rs` | [`Decode`] reads the [`Header`] of a unit |
//! | `tm.rs`, `aos.rs`, `uslp.rs` | the formats of transfer frames |
//! | `transfer_frame.rs` | what the formats of transfer frames have in common |
//! | `header.rs` | [`Header`] and [`Count`]: what the header of a unit tells |
//! | `continuity.rs` | [`Continuity`]: counts what is missing |
//! | `cosmos.rs` | [`Preidentified`]: packets for OpenC3 COSMOS |
//! | `crc.rs` | [`Fecf`]: checksums of transfer frames |
//! | `error.rs` | [`FramingError`] and [`DecodeError`], in plain words |

mod aos;
pub mod cadu;
mod continuity;
mod cosmos;
mod crc;
mod cut;
pub mod datagram;
mod decode;
mod deframer;
mod error;
mod extract;
mod fixed;
mod frame_writer;
mod framing;
mod header;
pub mod kiss;
mod length;
pub mod nctrs;
pub mod packet;
mod randomizer;
#[cfg(test)]
mod tests;
mod tm;
mod transfer_frame;
mod unit_check;
mod uslp;

pub use aos::ScidBits;
pub use cadu::Cadu;
pub use continuity::{Continuity, Step};
pub use cosmos::Preidentified;
pub use crc::Fecf;
pub use cut::{Counts, Unit};
pub use decode::{Decode, Format};
pub use deframer::Deframer;
pub use error::{DecodeError, Fault, FramingError};
pub use extract::{ExtractCounts, Extractor};
pub use frame_writer::FrameWriter;
pub use framing::Framing;
pub use header::{Count, Header};
pub use kiss::Kiss;
pub use length::Length;
pub use nctrs::{Nctrs, NctrsHeader};
pub use packet::PacketHeader;
pub use randomizer::randomize;
pub use transfer_frame::{FrameFields, Pointer};
pub use unit_check::UnitCheck;
