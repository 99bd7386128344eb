//! GET and POST over HTTP/1.1, for our own commands: one request per connection, limited in size and time.
//!
//! A complete client library would make `health` start too slowly, and `top` does not need one. This crate never
//! depends on the server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use api::NOT_TLS;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Method, Request, StatusCode, Uri, request};
use bytes::Bytes;
use http_body_util::Full;
use thiserror::Error;
use tls::{Socket, TlsError};
use tokio::net::TcpStream;
use tokio::time::timeout;

use support::secret::Secret;

mod answer;
#[cfg(test)]
mod tests;

pub use answer::Answer;

/// The media type of the API.
const JSON: &str = "application/json";
/// Port of a URL without a port, in clear text and encrypted.
const PORTS: [u16; 2] = [80, 443];

/// Base URL of a daemon, such as `http://127.0.0.1:7482` or `https://centre.example:7482`. Its path is a prefix of every requested path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port as in the text.
    authority: String,
    /// Name or address, without brackets.
    host: String,
    port: u16,
    prefix: String,
    /// Addresses to try in order instead of `host`. May be empty.
    addresses: Vec<SocketAddr>,
    /// The scheme is `https`.
    is_encrypted: bool,
    /// The authorities to trust with `https`.
    tls: Option<tls::Client>,
    /// Whether to try the other scheme where the listener does not speak this one.
    tries_both: bool,
}

/// Why a text is not a URL that this client can use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("\"{0}\" is not a URL, expected one such as http://127.0.0.1:7482")]
    Malformed(String),
    /// Another scheme than `http` and `https`.
    #[error("\"{0}\" is neither http:// nor https://, expected a URL such as http://127.0.0.1:7482")]
    Scheme(String),
    /// The URL has a user, a query or a fragment.
    #[error("a user, a query or a fragment is not for this URL: expected one such as http://127.0.0.1:7482")]
    Excess,
}

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time from the connect to the last byte.
    pub time: Duration,
    /// Largest body of the response.
    pub body_bytes: u64,
}

/// Why there is no response.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The path or the token cannot be sent.
    #[error("this cannot be sent over HTTP: {0}")]
    Request(String),
    /// The connect failed.
    #[error("cannot connect: {}", plain(.0))]
    Connect(#[source] io::Error),
    /// The request took longer than [`Limits::time`].
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection failed during the exchange.
    #[error("the connection broke: {}", plain(.0))]
    Broken(#[from] io::Error),
    /// The connection ended before the response was complete.
    #[error("the connection ended in the middle of the answer")]
    Truncated,
    /// The server does not speak HTTP/1.
    #[error("this is not HTTP: {0}")]
    Malformed(String),
    /// The body is larger than [`Limits::body_bytes`], or the head is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
}

/// The text of a common error without the number of the system's error.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

impl Url {
    /// The URL of a listener at `listen` from this host. A listener on all addresses is reached on loopback.
    #[must_use]
    pub fn of_listener(listen: SocketAddr) -> Self {
        let port = listen.port();
        let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let addresses = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
            // A container may have [::] but no ::1.
            IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
            _ => vec![listen],
        };
        let first = addresses[0];
        Self {
            authority: first.to_string(),
            host: first.ip().to_string(),
            port,
            prefix: String::new(),
            addresses,
            is_encrypted: false,
            tls: None,
            tries_both: false,
        }
    }

    /// This URL, which also tries the other scheme. For a listener on loopback: the file that names its scheme may be newer
    /// than the configuration in force.
    ///
    /// # Errors
    /// When TLS cannot be used.
    pub fn either_scheme(self) -> Result<Self, TlsError> {
        Ok(Self { tries_both: true, tls: Some(tls::Client::of_this_host()?), ..self })
    }

    /// This URL with `https`. `tls` holds the authorities to trust.
    #[must_use]
    pub fn encrypted(self, tls: tls::Client) -> Self {
        Self { is_encrypted: true, tls: Some(tls), ..self }
    }

    /// Whether the listener is on loopback, so that no connection leaves the host.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        !self.addresses.is_empty() && self.addresses.iter().all(|address| address.ip().is_loopback())
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Sends GET for `path`, which begins with a slash. Returns the response with any status.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn get(&self, path: &str, limits: Limits) -> Result<Answer, ClientError> {
        self.exchange(self.request(Method::GET, path), Bytes::new(), limits).await
    }

    /// Sends POST with the JSON `body` and the `token`. Everything else is as in [`Self::get`].
    ///
    /// # Errors
    /// See [`ClientError`]. After an error the caller does not know whether the daemon has carried out the request.
    pub async fn post(
        &self,
        path: &str,
        body: &[u8],
        token: Option<&Secret>,
        limits: Limits,
    ) -> Result<Answer, ClientError> {
        let mut request = self.request(Method::POST, path).header(CONTENT_TYPE, JSON);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        self.exchange(request, Bytes::copy_from_slice(body), limits).await
    }

    /// A request that closes the connection behind its answer.
    fn request(&self, method: Method, path: &str) -> request::Builder {
        const AGENT: &str = concat!("telemetry-aggregator/", env!("CARGO_PKG_VERSION"));
        let Self { authority, prefix, .. } = self;
        Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, authority)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, AGENT)
            .header(CONNECTION, "close")
    }

    async fn exchange(
        &self,
        request: request::Builder,
        body: Bytes,
        limits: Limits,
    ) -> Result<Answer, ClientError> {
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| ClientError::Request(error.to_string()))?;
        let ask = async |is_encrypted| {
            let socket = self.connect(is_encrypted).await.map_err(ClientError::Connect)?;
            Answer::read(socket, request.clone(), limits.body_bytes).await
        };
        let exchange = async {
            match ask(self.is_encrypted).await {
                answer if self.tries_both && is_other_scheme(&answer) => ask(!self.is_encrypted).await,
                answer => answer,
            }
        };
        timeout(limits.time, exchange).await.unwrap_or(Err(ClientError::Timeout(limits.time)))
    }

    async fn connect(&self, is_encrypted: bool) -> io::Result<Socket> {
        let tcp = if self.addresses.is_empty() {
            TcpStream::connect((self.host.as_str(), self.port)).await?
        } else {
            TcpStream::connect(&self.addresses[..]).await?
        };
        let address = format!("{}:{}", self.host, self.port);
        let tls = self.tls.as_ref().filter(|_| is_encrypted);
        let mut socket = Socket::connected(tcp, &address, tls)?;
        socket.handshake().await?;
        Ok(socket)
    }
}

/// Whether the listener speaks the other scheme.
fn is_other_scheme(answer: &Result<Answer, ClientError>) -> bool {
    match answer {
        Ok(answer) => answer.status == StatusCode::BAD_REQUEST && answer.body == NOT_TLS.as_bytes(),
        Err(ClientError::Connect(error)) => TlsError::of(error).is_some_and(TlsError::is_plain_server),
        Err(_) => false,
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed(text.to_owned()))?;
        let Some(authority) = uri.authority() else {
            return Err(UrlError::Malformed(text.to_owned()));
        };
        let is_encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if uri.query().is_some() || authority.as_str().contains('@') || text.contains('#') {
            return Err(UrlError::Excess);
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None => Some(PORTS[usize::from(is_encrypted)]),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let Some(port) = port.filter(|_| !host.is_empty()) else {
            return Err(UrlError::Malformed(text.to_owned()));
        };
        Ok(Self {
            authority: authority.as_str().to_owned(),
            host: host.to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            addresses: Vec::new(),
            is_encrypted,
            tls: None,
            tries_both: false,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}
