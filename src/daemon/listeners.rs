//! The listening sockets: the service manager hands some over, the daemon binds the others.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{StartError, listen_error};
use crate::systemd::Sockets;
use config::{Config, Listening};

/// The listeners of all parts.
pub(super) struct Listeners {
    /// For sources.
    pub(super) ingest: TcpListener,
    /// For subscribers.
    pub(super) feed: TcpListener,
    /// For operators.
    pub(super) http: TcpListener,
    /// The addresses of the sockets that were handed over, and for the others the ones in the configuration.
    pub(super) listening: Listening,
}

impl Listeners {
    /// Takes `sockets` and binds the missing ones.
    ///
    /// The rules of the configuration for its addresses also hold for the addresses of the sockets: every
    /// client that reaches a listener may use it, unless the listener asks for tokens.
    pub(super) async fn bind(config: &Config, sockets: Sockets) -> Result<Self, StartError> {
        let mut listening = config.listening();
        let ingest = activated("ingest.listen", sockets.ingest, &mut listening.ingest)?;
        let feed = activated("feed.listen", sockets.feed, &mut listening.feed)?;
        let http = activated("http.listen", sockets.http, &mut listening.http)?;
        for warning in config.validate_at(listening).map_err(StartError::Sockets)? {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            ingest: or_bind(ingest, "ingest.listen", config.ingest.listen).await?,
            feed: or_bind(feed, "feed.listen", config.feed.listen).await?,
            http: or_bind(http, "http.listen", config.http.listen).await?,
            listening,
        })
    }
}

/// Takes a socket that was handed over. Its own address replaces `listen`.
fn activated(
    key: &'static str,
    socket: Option<std::net::TcpListener>,
    listen: &mut SocketAddr,
) -> Result<Option<TcpListener>, StartError> {
    let Some(socket) = socket else { return Ok(None) };
    let taken = |socket: std::net::TcpListener| -> io::Result<_> {
        let address = socket.local_addr()?;
        Ok((TcpListener::from_std(socket)?, address))
    };
    let (listener, address) = taken(socket).map_err(|source| listen_error(key, *listen, source))?;
    if address == *listen {
        tracing::info!(%address, "{key}: the socket was handed over");
    } else {
        tracing::info!(%address, "{key}: the socket was handed over, its address is used instead of {listen}");
    }
    *listen = address;
    Ok(Some(listener))
}

async fn or_bind(
    activated: Option<TcpListener>,
    key: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    match activated {
        Some(listener) => Ok(listener),
        None => TcpListener::bind(address).await.map_err(|source| listen_error(key, address, source)),
    }
}
