//! gzip for clients that accept it: metrics, long responses, the files of the dashboard. Events are never compressed,
//! because they do not end.
//!
//! The compressed text counts as a waiting response in place of the plain text.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{self, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::State;

/// Shorter responses are not compressed.
const BYTES_MIN: usize = 4 << 10;
/// At most this many responses are compressed at a time. Others wait.
pub(super) const AT_A_TIME: usize = 2;
/// Memory of one compression, without its output.
pub(super) const STATE_BYTES: usize = 512 << 10;

/// Compresses the response of `next` if it is long enough and the client accepts gzip.
pub(super) async fn compress(
    extract::State(state): extract::State<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let is_accepted = is_accepted(request.headers());
    let response = next.run(request).await;
    if !may_be_compressed(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_accepted {
        return Response::from_parts(parts, body);
    }
    // The body is complete in memory. This neither waits nor copies.
    let Ok(text) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    match state.answers.zipped(text.clone()).await {
        Some(zipped) => {
            mark(&mut parts.headers);
            Response::from_parts(parts, Body::from(zipped))
        }
        None => Response::from_parts(parts, Body::from(text)),
    }
}

/// Sets the headers of a compressed body.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

/// Whether a text of this length is worth compressing.
pub(super) const fn is_worth_it(bytes: usize) -> bool {
    bytes >= BYTES_MIN
}

fn may_be_compressed(response: &Response) -> bool {
    let bytes = response.body().size_hint().exact();
    // A stream of events has no length.
    let is_whole = bytes.is_some_and(|bytes| usize::try_from(bytes).is_ok_and(is_worth_it));
    is_whole
        && response.status() == StatusCode::OK
        && !response.headers().contains_key(header::CONTENT_ENCODING)
}

/// Whether `Accept-Encoding` has gzip, with a weight above 0.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in texts.flat_map(|text| text.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
        let is_wanted =
            weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0));
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return is_wanted,
            "*" => any = is_wanted,
            _ => {}
        }
    }
    any
}

/// Compresses `text`. `None` if the result is longer than `bytes_max`.
pub(super) fn zip(text: &[u8], bytes_max: usize) -> Option<Bytes> {
    let out = Bounded { bytes: Vec::new(), bytes_max };
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(text).ok()?;
    let mut zipped = encoder.finish().ok()?.bytes;
    zipped.shrink_to_fit();
    Some(zipped.into())
}

/// A buffer that takes at most `bytes_max`.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + bytes.len();
        if length > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // The capacity never exceeds the bound. Plain doubling could.
        let capacity = (2 * length).min(self.bytes_max);
        if length > self.bytes.capacity() {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_accepted_where_the_client_says_so() {
        let accepts = |text: &str| {
            is_accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, text.parse().unwrap())]))
        };
        for yes in ["gzip", "deflate, GZIP", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*", "x-gzip", "gzip; q=0.001"]
        {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "*;q=0", "*, gzip;q=0.0", "br", "gzip;q=x"] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn compression_keeps_the_text_or_gives_none() {
        let text = b"telemetry_aggregator_source_frames_total 1\n".repeat(10_000);
        let zipped = zip(&text, text.len() / 2).unwrap();
        assert!(zipped.len() < text.len() / 10, "{}", zipped.len());
        let mut again = Vec::new();
        GzDecoder::new(&zipped[..]).read_to_end(&mut again).unwrap();
        assert!(again == text);
        assert_eq!(zip(&text, zipped.len() - 1), None);
        let noise: Vec<u8> = (0..50_000).map(|_| rand::random()).collect();
        assert_eq!(zip(&noise, noise.len() / 2), None);
    }
}
