//! Who may speak for which source.

use std::collections::BTreeSet;
use std::fmt;

use subtle::ConstantTimeEq;

use crate::wire::{ErrorCode, WireError};

/// A token and the sources it may speak for; an empty set means all.
#[derive(Clone)]
pub struct Credential {
    /// The secret.
    pub token: String,
    /// The sources.
    pub sources: BTreeSet<u32>,
}

impl fmt::Debug for Credential {
    /// The token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// All credentials; none at all lets everyone in.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<Credential>);

impl Credentials {
    /// Lets in who has one of these.
    #[must_use]
    pub const fn new(credentials: Vec<Credential>) -> Self {
        Self(credentials)
    }

    /// Judges `token` speaking for `source_id`. Every token is compared, each in constant time.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token, `forbidden` for a source it may not speak for.
    pub fn check(&self, token: &str, source_id: u32) -> Result<(), WireError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (mut known, mut allowed) = (false, false);
        for credential in &self.0 {
            let same = bool::from(credential.token.as_bytes().ct_eq(token.as_bytes()));
            known |= same;
            allowed |= same & (credential.sources.is_empty() || credential.sources.contains(&source_id));
        }
        match (known, allowed) {
            (true, true) => Ok(()),
            (true, false) => Err(WireError::new(
                ErrorCode::Forbidden,
                format!("this token may not speak for source {source_id}"),
            )),
            (false, _) if token.is_empty() => {
                Err(WireError::new(ErrorCode::Unauthorized, "a token is needed here, HELLO has none"))
            }
            (false, _) => Err(WireError::new(ErrorCode::Unauthorized, "unknown token")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_sources_alone() {
        let credential = |token: &str, sources: &[u32]| Credential {
            token: token.to_owned(),
            sources: sources.iter().copied().collect(),
        };
        let credentials = Credentials::new(vec![credential("all", &[]), credential("two", &[1, 2])]);
        let code = |token, source| credentials.check(token, source).map_err(|error| error.code);
        assert_eq!(code("all", 9), Ok(()));
        assert_eq!(code("two", 2), Ok(()));
        assert_eq!(code("two", 3), Err(ErrorCode::Forbidden));
        assert_eq!(code("tw", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(code("", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(Credentials::default().check("", 1), Ok(()));
        assert!(!format!("{credentials:?}").contains("two"));
    }
}
