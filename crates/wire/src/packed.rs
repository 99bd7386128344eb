//! ZSTD: whole messages of a source, compressed together.

use std::cell::RefCell;
use std::io;

use bytes::{BufMut, BytesMut};
use zstd::bulk::{Compressor, Decompressor};

use super::fields::Fields;
use super::framing::encode;
use super::{ErrorCode, WireError, kind};

/// Bytes of ZSTD before its compressed data.
const HEADER_BYTES: usize = 8;

thread_local! {
    /// What a decompression works with, about 100 KiB. One for each thread, because a session uses it without a pause.
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses a body of type ZSTD behind the content of `out`, which grows by the size that the body claims, and by
/// nothing else.
///
/// # Errors
/// `too_large` when the body claims more than `raw_bytes_max`, before anything is decompressed. `protocol` when it is too
/// short, is not zstd, or has another size than it claims.
pub fn unpack(body: &[u8], raw_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let mut fields = Fields::new("ZSTD", body);
    fields.bytes(3)?;
    let claimed = fields.u32()?;
    let raw_bytes = claimed as usize;
    if raw_bytes > raw_bytes_max {
        let text = format!("ZSTD of {claimed} bytes, at most {raw_bytes_max} are allowed here");
        return Err(WireError::new(ErrorCode::TooLarge, text).with_detail(u64::from(claimed)));
    }
    let start = out.len();
    out.resize(start + raw_bytes, 0);
    let written = UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Decompressor::new()?),
        };
        unpacker.decompress_to_buffer(&body[HEADER_BYTES..], &mut out[start..])
    });
    match written {
        Ok(written) if written == raw_bytes => Ok(()),
        Ok(written) => Err(WireError::protocol(format!("ZSTD has {written} bytes, it claims {raw_bytes}"))),
        Err(error) => {
            Err(WireError::protocol(format!("ZSTD that claims {raw_bytes} bytes cannot be read: {error}")))
        }
    }
}

/// Compresses messages. It keeps its memory, about 1 MiB, for the next ones.
pub struct Packer(Compressor<'static>);

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// A packer of this `level` of zstd. Levels from 1 to 22; 3 is zstd's own default.
    ///
    /// # Errors
    /// When zstd refuses the level, or has no memory.
    pub fn new(level: i32) -> io::Result<Self> {
        Compressor::new(level).map(Self)
    }

    /// Appends `raw`, whole messages with their length prefixes, as one ZSTD with its length prefix.
    ///
    /// # Errors
    /// When zstd has no memory. Nothing is appended.
    pub fn pack(&mut self, raw: &[u8], out: &mut BytesMut) -> io::Result<()> {
        let packed = self.0.compress(raw)?;
        encode(out, |body| {
            body.put_slice(&[kind::ZSTD, 0, 0, 0]);
            body.put_u32(u32::try_from(raw.len()).unwrap_or(u32::MAX));
            body.put_slice(&packed);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(raw: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        Packer::new(3).unwrap().pack(raw, &mut out).unwrap();
        out[4..].to_vec()
    }

    fn refusal(body: &[u8], raw_bytes_max: usize) -> (ErrorCode, String) {
        let error = unpack(body, raw_bytes_max, &mut Vec::new()).unwrap_err();
        (error.code, error.text)
    }

    #[test]
    fn what_is_packed_is_unpacked_behind_what_is_there() {
        for raw in [b"".to_vec(), b"telemetry".to_vec(), vec![7; 100_000]] {
            let mut out = b"before".to_vec();
            unpack(&packed(&raw), raw.len(), &mut out).unwrap();
            assert_eq!(out, [b"before", raw.as_slice()].concat());
        }
        assert!(packed(&[7; 100_000]).len() < 100);
    }

    #[test]
    fn a_claim_above_the_limit_is_refused_before_memory_is_taken() {
        let mut out = Vec::new();
        let error = unpack(&packed(&[7; 1001]), 1000, &mut out).unwrap_err();
        assert_eq!((error.code, error.detail), (ErrorCode::TooLarge, 1001));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn a_claim_is_kept_to_the_byte() {
        let mut body = packed(&[7; 1000]);
        body[4..8].copy_from_slice(&999_u32.to_be_bytes());
        assert_eq!(refusal(&body, 1000).0, ErrorCode::Protocol, "more than it claims");
        body[4..8].copy_from_slice(&1001_u32.to_be_bytes());
        let (code, text) = refusal(&body, 2000);
        assert_eq!((code, text.as_str()), (ErrorCode::Protocol, "ZSTD has 1000 bytes, it claims 1001"));
    }

    #[test]
    fn what_is_not_zstd_is_refused() {
        let body = packed(b"telemetry telemetry telemetry");
        for cut in 0..body.len() {
            assert_eq!(refusal(&body[..cut], 1000).0, ErrorCode::Protocol, "{cut} bytes of {}", body.len());
        }
        let (_, text) = refusal(b"\x0a\0\0\0\0\0\0\x05hello", 1000);
        assert!(text.starts_with("ZSTD that claims 5 bytes cannot be read: "), "{text}");
    }
}
