//! Which client may speak for which source, and which client may read it.

use std::collections::BTreeSet;
use std::fmt;

use subtle::ConstantTimeEq;

use frame::{Selection, Station, StreamKey};
use wire::{ErrorCode, WireError};

/// What a client may speak for or read; an empty set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The sources that it may speak for and read.
    pub sources: BTreeSet<u32>,
    /// The stations that it may speak for.
    pub stations: BTreeSet<Station>,
}

impl Rights {
    fn has_source(&self, source_id: u32) -> bool {
        self.sources.is_empty() || self.sources.contains(&source_id)
    }

    fn has_station(&self, station: &Station) -> bool {
        self.stations.is_empty() || self.stations.contains(station)
    }
}

/// A token and its rights.
#[derive(Clone)]
pub struct Credential {
    /// The secret.
    pub token: String,
    /// What a client with this token may do.
    pub rights: Rights,
}

impl fmt::Debug for Credential {
    /// The token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// A client that proves its name by a certificate, and its rights.
#[derive(Clone, Debug)]
pub struct CertifiedClient {
    /// A name in the certificate, in small letters.
    pub name: String,
    /// What this client may do.
    pub rights: Rights,
}

/// What a client has shown.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The token; empty for none.
    pub token: &'a str,
    /// The names in its certificate, which was verified; `None` without a certificate.
    pub names: Option<&'a [String]>,
}

/// All credentials. Without any, every client is let in.
///
/// A client shows a token or a certificate. What it shows must be known. One that shows both may do what both allow.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The tokens. Without any, no token is asked for.
    tokens: Vec<Credential>,
    /// The clients with a certificate. Without any, a certificate proves nothing.
    clients: Vec<CertifiedClient>,
}

/// The rights that one proof of a client gives.
struct Grant<'a> {
    /// How messages name the proof.
    by: &'static str,
    /// The rights of each entry that fits the proof. A client may do what one of them allows.
    rights: Vec<&'a Rights>,
}

impl Credentials {
    /// Lets in the clients with one of these tokens, or with a certificate for one of these names.
    #[must_use]
    pub const fn new(tokens: Vec<Credential>, clients: Vec<CertifiedClient>) -> Self {
        Self { tokens, clients }
    }

    /// Returns the part of `selection` that a client with this proof may read. Without named sources, that is all
    /// sources it may read.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token or certificate, `forbidden` for a named source that the client may not read.
    pub fn narrow(&self, proof: Proof<'_>, selection: Selection) -> Result<Selection, WireError> {
        let grants = self.grants(proof)?;
        for source in selection.sources() {
            if let Some(grant) = grants.iter().find(|grant| !grant.has_source(*source)) {
                let text = format!("this {} does not admit frames of source {source}", grant.by);
                return Err(WireError::new(ErrorCode::Forbidden, text));
            }
        }
        let allowed = grants.iter().filter_map(Grant::sources).reduce(|a, b| &a & &b);
        match allowed {
            Some(allowed) if selection.sources().is_empty() && allowed.is_empty() => {
                let text = "this certificate and this token admit no source in common";
                Err(WireError::new(ErrorCode::Forbidden, text))
            }
            Some(allowed) if selection.sources().is_empty() => {
                let sources = Selection::of_sources(allowed);
                Ok(sources.with_priority(selection.priority).with_kind(selection.kind))
            }
            _ => Ok(selection),
        }
    }

    /// Checks whether a client with this proof may speak for `stream`. Compares every token, each in constant time.
    ///
    /// # Errors
    /// `unauthorized` for an unknown token or certificate, `forbidden` for a source or a station that the client may
    /// not speak for.
    pub fn check(&self, proof: Proof<'_>, stream: &StreamKey) -> Result<(), WireError> {
        self.grants(proof)?.iter().try_for_each(|grant| grant.check(stream))
    }

