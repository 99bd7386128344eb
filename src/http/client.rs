//! GET and POST over HTTP/1.1, for our own commands: plain `http://`, one request a connection, bounded in size and time.
//!
//! A whole client library would be more than `health` may take to start and more than `top` needs.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Method, Request, Uri, request};
use bytes::Bytes;
use http_body_util::Full;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Secret;

mod answer;
#[cfg(test)]
mod tests;

pub use answer::Answer;

/// What our API takes and gives.
const JSON: &str = "application/json";
/// Port of a URL that names none.
const PORT_DEFAULT: u16 = 80;

/// Where a daemon answers, as in `http://127.0.0.1:7482`; a path in it goes before every path asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port as they were written.
    authority: String,
    /// Name or address, without brackets.
    host: String,
    port: u16,
    prefix: String,
    /// Tried in turn instead of `host`, if there are any.
    addresses: Vec<SocketAddr>,
}

/// Why a text is not a URL that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("\"{0}\" is not a URL, expected one such as http://127.0.0.1:7482")]
    Malformed(String),
    /// Another protocol.
    #[error("\"{0}\" is not asked over plain http://, expected a URL such as http://127.0.0.1:7482")]
    Scheme(String),
    /// User, query or fragment.
    #[error("a user, a query or a fragment is not for this URL: expected one such as http://127.0.0.1:7482")]
    Excess,
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connect to the last byte.
    pub time: Duration,
    /// Its body.
    pub body_bytes: u64,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The path or the token cannot be sent.
    #[error("this cannot be sent over HTTP: {0}")]
    Request(String),
    /// Nobody is there.
    #[error("cannot connect: {}", plain(.0))]
    Connect(#[source] io::Error),
    /// It took longer than [`Limits::time`].
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection failed underway.
    #[error("the connection broke: {}", plain(.0))]
    Broken(#[from] io::Error),
    /// It ended underway.
    #[error("the connection ended in the middle of the answer")]
    Truncated,
    /// Whoever answered does not speak HTTP/1.
    #[error("this is not HTTP: {0}")]
    Malformed(String),
    /// More than [`Limits::body_bytes`], or a head beyond all measure.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
}

/// The text people know, without the number of the system's error.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

impl Url {
    /// Where a listener at `listen` is reached from this host: one on all addresses, on loopback.
    #[must_use]
    pub fn of_listener(listen: SocketAddr) -> Self {
        let port = listen.port();
        let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let addresses = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
            // A container may well have [::] and no ::1.
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
        }
    }

    /// The answer to GET of `path`, which begins with a slash, whatever its status is.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn get(&self, path: &str, limits: Limits) -> Result<Answer, ClientError> {
        self.exchange(self.request(Method::GET, path), Bytes::new(), limits).await
    }

    /// The answer to POST of `body`, which is JSON, by whoever has `token`, as [`Self::get`] has it.
    ///
    /// # Errors
    /// See [`ClientError`]. When it came after the request was sent, nobody knows here whether it was done.
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
        let exchange = async {
            let socket = self.connect().await.map_err(ClientError::Connect)?;
            Answer::read(socket, request, limits.body_bytes).await
        };
        timeout(limits.time, exchange).await.unwrap_or(Err(ClientError::Timeout(limits.time)))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        if self.addresses.is_empty() {
            TcpStream::connect((self.host.as_str(), self.port)).await
        } else {
            TcpStream::connect(&self.addresses[..]).await
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed(text.to_owned()))?;
        let Some(authority) = uri.authority() else {
            return Err(UrlError::Malformed(text.to_owned()));
        };
        if uri.scheme_str() != Some("http") {
            return Err(UrlError::Scheme(text.to_owned()));
        }
        if uri.query().is_some() || authority.as_str().contains('@') || text.contains('#') {
            return Err(UrlError::Excess);
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None => Some(PORT_DEFAULT),
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
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}
