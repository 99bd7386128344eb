//! What the files of `[tls]` hold, and what each side of the daemon does with it.

use tls::{Authorities, Client, Identity, Server};

/// What the files of `[tls]` hold. Two are equal if their certificates, keys and authorities are.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The certificate and the key.
    pub identity: Option<Identity>,
    /// The trusted authorities.
    pub authorities: Option<Authorities>,
    /// What each side of the daemon does with them.
    pub sides: TlsSides,
}

/// What each side of the daemon needs to speak TLS. `None` for what is not encrypted.
#[derive(Clone, Debug, Default)]
pub struct TlsSides {
    /// For sources.
    pub ingest: Option<Server>,
    /// For subscribers.
    pub feed: Option<Server>,
    /// For operators.
    pub http: Option<Server>,
    /// For links that listen.
    pub listening_link: Option<Server>,
    /// For links that connect. They show the daemon's certificate to peers that ask for one.
    pub connecting_link: Option<Client>,
}

impl PartialEq for TlsFiles {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.authorities == other.authorities
    }
}

impl Eq for TlsFiles {}