    /// What each proof of the client gives. None where every client is let in.
    fn grants(&self, proof: Proof<'_>) -> Result<Vec<Grant<'_>>, WireError> {
        let certificate = proof.names.filter(|_| !self.clients.is_empty());
        let certificate = certificate.map(|names| self.by_names(names)).transpose()?;
        let needs_token = certificate.is_none() || !proof.token.is_empty();
        let token = if needs_token { self.by_token(proof.token)? } else { None };
        if certificate.is_none() && token.is_none() && !self.clients.is_empty() {
            return Err(unauthorized("a client certificate is needed here, and none was shown"));
        }
        Ok([certificate, token].into_iter().flatten().collect())
    }

    /// What a certificate with these names gives.
    fn by_names(&self, names: &[String]) -> Result<Grant<'_>, WireError> {
        let known = self.clients.iter().filter(|client| names.contains(&client.name));
        let rights: Vec<_> = known.map(|client| &client.rights).collect();
        if rights.is_empty() {
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            return Err(unauthorized(format!("this certificate is for {names}, which is no client here")));
        }
        Ok(Grant { by: "certificate", rights })
    }

    /// What this token gives. `None` where no token is asked for.
    fn by_token(&self, token: &str) -> Result<Option<Grant<'_>>, WireError> {
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let same = |known: &&Credential| bool::from(known.token.as_bytes().ct_eq(token.as_bytes()));
        let rights: Vec<_> = self.tokens.iter().filter(same).map(|known| &known.rights).collect();
        match rights.is_empty() {
            false => Ok(Some(Grant { by: "token", rights })),
            true if token.is_empty() => Err(unauthorized("a token is needed here, and none was given")),
            true => Err(unauthorized("unknown token")),
        }
    }
}

impl Grant<'_> {
    /// Whether one entry allows both the source and the station of `stream`.
    fn check(&self, stream: &StreamKey) -> Result<(), WireError> {
        let (StreamKey { source_id, station, .. }, by) = (stream, self.by);
        let mut of_source = self.rights.iter().filter(|rights| rights.has_source(*source_id)).peekable();
        let text = if of_source.peek().is_none() {
            format!("this {by} does not admit source {source_id}")
        } else if of_source.any(|rights| rights.has_station(station)) {
            return Ok(());
        } else {
            format!("this {by} does not admit source {source_id} from station {:?}", station.as_str())
        };
        Err(WireError::new(ErrorCode::Forbidden, text))
    }

    fn has_source(&self, source_id: u32) -> bool {
        self.rights.iter().any(|rights| rights.has_source(source_id))
    }

    /// The sources; `None` for all.
    fn sources(&self) -> Option<BTreeSet<u32>> {
        if self.rights.iter().any(|rights| rights.sources.is_empty()) {
            return None;
        }
        Some(self.rights.iter().flat_map(|rights| &rights.sources).copied().collect())
    }
}

