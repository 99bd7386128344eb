//! A plain HTTP/1.1 client with one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::{LIMIT, wait_until};

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Sends `method` at `path` with `headers` and returns the answer. The client adds `Host` unless `headers` has it.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    open(address, method, path, headers, body).answer()
}

/// Like [`request`], with GET and no headers.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], b"")
}

/// Sends a GET that must succeed. Returns the body as JSON.
#[track_caller]
pub fn get_json(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Repeats a GET until the JSON of its answer is what `is_met` wants, and returns it.
#[track_caller]
pub fn wait_json(address: SocketAddr, path: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    wait_until(path, || {
        let found = get_json(address, path);
        if is_met(&found) { Ok(found) } else { Err(format!("{found:#}")) }
    })
}

/// A connection whose answer the test reads in parts.
pub struct Stream(BufReader<TcpStream>);

/// Sends a request and does not read the answer.
pub fn open(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Stream {
    let socket = TcpStream::connect_timeout(&address, LIMIT).expect("HTTP cannot be connected to");
    open_over(socket, method, path, headers, body)
}

/// Like [`open`], on an existing connection.
pub fn open_over(
    mut socket: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Stream {
    let address = socket.peer_addr().expect("a connected socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    socket.write_all(&[head.as_bytes(), body].concat()).expect("the request");
    Stream(BufReader::new(socket))
}

impl Stream {
    /// Sets the longest wait for a read, instead of [`LIMIT`].
    pub fn within(self, limit: Duration) -> Self {
        self.0.get_ref().set_read_timeout(Some(limit)).expect("a read timeout");
        self
    }

    /// Reads the answer to its end.
    pub fn answer(mut self) -> Answer {
        let (status, headers) = self.head();
        let body = self.body(&headers);
        Answer { status, headers, body }
    }

    /// Reads the body that follows a head with these headers, to its end.
    pub fn body(self, headers: &[(String, String)]) -> Vec<u8> {
        let length = headers.iter().find(|(name, _)| name == "content-length");
        // Some servers keep the connection open after the body.
        let length = length.map_or(u64::MAX, |(_, length)| length.parse().expect("a length"));
        let mut body = Vec::new();
        self.0.take(length).read_to_end(&mut body).expect("the body");
        body
    }

    /// Reads the status and the headers. The names are in lower case.
    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(":") else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        (status.expect("a status"), headers)
    }

    /// The next server-sent event: its name and its data. Skips the chunk sizes, if any.
    pub fn event(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let line = self.line();
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).expect("JSON in an event"));
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).expect("a line");
        assert!(count > 0, "the answer ended");
        line.trim_end().to_owned()
    }
}
