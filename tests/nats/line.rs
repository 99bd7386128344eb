//! A line to a server that can be cut.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Passes connections on to a server.
pub struct Line {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_down: Arc<AtomicBool>,
}

impl Line {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let is_down = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (open, is_down) = (Arc::clone(&open), Arc::clone(&is_down));
            move || {
                for client in listener.incoming().map(Result::unwrap) {
                    if is_down.load(Ordering::SeqCst) {
                        continue;
                    }
                    // The server may be away.
                    let Ok(server) = TcpStream::connect(server) else { continue };
                    pass(client.try_clone().unwrap(), server.try_clone().unwrap());
                    pass(server, client.try_clone().unwrap());
                    open.lock().unwrap().push(client);
                }
            }
        });
        Self { address, open, is_down }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Cuts all connections, and lets no other pass until [`Self::go_up`].
    pub fn go_down(&self) {
        self.is_down.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub fn go_up(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for client in self.open.lock().unwrap().drain(..) {
            // The client may have gone.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

/// Copies one way, on a thread of its own.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