fn unauthorized(text: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::Unauthorized, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::SourceKind;

    fn rights(sources: &[u32], stations: &[&str]) -> Rights {
        let stations = stations.iter().map(|name| Station::new(name).unwrap()).collect();
        Rights { sources: sources.iter().copied().collect(), stations }
    }

    fn credential(token: &str, sources: &[u32]) -> Credential {
        Credential { token: token.to_owned(), rights: rights(sources, &[]) }
    }

    fn client(name: &str, sources: &[u32], stations: &[&str]) -> CertifiedClient {
        CertifiedClient { name: name.to_owned(), rights: rights(sources, stations) }
    }

    fn by_token(token: &str) -> Proof<'_> {
        Proof { token, names: None }
    }

    fn stream(source_id: u32, station: &str) -> StreamKey {
        let station = Station::new(station).unwrap();
        StreamKey { source_id, source_kind: SourceKind::LiveUplink, station }
    }

    #[test]
    fn a_token_admits_only_its_sources() {
        let credentials =
            Credentials::new(vec![credential("all", &[]), credential("two", &[1, 2])], Vec::new());
        let code = |token, source| {
            credentials.check(by_token(token), &stream(source, "anywhere")).map_err(|error| error.code)
        };
        assert_eq!(code("all", 9), Ok(()));
        assert_eq!(code("two", 2), Ok(()));
        assert_eq!(code("two", 3), Err(ErrorCode::Forbidden));
        assert_eq!(code("tw", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(code("", 2), Err(ErrorCode::Unauthorized));
        assert_eq!(Credentials::default().check(by_token(""), &stream(1, "anywhere")), Ok(()));
        assert!(!format!("{credentials:?}").contains("two"));
    }

    #[test]
    fn a_token_with_stations_admits_only_those() {
        let at = |sources: &[u32], stations: &[&str]| Credential {
            token: "t".to_owned(),
            rights: rights(sources, stations),
        };
        let tokens = vec![at(&[1, 2], &["svalbard", ""]), at(&[3], &["kiruna"])];
        let credentials = Credentials::new(tokens, Vec::new());
        let text = |source, station| {
            credentials
                .check(by_token("t"), &stream(source, station))
                .map_err(|error| (error.code, error.text))
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
        let credentials =
            Credentials::new(vec![credential("all", &[]), credential("two", &[1, 2])], Vec::new());
        let narrow = |token, sources: &[u32]| {
            let narrowed =
                credentials.narrow(by_token(token), Selection::of_sources(sources.iter().copied()));
            narrowed.map(|selection| selection.sources().to_vec()).map_err(|error| error.code)
        };
        assert_eq!(narrow("all", &[]), Ok(vec![]));
        assert_eq!(narrow("all", &[7]), Ok(vec![7]));
        assert_eq!(narrow("two", &[]), Ok(vec![1, 2]));
        assert_eq!(narrow("two", &[2]), Ok(vec![2]));
        assert_eq!(narrow("two", &[2, 3]), Err(ErrorCode::Forbidden));
        assert_eq!(narrow("", &[]), Err(ErrorCode::Unauthorized));
        assert!(Credentials::default().narrow(by_token(""), Selection::default()).unwrap().is_all());
    }

    #[test]
    fn a_certificate_counts_for_its_names_and_beside_a_token_the_narrower_wins() {
        let clients = vec![client("kiruna.example", &[1, 2], &["kiruna"]), client("all.example", &[], &[])];
        let tokens = vec![credential("two", &[2, 3]), credential("nine", &[9])];
        let both = Credentials::new(tokens, clients.clone());
        let only_clients = Credentials::new(Vec::new(), clients);
        let check = |credentials: &Credentials, token: &str, names: Option<&[&str]>, source| {
            let names: Option<Vec<String>> =
                names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let proof = Proof { token, names: names.as_deref() };
            let checked = credentials.check(proof, &stream(source, "kiruna"));
            checked.map_err(|error| format!("{}: {}", error.code.name(), error.text))
        };
        let kiruna = Some(&["elsewhere.example", "kiruna.example"][..]);
        assert_eq!(check(&only_clients, "", kiruna, 1), Ok(()));
        assert_eq!(check(&only_clients, "any", kiruna, 1), Ok(()), "no token is asked for");
        assert_eq!(check(&both, "", kiruna, 1), Ok(()), "a certificate needs no token");
        assert_eq!(check(&both, "two", None, 3), Ok(()), "a token needs no certificate");
        assert_eq!(check(&both, "two", kiruna, 2), Ok(()));
        for (credentials, token, names, source, said) in [
            (&only_clients, "", kiruna, 3, "forbidden: this certificate does not admit source 3"),
            (&both, "two", kiruna, 1, "forbidden: this token does not admit source 1"),
            (&both, "two", kiruna, 3, "forbidden: this certificate does not admit source 3"),
            (&both, "six", kiruna, 1, "unauthorized: unknown token"),
            (&both, "", None, 1, "unauthorized: a token is needed here, and none was given"),
            (
                &only_clients,
                "",
                None,
                1,
                "unauthorized: a client certificate is needed here, and none was shown",
            ),
            (
                &both,
                "two",
                Some(&["x.example"][..]),
                2,
                "unauthorized: this certificate is for x.example, which is no client here",
            ),
            (
                &both,
                "",
                Some(&[][..]),
                2,
                "unauthorized: this certificate is for no name, which is no client here",
            ),
        ] {
            assert_eq!(check(credentials, token, names, source), Err(said.to_owned()));
        }
        let names = ["kiruna.example".to_owned()];
        let narrow = |token, sources: &[u32]| {
            let proof = Proof { token, names: Some(&names) };
            let narrowed = both.narrow(proof, Selection::of_sources(sources.iter().copied()));
            narrowed.map(|selection| selection.sources().to_vec()).map_err(|error| error.code)
        };
        assert_eq!(narrow("", &[]), Ok(vec![1, 2]));
        assert_eq!(narrow("two", &[]), Ok(vec![2]));
        assert_eq!(narrow("two", &[1]), Err(ErrorCode::Forbidden));
        assert_eq!(narrow("nine", &[]), Err(ErrorCode::Forbidden), "nothing in common");
    }
}
