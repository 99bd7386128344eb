//! What each side proves, and what it asks of the other.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::error::TlsError;
use super::identity::{Authorities, Identity};
use super::provider::provider;
use super::unverified::Unverified;

/// What a server asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// No certificate.
    Nothing,
    /// A certificate of one of these authorities, or none.
    Optional(Authorities),
    /// A certificate of one of these authorities.
    Required(Authorities),
}

/// The server side of TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server(pub(crate) Arc<ServerConfig>);

impl Server {
    /// A server that proves `identity` and asks for `ask`.
    ///
    /// # Errors
    /// [`TlsError`] when the key or the authorities cannot be used.
    pub fn new(identity: &Identity, ask: &Ask) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
        let (chain, key) = identity.parts();
        let verifier = |authorities: &Authorities| {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities.roots), Arc::clone(&provider))
        };
        let verifier = match ask {
            Ask::Nothing => Ok(WebPkiClientVerifier::no_client_auth()),
            Ask::Optional(authorities) => verifier(authorities).allow_unauthenticated().build(),
            Ask::Required(authorities) => verifier(authorities).build(),
        };
        let verifier =
            verifier.map_err(|error| TlsError::Failed(rustls::Error::General(error.to_string())))?;
        let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        // No resumption: a client whose certificate has been withdrawn must not come back with a ticket.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self(Arc::new(config)))
    }
}

impl PartialEq for Server {
    /// Two are equal if one is a clone of the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Server {}

/// The client side of TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(pub(crate) Arc<ClientConfig>);

impl Client {
    /// A client that trusts `authorities`, and proves `identity` to servers that ask for it.
    ///
    /// # Errors
    /// [`TlsError`] when the key cannot be used.
    pub fn new(authorities: &Authorities, identity: Option<&Identity>) -> Result<Self, TlsError> {
        let roots: Arc<RootCertStore> = Arc::clone(&authorities.roots);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let mut config = match identity.map(Identity::parts) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// A client of a server on this host. It does not verify the name of the server: a program that can intercept
    /// connections within this host has more rights than the client anyway.
    ///
    /// # Errors
    /// [`TlsError`] when the provider has no TLS 1.3. The provider of this crate has it.
    pub fn of_this_host() -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider())))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

impl PartialEq for Client {
    /// Two are equal if one is a clone of the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Client {}

/// The name in `address`, which is `host:port`, that the certificate of the server must have.
pub(crate) fn server_name(address: &str) -> Result<ServerName<'static>, TlsError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| {
        TlsError::Failed(rustls::Error::General(format!("{host:?} is neither a host name nor an IP address")))
    })
}
