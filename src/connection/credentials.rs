//! Which client may speak for which source, and which client may read it.

use std::collections::BTreeSet;
use std::fmt;

use subtle::ConstantTimeEq;

use crate::frame::{Selection, Station, StreamKey};
use crate::wire::{ErrorCode, WireError};

/// A token and its rights; an empty set means all.
#[derive(Clone)]
pub struct Credential {
    /// The secret.
    pub token: String,
    /// The sources that it may speak for and read.
    pub sources: BTreeSet<u32>,
    /// The stations that it may speak for.
    pub stations: BTreeSet<Station>,
}

impl Credential {
    fn has_source(&self, source_id: u32) -> bool {
        self.sources.is_empty() || self.sources.contains(&source_id)
    }

    fn has_station(&self, station: &Station) -> bool {
        self.stations.is_empty() || self.stations.contains(station)
    }
}

impl fmt::Debug for Credential {
    /// The token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("sources", &self.sources)
            .field("stations", &self.stations)
            .finish_non_exhaustive()
    }
}

/// All credentials. An empty list lets every client in.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<Credential>);

impl Credentials {
    /// Lets in the clients that have one of these credentials.
    #[must_use]
    pub const fn new(credentials: Vec<Credential>) -> Self {
        Self(credentials)
    }

    /// Returns the part of `selection` that `token` may read. Without named sources, that is all sources it
    /// may read.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token, `forbidden` for a named source that the token may not read.
    pub fn narrow(&self, token: &str, selection: Selection) -> Result<Selection, WireError> {
        let allowed = self.known(token)?;
        if allowed.iter().any(|known| known.sources.is_empty()) || allowed.is_empty() {
            return Ok(selection);
        }
        let is_allowed = |source: &u32| allowed.iter().any(|known| known.has_source(*source));
        if let Some(source) = selection.sources().iter().find(|source| !is_allowed(source)) {
            let text = format!("this token does not admit frames of source {source}");
            return Err(WireError::new(ErrorCode::Forbidden, text));
        }
        if !selection.sources().is_empty() {
            return Ok(selection);
        }
        let sources = Selection::of_sources(allowed.iter().flat_map(|known| &known.sources).copied());
        Ok(sources.with_priority(selection.priority).with_kind(selection.kind))
    }

    /// Checks whether `token` may speak for `stream`. Compares every token, each in constant time.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token, `forbidden` for a source or a station that the token may not
    /// speak for.
    pub fn check(&self, token: &str, stream: &StreamKey) -> Result<(), WireError> {
        let StreamKey { source_id, station, .. } = stream;
        let known = self.known(token)?;
        let mut of_source = known.iter().filter(|known| known.has_source(*source_id)).peekable();
        let text = if known.is_empty() {
            return Ok(());
        } else if of_source.peek().is_none() {
            format!("this token does not admit source {source_id}")
        } else if of_source.any(|known| known.has_station(station)) {
            return Ok(());
        } else {
            format!("this token does not admit source {source_id} from station {:?}", station.as_str())
        };
        Err(WireError::new(ErrorCode::Forbidden, text))
    }

    /// The entries with this token; none where every client is let in.
    fn known(&self, token: &str) -> Result<Vec<&Credential>, WireError> {
        let same = |known: &&Credential| bool::from(known.token.as_bytes().ct_eq(token.as_bytes()));
        let allowed: Vec<_> = self.0.iter().filter(same).collect();
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
    use crate::frame::SourceKind;

    fn credential(token: &str, sources: &[u32]) -> Credential {
        let (sources, stations) = (sources.iter().copied().collect(), BTreeSet::new());
        Credential { token: token.to_owned(), sources, stations }
    }

    fn stream(source_id: u32, station: &str) -> StreamKey {
        let station = Station::new(station).unwrap();
        StreamKey { source_id, source_kind: SourceKind::LiveUplink, station }
    }

    #[test]
    fn a_token_admits_only_its_sources() {
        let credentials = Credentials::new(vec![credential("all", &[]), credential("two", &[1, 2])]);
        let code =
            |token, source| credentials.check(token, &stream(source, "anywhere")).map_err(|error| error.code);
        assert_eq!(code("all", 9), Ok(()));
        assert_eq!(code("two", 2), Ok(()));
        assert_eq!(code("two", 3), Err(ErrorCode::Forbidden));
        assert_eq!(code("tw", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(code("", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(Credentials::default().check("", &stream(1, "anywhere")), Ok(()));
        assert!(!format!("{credentials:?}").contains("two"));
    }

    #[test]
    fn a_token_with_stations_admits_only_those() {
        let at = |sources: &[u32], stations: &[&str]| Credential {
            stations: stations.iter().map(|name| Station::new(name).unwrap()).collect(),
            ..credential("t", sources)
        };
        let credentials = Credentials::new(vec![at(&[1, 2], &["svalbard", ""]), at(&[3], &["kiruna"])]);
        let text = |source, station| {
            credentials.check("t", &stream(source, station)).map_err(|error| (error.code, error.text))
        };
        for (source, station) in [(1, "svalbard"), (2, ""), (3, "kiruna")] {
            assert_eq!(text(source, station), Ok(()), "{source} {station}");
        }
        for (source, station) in [(1, "kiruna"), (3, "svalbard"), (3, ""), (1, "Svalbard")] {
            let said = format!("this token does not admit source {source} from station {station:?}");
            assert_eq!(text(source, station), Err((ErrorCode::Forbidden, said)));
        }
        let said = "this token does not admit source 4".to_owned();
        assert_eq!(text(4, "kiruna"), Err((ErrorCode::Forbidden, said)), "the source is judged first");
    }

    #[test]
    fn a_selection_is_narrowed_to_the_sources_of_the_token() {
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
