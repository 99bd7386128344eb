//! A TCP proxy that delays, limits, stalls, swallows and cuts.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::scene::pass;

/// From the client to the daemon.
pub const UP: usize = 0;
/// From the daemon to the client.
pub const DOWN: usize = 1;
/// Bytes that are passed on in one piece.
const CHUNK_BYTES: usize = 16 << 10;

/// What the network does to the bytes. The default passes them on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Time that each piece of bytes waits.
    pub delay: Duration,
    /// Bytes per second, connection and direction.
    pub bytes_per_s: Option<u64>,
    /// Hold the bytes of these directions back, and pass them on later.
    pub is_stalled: [bool; 2],
    /// Take the bytes of these directions and never pass them on. A connection stays so when the weather is good again.
    pub swallows: [bool; 2],
}

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// An orderly end in both directions.
    Fin,
    /// A reset in both directions.
    Reset,
}

/// A listener in front of a listener of the daemon.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    is_over: AtomicBool,
    /// Pieces of bytes that were delayed, limited or stalled.
    held: AtomicU64,
    swallowed_bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    weather: Weather,
    pairs: Vec<Arc<Pair>>,
}

/// A connection of a client and its connection to the daemon.
struct Pair {
    ends: [TcpStream; 2],
    is_swallowed: [AtomicBool; 2],
    /// The client is gone, and the daemon does not know.
    is_abandoned: AtomicBool,
}

impl Proxy {
    /// Listens on a free port of loopback, in front of `target`.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if shared.is_over.load(Relaxed) {
                        return;
                    }
                    // While no daemon listens, the client is cut off.
                    drop(TcpStream::connect(target).and_then(|daemon| shared.join(client, daemon)));
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, weather: Weather) {
        self.shared.lock().weather = weather;
        self.shared.changed.notify_all();
    }

    /// Cuts all connections. Returns their number.
    pub fn cut(&self, how: Cut) -> usize {
        let state = self.shared.lock();
        state.pairs.iter().for_each(|pair| pair.cut(how));
        state.pairs.len()
    }

    /// Resets all connections of clients, and leaves their connections to the daemon open and silent. Returns their
    /// number.
    pub fn abandon(&self) -> usize {
        let state = self.shared.lock();
        for pair in &state.pairs {
            pair.is_abandoned.store(true, Relaxed);
            reset(&pair.ends[UP]);
        }
        state.pairs.len()
    }

    /// Pieces of bytes that were delayed, limited or stalled so far.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Relaxed)
    }

    /// Bytes that were swallowed so far.
    pub fn swallowed_bytes(&self) -> u64 {
        self.shared.swallowed_bytes.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        self.set(Weather::default());
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.cut(Cut::Fin);
    }
}

impl Pair {
    fn cut(&self, how: Cut) {
        for end in &self.ends {
            match how {
                Cut::Fin => drop(end.shutdown(Shutdown::Both)),
                Cut::Reset => reset(end),
            }
        }
    }
}

/// Resets a connection and wakes its readers. A socket that has ended has nothing to reset.
fn reset(end: &TcpStream) {
    let _ended = rustix::net::connect_unspec(end);
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes bytes between both connections until they end.
    fn join(self: &Arc<Self>, client: TcpStream, daemon: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        daemon.set_nodelay(true)?;
        let pair = Arc::new(Pair {
            ends: [client, daemon],
            is_swallowed: Default::default(),
            is_abandoned: AtomicBool::new(false),
        });
        self.lock().pairs.push(Arc::clone(&pair));
        for way in [UP, DOWN] {
            let (shared, pair) = (Arc::clone(self), Arc::clone(&pair));
            std::thread::spawn(move || shared.pump(&pair, way));
        }
        Ok(())
    }

    fn pump(&self, pair: &Arc<Pair>, way: usize) {
        let (mut from, mut to) = (&pair.ends[way], &pair.ends[1 - way]);
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let count = match from.read(&mut chunk) {
                Ok(count) if count > 0 => count,
                _ => break,
            };
            let weather = self.wait(way);
            if weather.swallows[way] {
                pair.is_swallowed[way].store(true, Relaxed);
            }
            if pair.is_swallowed[way].load(Relaxed) || pair.is_abandoned.load(Relaxed) {
                self.swallowed_bytes.fetch_add(count as u64, Relaxed);
                continue;
            }
            self.slow_down(&weather, count);
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        self.end(pair, way);
    }

    /// Waits while the direction is stalled.
    fn wait(&self, way: usize) -> Weather {
        let state = self.lock();
        self.held.fetch_add(u64::from(state.weather.is_stalled[way]), Relaxed);
        let waited = self.changed.wait_while(state, |state| state.weather.is_stalled[way]);
        waited.unwrap_or_else(PoisonError::into_inner).weather
    }

    fn slow_down(&self, weather: &Weather, count: usize) {
        let limited = weather.bytes_per_s.map_or(0.0, |rate| count as f64 / rate as f64);
        let pause = weather.delay + Duration::from_secs_f64(limited);
        if !pause.is_zero() {
            self.held.fetch_add(1, Relaxed);
            pass(pause);
        }
    }

    /// One direction has ended.
    fn end(&self, pair: &Arc<Pair>, way: usize) {
        if way == UP && pair.is_abandoned.load(Relaxed) {
            // The other direction ends when the daemon closes its connection.
            return;
        }
        drop(pair.ends[1 - way].shutdown(Shutdown::Write));
        if way == DOWN {
            pair.cut(Cut::Fin);
            self.lock().pairs.retain(|known| !Arc::ptr_eq(known, pair));
        }
    }
}
