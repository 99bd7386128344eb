//! Software behind an output link with a cursor. It gets frames behind their lengths.

use std::collections::HashMap;
use std::io::{BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::content::FrameId;
use crate::scene::pass;

/// Sources whose frames the output gives out: those below this id.
const SOURCES: u32 = 8;
/// Longest time to connect, and time between two attempts.
const CONNECT_MAX: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(25);
/// Time between two looks at whether the test has ended the reader.
const LOOK: Duration = Duration::from_millis(100);

/// The table of the configuration for an output that listens on `address`.
pub fn table(address: SocketAddr) -> String {
    let sources: Vec<_> = (0..SOURCES).collect();
    format!(
        "[[outputs]]\nname = \"reader\"\nlisten = \"{address}\"\nclients = 1\nstart = \"cursor\"\n\
         framing = {{ kind = \"length\" }}\nselect = {{ sources = {sources:?} }}\n"
    )
}

/// A reader on a thread of its own. It reconnects by itself.
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    frames: AtomicU64,
    repeated: AtomicU64,
    /// Whether frames may be missing: retention may remove them before a reader that is away has had them.
    may_miss: bool,
    next: Mutex<HashMap<(u32, usize), u64>>,
    /// What the thread does, for a test that fails.
    state: Mutex<String>,
}

impl Shared {
    fn note(&self, state: String) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Reader {
    pub fn start(address: SocketAddr, may_miss: bool) -> Self {
        let shared = Arc::new(Shared { may_miss, ..Shared::default() });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.stop.load(Relaxed) {
                    match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                        Ok(socket) => {
                            shared.note(format!("reads {socket:?}"));
                            shared.note(format!("a connection has ended: {:?}", read(&socket, &shared)));
                        }
                        Err(error) => {
                            shared.note(format!("cannot connect: {error}"));
                            pass(RETRY);
                        }
                    }
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Frames that have come, repetitions included.
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Relaxed)
    }

    /// What the reader does.
    pub fn state(&self) -> String {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Frames that have come again, as an output may repeat them after a kill.
    pub fn repeated(&self) -> u64 {
        self.shared.repeated.load(Relaxed)
    }

    /// Whether the reader has every frame of its sources. `written` is what a lane of a source has sent.
    pub fn has_all(&self, written: impl Fn(u32, usize) -> u64) -> Result<(), String> {
        let next = self.shared.next.lock().unwrap_or_else(PoisonError::into_inner);
        for source in 0..SOURCES {
            for lane in 0..2 {
                let (has, all) = (next.get(&(source, lane)).copied().unwrap_or(0), written(source, lane));
                if has != all {
                    return Err(format!("{has} of {all} frames of source {source} lane {lane}"));
                }
            }
        }
        Ok(())
    }

    /// Fails the test if the reader has found a fault.
    pub fn assert_running(&mut self) {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join();
        }
    }

    pub fn stop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader of the output failed, see above");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

/// Reads one connection to its end, however it ends. The kernel has acknowledged all of that to the daemon.
fn read(socket: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    socket.set_read_timeout(Some(LOOK))?;
    // A reader that only reads does not notice a connection whose other side has vanished without a reset, as one of a
    // killed daemon may.
    let second = Duration::from_secs(1);
    let keep_alive = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(2);
    SockRef::from(socket).set_tcp_keepalive(&keep_alive)?;
    let mut input = BufReader::with_capacity(64 << 10, Patient { socket, shared });
    loop {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        input.read_exact(&mut payload)?;
        take(&payload, shared);
    }
}

fn take(payload: &[u8], shared: &Shared) {
    let id = FrameId::of(payload).expect("the output gave out a frame that no source has sent");
    let mut next = shared.next.lock().unwrap_or_else(PoisonError::into_inner);
    let next = next.entry((id.source, id.lane)).or_default();
    assert!(
        id.index <= *next || shared.may_miss,
        "the output left out frames {next} to {} of {id:?}",
        id.index
    );
    shared.repeated.fetch_add(u64::from(id.index < *next), Relaxed);
    *next = (*next).max(id.index + 1);
    shared.frames.fetch_add(1, Relaxed);
}

/// Reads of a socket that go on over silence, until the test ends the reader.
struct Patient<'a> {
    socket: &'a TcpStream,
    shared: &'a Shared,
}

impl std::io::Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.shared.stop.load(Relaxed) {
                        return Ok(0);
                    }
                }
                result => return result,
            }
        }
    }
}
