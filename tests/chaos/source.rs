//! A source that records in the test's own process what the daemon acknowledged. It reconnects and resumes by itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sim::station_name;

use crate::scene::pass;
use crate::session::Session;

/// Live sources of a scene, one per spacecraft of the fleet.
pub const SATELLITES: u32 = 48;
/// Replay feeds of a scene.
pub const REPLAYS: u32 = 2;
/// Ground stations of the fleet.
const STATIONS: u32 = 12;
/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(25);

/// How a listener of the daemon is reached.
#[derive(Clone)]
pub struct Entrance {
    pub address: SocketAddr,
    pub token: String,
    /// The network namespace of the client, as a file. None is that of the test.
    pub namespace: Option<PathBuf>,
}

impl Entrance {
    /// Moves the calling thread to where the client is.
    pub fn enter(&self) {
        if let Some(namespace) = &self.namespace {
            crate::netns::enter(namespace);
        }
    }
}

/// Where and how the sources of a scene connect.
#[derive(Clone)]
pub struct Uplink {
    pub entrance: Entrance,
    /// New routine frames per second and source.
    pub rate: Arc<AtomicU32>,
}

/// What a lane has written and what was acknowledged, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneBook {
    /// Frames that were written on any connection. No frame behind them can be in the archive.
    pub written: u64,
    /// Frames that the daemon acknowledged.
    pub acked: u64,
}

/// What the thread of a source shares with the test.
#[derive(Default)]
pub struct Shared {
    books: Mutex<[LaneBook; 2]>,
    /// Send no new frames. Send BYE when all frames are acknowledged.
    pub finish: AtomicBool,
    pub stop: AtomicBool,
    /// Whether the source is between the beginning of a connection and WELCOME.
    pub is_greeting: AtomicBool,
    /// Connections that broke after HELLO and before WELCOME.
    pub broken_handshakes: AtomicU64,
    /// Connections with WELCOME.
    pub welcomes: AtomicU64,
}

impl Shared {
    pub fn books(&self) -> MutexGuard<'_, [LaneBook; 2]> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source on a thread of its own.
pub struct Source {
    pub id: u32,
    pub shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The station of source `id`.
pub fn station_of(id: u32) -> String {
    station_name(id % STATIONS)
}

/// The source kind of source `id`, as in HELLO.
pub const fn kind_of(id: u32) -> u8 {
    (id >= SATELLITES) as u8
}

impl Source {
    pub fn start(id: u32, uplink: Uplink) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || run(id, &uplink, &shared)
        });
        Self { id, shared, thread: Some(thread) }
    }

    pub fn books(&self) -> [LaneBook; 2] {
        *self.shared.books()
    }

    /// Fails the test if the thread of the source has panicked.
    pub fn assert_running(&mut self) {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join();
        }
    }

    /// Waits until the daemon has acknowledged everything and answered BYE.
    pub fn finish(&mut self) {
        self.shared.finish.store(true, Relaxed);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|_| panic!("source {} failed, see above", self.id));
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn run(id: u32, uplink: &Uplink, shared: &Shared) {
    uplink.entrance.enter();
    while !shared.stop.load(Relaxed) {
        match Session::open(id, uplink, shared).map(Session::run) {
            Ok(true) => return,
            Ok(false) | Err(_) => pass(RETRY),
        }
    }
}
