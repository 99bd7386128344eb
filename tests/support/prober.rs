//! Connects to a daemon again and again, to see whether a connection is refused.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait_until;

/// Connects repeatedly and counts the connections.
pub struct Prober {
    connected: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    pub fn start(addresses: [SocketAddr; 2]) -> Self {
        let (connected, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (connected, is_over) = (Arc::clone(&connected), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    for address in addresses {
                        let socket = TcpStream::connect(address);
                        drop(socket.unwrap_or_else(|error| panic!("{address} refuses: {error}")));
                        connected.fetch_add(1, Ordering::Relaxed);
                    }
                    // A pace, not a wait: fewer connections than the backlog wait for the next daemon.
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { connected, is_over, thread }
    }

    /// The number of connections so far.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Waits for `more` connections.
    #[track_caller]
    pub fn wait_connected(&self, more: u64) {
        let before = self.connected();
        wait_until(&format!("{more} more connections"), || match self.connected() {
            connected if connected >= before + more => Ok(()),
            connected => Err(format!("{connected} after {before}")),
        });
    }

    /// Ends the connections, of which none may have been refused.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a connection was refused");
    }
}
