//! The messages from the listener and the sessions to the registry, the actor in `sessions`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::IngestConfig;
use super::flow::{Position, StreamState};
use super::stream::{Stream, StreamOwner, StreamTable};
use crate::actor::{Address, CallError, Reply};
use crate::connection::entrance::{Entrance, Permit};
use crate::connection::listener::Acceptor;
use crate::frame::Origin;
use crate::pipeline::SessionId;
use crate::wire::{ErrorCode, Hello, WireError};

/// Longest time of a request. The registry only reads tables, so a longer time means that the registry hangs.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) enum Message {
    Accepted {
        socket: TcpStream,
        peer: SocketAddr,
        permit: Permit,
    },
    Open {
        hello: Box<Hello>,
        speaker: StreamOwner,
        config: Arc<IngestConfig>,
        reply: Reply<Result<Opened, WireError>>,
    },
    StopAll(WireError),
    Drain {
        reply: Reply<()>,
    },
    Names {
        reply: Reply<Vec<String>>,
    },
}

/// A stream that a session may speak for. Dropping this value releases the stream.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Arc<Stream>,
    pub(super) origin: Arc<Origin>,
    pub(super) position: Position,
    /// The state of the stream after this value is dropped. `None` while the session is not served yet.
    pub(super) ended: Option<StreamState>,
    pub(super) session_id: SessionId,
    pub(super) table: Arc<StreamTable>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.stream.release(self.session_id, self.ended);
        if self.origin.is_anonymous() {
            self.table.remove_anonymous(self.origin.epoch);
        }
    }
}

/// A handle to the registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) address: Address<Message>,
    pub(super) entrance: Arc<Entrance>,
}

/// The registry has ended, or hangs.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry of sessions does not answer: {0}")]
pub struct RegistryError(#[from] CallError);

impl Registry {
    /// Asks the registry to let `speaker` speak for the stream of `hello`.
    pub(super) async fn open(
        &self,
        hello: Hello,
        speaker: StreamOwner,
        config: Arc<IngestConfig>,
    ) -> Result<Opened, WireError> {
        let hello = Box::new(hello);
        let open = |reply| Message::Open { hello, speaker, config, reply };
        let opened = self.address.call(CALL_TIMEOUT, open).await;
        opened.unwrap_or_else(|error| {
            Err(WireError::new(ErrorCode::Draining, format!("the daemon is ending: {error}")))
        })
    }

    /// Orders every session to end with `error`.
    pub async fn stop_all(&self, error: WireError) {
        // A registry that is gone has no sessions.
        let _ = self.address.send_urgent(Message::StopAll(error)).await;
    }

    /// Refuses new connections and waits until every session has ended by itself.
    ///
    /// # Errors
    /// When `timeout` passes first. [`Registry::names`] returns the sessions that are left.
    pub async fn drain(&self, timeout: Duration) -> Result<(), RegistryError> {
        Ok(self.address.call_urgent(timeout, |reply| Message::Drain { reply }).await?)
    }

    /// The names, as in the log, of the sessions that have not ended.
    ///
    /// # Errors
    /// When the registry is gone.
    pub async fn names(&self) -> Result<Vec<String>, RegistryError> {
        Ok(self.address.call_urgent(CALL_TIMEOUT, |reply| Message::Names { reply }).await?)
    }
}

impl Acceptor for Registry {
    async fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> bool {
        let Some(permit) = self.entrance.enter(peer).await else { return false };
        self.address.send(Message::Accepted { socket, peer, permit }).await.is_ok()
    }
}
