//! `u32 big-endian length | body`: cutting a byte stream into bodies.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{ErrorCode, WireError};

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;
/// Longest body before WELCOME or SUBSCRIBED, in bytes.
pub const HANDSHAKE_BODY_BYTES_MAX: usize = 4096;

/// Appends one message: the length prefix, then what `write_body` puts.
pub(super) fn encode(out: &mut BytesMut, write_body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    write_body(out);
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[start..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Length of the body whose prefix opens `bytes`; `None` while the prefix is incomplete.
fn body_length(bytes: &[u8], body_bytes_max: usize) -> Result<Option<usize>, WireError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let claimed = u32::from_be_bytes(*prefix);
    match usize::try_from(claimed) {
        Ok(length) if length <= body_bytes_max => Ok(Some(length)),
        _ => Err(WireError::new(
            ErrorCode::TooLarge,
            format!("message of {claimed} bytes, at most {body_bytes_max} are allowed here"),
        )
        .with_detail(u64::from(claimed))),
    }
}

/// Takes the first body off `buffer`, without its prefix; `None` while it is incomplete.
///
/// # Errors
/// `too_large` as soon as the prefix claims more than `body_bytes_max`.
pub fn next_body(buffer: &mut BytesMut, body_bytes_max: usize) -> Result<Option<Bytes>, WireError> {
    let Some(length) = body_length(buffer, body_bytes_max)? else {
        return Ok(None);
    };
    if buffer.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// All whole messages of a buffer as one shared piece of memory: iterate for the bodies.
///
/// Freezing once for all of them, and not once per message, is what keeps a body cheap.
#[derive(Debug)]
pub struct Bodies {
    whole: Bytes,
    at: usize,
}

impl Bodies {
    /// All messages with their prefixes; a slice of any of them keeps all of it in memory.
    #[must_use]
    pub const fn whole(&self) -> &Bytes {
        &self.whole
    }

    /// The bodies, and where each begins in [`Bodies::whole`].
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = self.at;
        std::iter::from_fn(move || {
            let start = at + PREFIX_BYTES;
            let prefix = self.whole.get(at..)?.first_chunk::<PREFIX_BYTES>()?;
            at = start + u32::from_be_bytes(*prefix) as usize;
            Some((start, &self.whole[start..at]))
        })
    }
}

impl Iterator for Bodies {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (start, body) = self.iter().next()?;
        self.at = start + body.len();
        Some(self.whole.slice(start..self.at))
    }
}

/// Takes all whole messages off the front of `buffer`.
///
/// Beside them comes `too_large` where the prefix after them claims more than `body_bytes_max`: the
/// messages before it still count.
pub fn take_bodies(buffer: &mut BytesMut, body_bytes_max: usize) -> (Bodies, Result<(), WireError>) {
    let mut end = 0;
    let judged = loop {
        match body_length(&buffer[end..], body_bytes_max) {
            Ok(Some(length)) if buffer.len() - end >= PREFIX_BYTES + length => end += PREFIX_BYTES + length,
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (Bodies { whole: buffer.split_to(end).freeze(), at: 0 }, judged)
}

/// How many bytes the incomplete message at the front of `buffer` still lacks; 0 when it is not known yet.
#[must_use]
pub fn missing_bytes(buffer: &[u8]) -> usize {
    buffer.first_chunk::<PREFIX_BYTES>().map_or(0, |prefix| {
        (PREFIX_BYTES + u32::from_be_bytes(*prefix) as usize).saturating_sub(buffer.len())
    })
}
