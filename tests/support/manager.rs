//! A service manager as a daemon sees it: a socket that receives its messages.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::LIMIT;

/// Receives every message to its socket until this is dropped.
pub struct FakeManager {
    dir: TempDir,
    heard: Arc<Heard>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    messages: Vec<(Instant, String)>,
}

/// A message that ends the reader thread.
const END: &[u8] = b"X_END=1";

impl FakeManager {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        let heard = Arc::new(Heard::default());
        let reader = std::thread::spawn({
            let heard = Arc::clone(&heard);
            move || {
                let mut buffer = [0; 4096];
                loop {
                    let len = socket.recv(&mut buffer).expect("the socket is gone");
                    if &buffer[..len] == END {
                        return;
                    }
                    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    heard.lock().messages.push((Instant::now(), text));
                    heard.changed.notify_all();
                }
            }
        });
        Self { dir, heard, reader: Some(reader) }
    }

    /// The value for `NOTIFY_SOCKET`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// All messages received so far, in order.
    pub fn messages(&self) -> Vec<String> {
        self.heard.lock().messages.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Waits for a message after the first `skip` that satisfies `is_it`. Returns the message and the number of
    /// messages up to and including it.
    pub fn wait(&self, skip: usize, what: &str, is_it: impl Fn(&str) -> bool) -> (String, usize) {
        let find = |state: &State| state.messages.iter().skip(skip).position(|(_, text)| is_it(text));
        let state = self.heard.lock();
        let waited = self.heard.changed.wait_timeout_while(state, LIMIT, |state| find(state).is_none());
        let state = waited.expect("the reader panicked").0;
        let found = find(&state).unwrap_or_else(|| panic!("no {what} in {:#?}", state.messages));
        (state.messages[skip + found].1.clone(), skip + found + 1)
    }

    /// Waits for `count` pings from this call on. Fails if one comes more than `interval` after the one before.
    pub fn expect_pings(&self, count: usize, interval: Duration) {
        let (mut at, mut skip) = (Instant::now(), self.heard.lock().messages.len());
        for _ in 0..count {
            (_, skip) = self.wait(skip, "WATCHDOG", is_ping);
            let heard_at = self.heard.lock().messages[skip - 1].0;
            assert!(heard_at - at < interval, "{:?} without a ping", heard_at - at);
            at = heard_at;
        }
    }

    /// Waits for `time`. Fails if a ping comes.
    pub fn expect_no_ping(&self, time: Duration) {
        let skip = self.heard.lock().messages.len();
        let state = self.heard.lock();
        let pings = |state: &State| state.messages.iter().skip(skip).any(|(_, text)| is_ping(text));
        let waited = self.heard.changed.wait_timeout_while(state, time, |state| !pings(state));
        assert!(waited.expect("the reader panicked").1.timed_out(), "a ping");
    }
}

fn is_ping(text: &str) -> bool {
    text == "WATCHDOG=1"
}

impl Heard {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeManager {
    fn drop(&mut self) {
        let end = UnixDatagram::unbound().and_then(|socket| socket.send_to(END, self.path()));
        if let (Ok(_), Some(reader)) = (end, self.reader.take()) {
            drop(reader.join());
        }
    }
}
