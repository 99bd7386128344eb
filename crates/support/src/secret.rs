//! Credentials, which must never be printed.

use std::fmt;

use subtle::ConstantTimeEq;

/// The text that is printed in place of a secret.
pub const MASK: &str = "***";

/// A credential. `Debug`, `Display` and `Serialize` write [`MASK`]. A comparison of two secrets of the same length
/// takes the same time wherever they differ.
#[derive(Clone)]
pub struct Secret(Box<str>);

/// Why a text is not a secret. The error never contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The text is empty or has only blanks, so every client would know it.
    #[error("is empty")]
    Empty,
    /// The text is too long for a HELLO.
    #[error("has {0} bytes, at most {max} are allowed", max = Secret::BYTES_MAX)]
    TooLong(usize),
    /// The text has blanks at an end or control characters. This is most likely a copy error.
    #[error("contains control characters, or blanks at its beginning or end")]
    Blanks,
    /// The text is the mask from a printed configuration.
    #[error("is the mask {MASK} that `check` prints in place of a token, not a token")]
    Mask,
}

impl Secret {
    /// Longest credential in bytes (protocol.md, HELLO).
    pub const BYTES_MAX: usize = 1_024;

    /// Accepts `text` if it can be a credential.
    ///
    /// # Errors
    /// [`SecretError`], which gives the reason and does not contain the text.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        if text.trim().is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(SecretError::TooLong(text.len()));
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(SecretError::Blanks);
        }
        if text == MASK {
            return Err(SecretError::Mask);
        }
        Ok(Self(text.into()))
    }

    /// A placeholder for a credential that will be there at the start.
    #[must_use]
    pub fn awaited() -> Self {
        Self(MASK.into())
    }

    /// Whether this is the placeholder [`Secret::awaited`]. No other secret equals the mask.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        &*self.0 == MASK
    }

    /// Whether `candidate` is this secret. Takes constant time for candidates of the same length.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// The credential itself, to send it to a server.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2").unwrap();
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("hunter2").unwrap();
        assert!(secret.matches(b"hunter2"));
        for other in [&b""[..], b"hunter", b"hunter22", b"Hunter2"] {
            assert!(!secret.matches(other));
        }
        assert_ne!(secret, Secret::new("hunter3").unwrap());
    }

    #[test]
    fn an_invalid_credential_is_refused() {
        assert_eq!(Secret::new(" \n"), Err(SecretError::Empty));
        assert_eq!(Secret::new(" a"), Err(SecretError::Blanks));
        assert_eq!(Secret::new("a\nb"), Err(SecretError::Blanks));
        assert_eq!(Secret::new(MASK), Err(SecretError::Mask));
        assert!(Secret::new(&"a".repeat(1024)).is_ok());
        assert_eq!(Secret::new(&"a".repeat(1025)), Err(SecretError::TooLong(1025)));
    }
}
