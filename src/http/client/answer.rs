//! The response: status and body. The body has a length, comes in chunks, or lasts until the connection ends.

use axum::http::StatusCode;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::ClientError;
use crate::http::answer::Problem;

/// Largest head of a response. The same limit holds for the trailer of a chunked body.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// Longest line at the start of a chunk.
const CHUNK_LINE_BYTES_MAX: u64 = 1 << 10;
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

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Length(u64),
    Chunks,
    Connection,
}

impl Answer {
    /// Reads one response.
    ///
    /// # Errors
    /// Returns the variants of [`ClientError`] for broken, malformed and oversized responses.
    pub(super) async fn read(from: impl AsyncRead + Unpin, body_bytes_max: u64) -> Result<Self, ClientError> {
        let mut reader = BufReader::new(from);
        let (status, extent) = loop {
            let head = read_head(&mut reader).await?;
            // Interim responses may come before the final one.
            if !head.0.is_informational() {
                break head;
            }
        };
        let mut body = Vec::new();
        match extent {
            _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => {}
            Extent::Length(length) => take(&mut reader, &mut body, length, body_bytes_max).await?,
            Extent::Chunks => read_chunks(&mut reader, &mut body, body_bytes_max).await?,
            Extent::Connection => {
                (&mut reader).take(body_bytes_max + 1).read_to_end(&mut body).await?;
                if body.len() as u64 > body_bytes_max {
                    return Err(ClientError::TooLarge(body_bytes_max));
                }
            }
        }
        Ok(Self { status, body })
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

async fn read_head<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
) -> Result<(StatusCode, Extent), ClientError> {
    let mut left = HEAD_BYTES_MAX;
    let first = line(reader, &mut left, HEAD_BYTES_MAX).await?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok())
        .ok_or(ClientError::Malformed("the first line is no status line"))?;
    let mut extent = Extent::Connection;
    loop {
        let line = line(reader, &mut left, HEAD_BYTES_MAX).await?;
        if line.is_empty() {
            return Ok((status, extent));
        }
        let (name, value) = line.split_once(':').ok_or(ClientError::Malformed("a header has no colon"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(ClientError::Malformed("an unknown Transfer-Encoding"));
            }
            extent = Extent::Chunks;
        } else if name.eq_ignore_ascii_case("content-length") && extent != Extent::Chunks {
            let length = number(value, 10).ok_or(ClientError::Malformed("Content-Length is no number"))?;
            extent = Extent::Length(length);
        }
    }
}

async fn read_chunks<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    body: &mut Vec<u8>,
    body_bytes_max: u64,
) -> Result<(), ClientError> {
    loop {
        let size = line(reader, &mut CHUNK_LINE_BYTES_MAX.clone(), CHUNK_LINE_BYTES_MAX).await?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = number(size, 16).ok_or(ClientError::Malformed("a chunk has no size"))?;
        if size == 0 {
            let mut left = HEAD_BYTES_MAX;
            while !line(reader, &mut left, HEAD_BYTES_MAX).await?.is_empty() {}
            return Ok(());
        }
        take(reader, body, size, body_bytes_max).await?;
        if !line(reader, &mut CHUNK_LINE_BYTES_MAX.clone(), CHUNK_LINE_BYTES_MAX).await?.is_empty() {
            return Err(ClientError::Malformed("a chunk is longer than its size"));
        }
    }
}

/// Appends exactly `length` bytes.
async fn take<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    body: &mut Vec<u8>,
    length: u64,
    body_bytes_max: u64,
) -> Result<(), ClientError> {
    if length > body_bytes_max - body.len() as u64 {
        return Err(ClientError::TooLarge(body_bytes_max));
    }
    let read = reader.take(length).read_to_end(body).await?;
    if (read as u64) < length { Err(ClientError::Truncated) } else { Ok(()) }
}

/// The next line without its end. The line counts against `left` of `max`.
async fn line<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    left: &mut u64,
    max: u64,
) -> Result<String, ClientError> {
    let mut line = Vec::new();
    let read = reader.take(*left).read_until(b'\n', &mut line).await?;
    *left -= read as u64;
    if line.pop() != Some(b'\n') {
        return Err(if *left == 0 { ClientError::TooLarge(max) } else { ClientError::Truncated });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Parses a number that has only digits: no sign, no blanks.
fn number(text: &str, radix: u32) -> Option<u64> {
    let is_digits = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    is_digits.then(|| u64::from_str_radix(text, radix).ok()).flatten()
}
