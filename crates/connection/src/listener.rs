//! The accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use actor::{ActorHandle, Restart, supervise_task};

/// A listener that fails more often than this ends. The daemon decides what follows.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(10) };
/// Pause after an accept that failed for lack of resources, such as file descriptors.
const BACKOFF: Duration = Duration::from_millis(100);

/// Shortest time between two log lines about failed accepts.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Takes accepted connections.
pub trait Acceptor: Clone + Send + Sync + 'static {
    /// Takes a connection. Waits while the acceptor is busy; further connections stay in the backlog. Returns
    /// `false` once the acceptor is gone.
    fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> impl Future<Output = bool> + Send;
}

/// Accepts connections for `acceptor` until `shutdown` turns true or the acceptor is gone. Supervised as
/// `name`.
pub fn start(
    name: &'static str,
    listener: TcpListener,
    acceptor: impl Acceptor,
    shutdown: watch::Receiver<bool>,
) -> ActorHandle {
    let listener = Arc::new(listener);
    supervise_task(name, RESTART, move || {
        accept_until_shutdown(name, Arc::clone(&listener), acceptor.clone(), shutdown.clone())
    })
}

async fn accept_until_shutdown(
    name: &'static str,
    listener: Arc<TcpListener>,
    acceptor: impl Acceptor,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = accept(name, &listener, &acceptor) => {}
    }
}

async fn accept(name: &'static str, listener: &TcpListener, acceptor: &impl Acceptor) {
    let mut logged_at: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if !acceptor.accepted(socket, peer).await {
                    return;
                }
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    logged_at = Some(Instant::now());
                    tracing::warn!(%error, "{name}: accepting a connection failed, trying again every {BACKOFF:?}");
                }
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// Whether the peer caused `error`: a connection that was gone before the accept is no fault of the listener.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
