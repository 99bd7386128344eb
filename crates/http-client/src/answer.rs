//! The response: its status and its body, of bounded size.

use std::error::Error as _;
use std::io;

use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ClientError;
use api::Problem;

/// Largest head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How many characters of a response without a reason are shown.
const EXCERPT_CHARS_MAX: usize = 200;

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: StatusCode,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends `request` over `socket` and reads the answer, whose body has at most `body_bytes_max`.
    ///
    /// # Errors
    /// What [`ClientError`] has for broken, malformed and oversized answers.
    pub(super) async fn read(
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
        body_bytes_max: u64,
    ) -> Result<Self, ClientError> {
        let mut builder = http1::Builder::new();
        let builder = builder.max_buf_size(HEAD_BYTES_MAX).title_case_headers(true);
        let handshake = builder.handshake(TokioIo::new(socket));
        let (mut sender, connection) = handshake.await.map_err(|error| failed(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let (status, body) = (response.status(), response.into_body());
            if body.size_hint().lower() > body_bytes_max {
                return Err(ClientError::TooLarge(body_bytes_max));
            }
            let limit = usize::try_from(body_bytes_max).unwrap_or(usize::MAX);
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return ClientError::TooLarge(body_bytes_max);
                }
                error.downcast_ref().map_or(ClientError::Truncated, failed)
            })?;
            Ok(Self { status, body: body.to_bytes().into() })
        };
        let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection has read everything. The exchange returns the reason of a failure.
            _ = &mut connection => exchange.await,
        }
    }

    /// The body of a response with status 200.
    ///
    /// # Errors
    /// The reason as text for a terminal: another status, or a body of another server or of another version.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        if self.status != StatusCode::OK {
            return Err(self.problem());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let version = env!("CARGO_PKG_VERSION");
            format!("this is no telemetry-aggregator, or another version than {version}: {error}")
                .replace(char::is_control, " ")
        })
    }

    /// Why the response is not the expected one: its reason, or else its status and the start of its body.
    #[must_use]
    pub fn problem(&self) -> String {
        let status = self.status;
        if let Ok(Problem { reason, .. }) = serde_json::from_slice(&self.body) {
            return format!("answered {status}: {reason}");
        }
        let text = String::from_utf8_lossy(&self.body);
        let excerpt: String = text.trim().chars().take(EXCERPT_CHARS_MAX).collect();
        // The text goes to a terminal.
        let excerpt = excerpt.replace(char::is_control, " ");
        if excerpt.is_empty() {
            format!("answered {status}")
        } else {
            format!("answered {status}: {excerpt}")
        }
    }
}

/// What `error` of the connection means for the caller.
fn failed(error: &hyper::Error) -> ClientError {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source {
        _ if error.is_parse_too_large() => ClientError::TooLarge(HEAD_BYTES_MAX as u64),
        _ if error.is_incomplete_message() => ClientError::Truncated,
        Some(source) if source.kind() == io::ErrorKind::UnexpectedEof => ClientError::Truncated,
        Some(source)
            if source.kind() == io::ErrorKind::InvalidData
                || source.kind() == io::ErrorKind::InvalidInput =>
        {
            ClientError::Malformed(source.to_string())
        }
        Some(source) => ClientError::Broken(io::Error::new(source.kind(), source.to_string())),
        None => ClientError::Malformed(error.to_string()),
    }
}
