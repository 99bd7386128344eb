//! A cursor over one body. A body that is too short becomes the error of the current message.

use frame::Lanes;

use super::WireError;

/// Reads big-endian fields of `message` one after the other.
pub(super) struct Fields<'a> {
    message: &'static str,
    body: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Starts after the type byte.
    pub(super) fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { message, body, at: 1 }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.saturating_add(count);
        let field = self.body.get(self.at..end).ok_or_else(|| {
            WireError::protocol(format!(
                "{} of {} bytes is too short, its fields need {end} or more",
                self.message,
                self.body.len()
            ))
        })?;
        self.at = end;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A value for each lane, the emergency lane's first.
    pub(super) fn lanes(&mut self) -> Result<Lanes<u64>, WireError> {
        Ok(Lanes::new(self.u64()?, self.u64()?))
    }

    pub(super) fn text(&mut self, field: &str, count: usize) -> Result<&'a str, WireError> {
        let message = self.message;
        std::str::from_utf8(self.bytes(count)?)
            .map_err(|_| WireError::protocol(format!("{field} of {message} is not UTF-8")))
    }

    /// The rest of the body as text. Bytes that are not UTF-8 are replaced.
    pub(super) fn rest_lossy(self) -> String {
        String::from_utf8_lossy(&self.body[self.at..]).into_owned()
    }
}
