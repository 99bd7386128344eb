//! Formats of ground equipment and mission-control software: bytes in, units out, and the way back.
//!
//! This crate is pure. It does no I/O, has no clock and no task, and does not know the daemon. From tokio-util it
//! uses the codec of length fields. Arbitrary bytes never cause a panic, and no length that they claim leads to
//! more memory than the configuration allows.
//!
//! | file | purpose |
//! |---|---|
//! | `framing.rs` | [`Framing`]: the framings that a link can have, described in plain words |
//! | `deframer.rs` | [`Deframer`]: cuts a byte stream into [`Unit`]s and counts what becomes of the bytes |
//! | `packet.rs` | [`packet`]: space packets, as a framing and as a unit |
//! | `cadu.rs` | [`cadu`]: marker, lock, check symbols |
//! | `randomizer.rs` | [`randomize`]: the pseudo-random sequence of CADUs |
//! | `fixed.rs` | units of one length |
//! | `length.rs` | [`Length`]: units behind a length field, with tokio-util's codec |
//! | `kiss.rs` | [`kiss`]: frames of modems |
//! | `datagram.rs` | [`datagram`]: one unit per datagram |
//! | `nctrs.rs` | [`nctrs`]: data units of SCOS-2000's network controller |
//! | `decode.rs` | [`Decode`] reads the [`Header`] of a unit |
//! | `tm.rs`, `aos.rs`, `uslp.rs` | the headers of transfer frames |
//! | `extract.rs` | [`Extractor`]: takes space packets out of transfer frames |
//! | `continuity.rs` | [`Continuity`]: counts what is missing |
//! | `frame_writer.rs` | [`FrameWriter`]: puts packets into transfer frames |
//! | `cosmos.rs` | [`Preidentified`]: packets for OpenC3 COSMOS |
//! | `crc.rs` | [`Fecf`]: checksums of transfer frames |
//! | `error.rs` | [`FramingError`] and [`DecodeError`], in plain words |

mod aos;
pub mod cadu;
mod continuity;
mod cosmos;
mod crc;
pub mod datagram;
mod decode;
mod deframer;
mod error;
mod extract;
mod fixed;
mod frame_writer;
mod framing;
pub mod kiss;
mod length;
pub mod nctrs;
pub mod packet;
mod randomizer;
#[cfg(test)]
mod tests;
mod tm;
mod uslp;

pub use cadu::Cadu;
pub use continuity::{Continuity, Step};
pub use cosmos::Preidentified;
pub use crc::Fecf;
pub use decode::{Count, Decode, Format, Header, ScidBits};
pub use deframer::{Counts, Deframer, Unit};
pub use error::{DecodeError, Fault, FramingError};
pub use extract::{ExtractCounts, Extractor};
pub use frame_writer::{FrameFields, FrameWriter, Pointer};
pub use framing::Framing;
pub use kiss::Kiss;
pub use length::Length;
pub use nctrs::{Nctrs, NctrsHeader};
pub use packet::PacketHeader;
pub use randomizer::randomize;
