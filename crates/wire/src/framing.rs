//! `u32 big-endian length | body`: cuts a byte stream into bodies.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{ErrorCode, WireError};

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;
/// Longest body before WELCOME or SUBSCRIBED, in bytes.
pub const HANDSHAKE_BODY_BYTES_MAX: usize = 4096;

/// Appends one message: the length prefix, then the bytes that `write_body` writes.
pub(super) fn encode(out: &mut BytesMut, write_body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    write_body(out);
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[start..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Length of the body whose prefix begins `bytes`; `None` while the prefix is incomplete.
#[inline]
fn body_length(bytes: &[u8], body_bytes_max: usize) -> Result<Option<usize>, WireError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let claimed = u32::from_be_bytes(*prefix);
    match usize::try_from(claimed) {
        Ok(length) if length <= body_bytes_max => Ok(Some(length)),
        _ => Err(too_large(claimed, body_bytes_max)),
    }
}

#[cold]
fn too_large(claimed: u32, body_bytes_max: usize) -> WireError {
    let text = format!("message of {claimed} bytes, at most {body_bytes_max} are allowed here");
    WireError::new(ErrorCode::TooLarge, text).with_detail(u64::from(claimed))
}

/// Takes the first body from `buffer`, without its prefix; `None` while the body is incomplete.
///
/// # Errors
/// `too_large` as soon as the prefix claims more than `body_bytes_max`.
pub fn next_body(buffer: &mut BytesMut, body_bytes_max: usize) -> Result<Option<Bytes>, WireError> {
    let mut bodies = cut(buffer, body_bytes_max);
    let is_whole = bodies.next().is_some();
    let (end, checked) = bodies.end();
    checked?;
    if !is_whole {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(end - PREFIX_BYTES).freeze()))
}

/// Finds the complete messages at the front of a buffer. The iterator returns each body and its position in
/// the buffer.
#[derive(Debug)]
pub struct Cut<'a> {
    bytes: &'a [u8],
    at: usize,
    body_bytes_max: usize,
    checked: Result<(), WireError>,
}

/// Starts to cut `bytes`. Bodies may have up to `body_bytes_max` bytes.
#[must_use]
pub fn cut(bytes: &[u8], body_bytes_max: usize) -> Cut<'_> {
    Cut { bytes, at: 0, body_bytes_max, checked: Ok(()) }
}

impl<'a> Iterator for Cut<'a> {
    type Item = (usize, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        match body_length(rest, self.body_bytes_max) {
            Ok(Some(length)) => {
                let body = rest.get(PREFIX_BYTES..PREFIX_BYTES + length)?;
                let start = self.at + PREFIX_BYTES;
                self.at = start + length;
                Some((start, body))
            }
            Ok(None) => None,
            Err(error) => {
                self.checked = Err(error);
                None
            }
        }
    }
}

impl Cut<'_> {
    /// Returns the position behind the messages found, and `too_large` if the next prefix claims more than
    /// the limit. The messages before it are valid nevertheless.
    ///
    /// # Errors
    /// Returned beside the position; see above.
    pub fn end(self) -> (usize, Result<(), WireError>) {
        (self.at, self.checked)
    }
}

/// All complete messages of a buffer as one shared piece of memory. The iterator returns the bodies.
///
/// The memory is frozen once for all messages, not once per message. This keeps a body cheap.
#[derive(Debug)]
pub struct Bodies {
    whole: Bytes,
    at: usize,
}

impl Bodies {
    /// Whether there was no complete message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }
}

impl Iterator for Bodies {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let prefix = self.whole.get(self.at..)?.first_chunk::<PREFIX_BYTES>()?;
        let start = self.at + PREFIX_BYTES;
        self.at = start + u32::from_be_bytes(*prefix) as usize;
        Some(self.whole.slice(start..self.at))
    }
}

/// Takes all complete messages from the front of `buffer`.
///
/// Also returns `too_large` if the next prefix claims more than `body_bytes_max`. The messages before it are
/// valid nevertheless.
pub fn take_bodies(buffer: &mut BytesMut, body_bytes_max: usize) -> (Bodies, Result<(), WireError>) {
    let mut bodies = cut(buffer, body_bytes_max);
    bodies.by_ref().for_each(drop);
    let (end, checked) = bodies.end();
    (Bodies { whole: buffer.split_to(end).freeze(), at: 0 }, checked)
}

/// Number of bytes that the incomplete message at the front of `buffer` lacks; 0 while its length is unknown.
#[must_use]
pub fn missing_bytes(buffer: &[u8]) -> usize {
    buffer.first_chunk::<PREFIX_BYTES>().map_or(0, |prefix| {
        (PREFIX_BYTES + u32::from_be_bytes(*prefix) as usize).saturating_sub(buffer.len())
    })
}
