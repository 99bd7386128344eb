//! A thin line between two daemons: slow, far, and at times away.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What is read at once: about a packet.
const PIECE_BYTES: usize = 1_400;

/// Passes connections on to a daemon.
pub struct Line {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    /// How long a byte is on its way.
    delay: Duration,
    /// Bytes of a second, each way, of all connections together.
    bytes_per_s: f64,
    /// Bytes from the edge to the centre.
    up_bytes: AtomicU64,
    /// When each way is free again.
    free_at: [Mutex<Instant>; 2],
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    centre: SocketAddr,
    way: Way,
    open: Vec<TcpStream>,
}

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    /// Connections stay, and nothing passes.
    Stalled,
    /// Connections are cut, and new ones too.
    Down,
}

impl Line {
    /// A line with this delay each way.
    pub fn new(centre: SocketAddr, delay: Duration, bytes_per_s: u64, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = Instant::now();
        let inner = Arc::new(Inner {
            delay,
            bytes_per_s: bytes_per_s as f64,
            up_bytes: AtomicU64::new(0),
            free_at: [Mutex::new(now), Mutex::new(now)],
            state: Mutex::new(State { centre, way, open: Vec::new() }),
            changed: Condvar::new(),
        });
        let line = Arc::clone(&inner);
        thread::spawn(move || {
            for edge in listener.incoming().map(Result::unwrap) {
                line.accepted(edge);
            }
        });
        Self { address, inner }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn up_bytes(&self) -> u64 {
        self.inner.up_bytes.load(SeqCst)
    }

    /// The centre has started again.
    pub fn lead_to(&self, centre: SocketAddr) {
        self.inner.state.lock().unwrap().centre = centre;
    }

    pub fn set(&self, way: Way) {
        let mut state = self.inner.state.lock().unwrap();
        state.way = way;
        if way == Way::Down {
            cut(&mut state);
        }
        self.inner.changed.notify_all();
    }

    /// Cuts all connections. New ones pass.
    pub fn cut(&self) {
        cut(&mut self.inner.state.lock().unwrap());
    }
}

fn cut(state: &mut State) {
    for edge in state.open.drain(..) {
        // It may have ended.
        let _ = edge.shutdown(Shutdown::Both);
    }
}

impl Inner {
    fn accepted(self: &Arc<Self>, edge: TcpStream) {
        let mut state = self.state.lock().unwrap();
        if state.way == Way::Down {
            return;
        }
        // The centre may be away.
        let Ok(centre) = TcpStream::connect(state.centre) else { return };
        centre.set_nodelay(true).unwrap();
        edge.set_nodelay(true).unwrap();
        state.open.extend([edge.try_clone().unwrap(), centre.try_clone().unwrap()]);
        drop(state);
        self.pass(0, edge.try_clone().unwrap(), centre.try_clone().unwrap());
        self.pass(1, centre, edge);
    }

    /// Carries one way, on two threads: one takes its turn on the line, the other waits for the delay.
    fn pass(self: &Arc<Self>, way: usize, mut from: TcpStream, to: TcpStream) {
        let (pieces_tx, pieces) = sync_channel::<(Instant, Vec<u8>)>(4_096);
        let line = Arc::clone(self);
        thread::spawn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            while let Ok(read @ 1..) = from.read(&mut piece) {
                let sent_at = line.turn(way, read);
                thread::sleep(sent_at.saturating_duration_since(Instant::now()));
                if pieces_tx.send((sent_at + line.delay, piece[..read].to_vec())).is_err() {
                    break;
                }
            }
        });
        let line = Arc::clone(self);
        thread::spawn(move || line.arrive(&pieces, to));
    }

    /// When the line has carried `bytes` more.
    fn turn(&self, way: usize, bytes: usize) -> Instant {
        if way == 0 {
            self.up_bytes.fetch_add(bytes as u64, SeqCst);
        }
        let mut free_at = self.free_at[way].lock().unwrap();
        *free_at = free_at.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        *free_at
    }

    fn arrive(&self, pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
        for (at, piece) in pieces {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let state = self.state.lock().unwrap();
            drop(self.changed.wait_while(state, |state| state.way == Way::Stalled).unwrap());
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
