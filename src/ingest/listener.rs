//! The accept loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::registry::Registry;
use crate::actor::{ActorHandle, Restart, supervise_task};

/// A listener that fails more often than this ends, and its end is the daemon's to judge.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(10) };
/// Pause after an accept that failed for want of something, such as file descriptors.
const BACKOFF: Duration = Duration::from_millis(100);

/// Accepts connections for `registry` until `shutdown` turns true or the registry is gone. Supervised.
pub fn start(listener: TcpListener, registry: Registry, shutdown: watch::Receiver<bool>) -> ActorHandle {
    let listener = Arc::new(listener);
    supervise_task("ingest listener", RESTART, move || {
        accept_until_shutdown(Arc::clone(&listener), registry.clone(), shutdown.clone())
    })
}

async fn accept_until_shutdown(
    listener: Arc<TcpListener>,
    registry: Registry,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = accept(&listener, &registry) => {}
    }
}

async fn accept(listener: &TcpListener, registry: &Registry) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if registry.accepted(socket, peer).await.is_err() {
                    return;
                }
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting a source connection failed, trying again in {BACKOFF:?}");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// A connection that was gone before it was accepted says nothing about the listener.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
