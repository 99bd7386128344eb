//! Who may speak for which source, and who may be told of it.

use std::collections::BTreeSet;
use std::fmt;

use subtle::ConstantTimeEq;

use crate::frame::Selection;
use crate::wire::{ErrorCode, WireError};

/// A token and the sources it reaches; an empty set means all.
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

    /// What is left of `selection` for `token`: without named sources, those that it may be told of.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token, `forbidden` for a named source it may not be told of.
    pub fn narrow(&self, token: &str, selection: Selection) -> Result<Selection, WireError> {
        let mut allowed = self.known(token)?;
        if allowed.iter().any(|sources| sources.is_empty()) || allowed.is_empty() {
            return Ok(selection);
        }
        if let Some(source) =
            selection.sources().iter().find(|source| !allowed.iter().any(|sources| sources.contains(source)))
        {
            let text = format!("this token may not be told of source {source}");
            return Err(WireError::new(ErrorCode::Forbidden, text));
        }
        if !selection.sources().is_empty() {
            return Ok(selection);
        }
        let sources = Selection::of_sources(allowed.drain(..).flatten().copied());
        Ok(sources.with_priority(selection.priority).with_kind(selection.kind))
    }

    /// Judges `token` speaking for `source_id`. Every token is compared, each in constant time.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token, `forbidden` for a source it may not speak for.
    pub fn check(&self, token: &str, source_id: u32) -> Result<(), WireError> {
        let allowed = self.known(token)?;
        if allowed.is_empty()
            || allowed.iter().any(|sources| sources.is_empty() || sources.contains(&source_id))
        {
            return Ok(());
        }
        let text = format!("this token may not speak for source {source_id}");
        Err(WireError::new(ErrorCode::Forbidden, text))
    }

    /// The sources of each entry with this token; none at all where everyone is let in.
    fn known(&self, token: &str) -> Result<Vec<&BTreeSet<u32>>, WireError> {
        let same = |known: &&Credential| bool::from(known.token.as_bytes().ct_eq(token.as_bytes()));
        let allowed: Vec<_> = self.0.iter().filter(same).map(|known| &known.sources).collect();
        if !allowed.is_empty() || self.0.is_empty() {
            return Ok(allowed);
        }
        let text =
            if token.is_empty() { "a token is needed here, and none was given" } else { "unknown token" };
        Err(WireError::new(ErrorCode::Unauthorized, text))
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

    #[test]
    fn a_selection_is_narrowed_to_what_the_token_reaches() {
        let credential = |token: &str, sources: &[u32]| Credential {
            token: token.to_owned(),
            sources: sources.iter().copied().collect(),
        };
        let credentials = Credentials::new(vec![credential("all", &[]), credential("two", &[1, 2])]);
        let narrow = |token, sources: &[u32]| {
            let narrowed = credentials.narrow(token, Selection::of_sources(sources.iter().copied()));
            narrowed.map(|selection| selection.sources().to_vec()).map_err(|error| error.code)
        };
        assert_eq!(narrow("all", &[]), Ok(vec![]));
        assert_eq!(narrow("all", &[7]), Ok(vec![7]));
        assert_eq!(narrow("two", &[]), Ok(vec![1, 2]));
        assert_eq!(narrow("two", &[2]), Ok(vec![2]));
        assert_eq!(narrow("two", &[2, 3]), Err(ErrorCode::Forbidden));
        assert_eq!(narrow("", &[]), Err(ErrorCode::Unauthorized));
        assert!(Credentials::default().narrow("", Selection::default()).unwrap().is_all());
    }
}
