//! The router: knows which sources exist, and when no more will come (RFC-0047, "Router actor").

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::queue::Sources;
use crate::actor::{
    ActorHandle, Address, CallError, Capacity, Down, Mailbox, MonitorId, Received, Reply, spawn_stage,
};
use crate::frame::Origin;
use crate::logging::{Kind, by_peer};
use crate::wire::{ErrorCode, WireError};

/// Longest time of a request to the router. The router only reads a table, so a longer time means that it
/// hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Room in the router's mailbox. While a lane is full, callers wait.
const CAPACITY: Capacity = Capacity { urgent: 16, routine: 1024 };
/// Identifies a session; unique while the daemon runs.
pub type SessionId = u64;

/// The order to a session to end, with the ERROR its peer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub WireError);

/// A source as the router knows it: one connection and the stream it carries.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// The connection.
    pub session_id: SessionId,
    /// The stream and its epoch.
    pub origin: Arc<Origin>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// When it was registered, unix nanoseconds.
    pub since_ns: i64,
}

enum Control {
    Add { source: SourceInfo, session: Address<Stop>, reply: Reply<Result<(), WireError>> },
    Remove { session_id: SessionId, reply: Reply<bool> },
    List { reply: Reply<Vec<SourceInfo>> },
    Drain { reply: Reply<()> },
}

/// A handle to the router. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    control: Address<Control>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add { .. } => "Add",
            Self::Remove { .. } => "Remove",
            Self::List { .. } => "List",
            Self::Drain { .. } => "Drain",
        })
    }
}

/// Why a request to the router failed.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The router has ended, or hangs.
    #[error("the router does not answer: {0}")]
    Call(#[from] CallError),
    /// The router takes no more sources. The error is for the peer.
    #[error(transparent)]
    Refused(WireError),
}

impl Router {
    /// Starts the router. It ends when the last [`Router`] is dropped, also after [`Router::drain`].
    pub fn start(sources: Arc<Sources>) -> (Self, ActorHandle) {
        let (control, handle) = spawn_stage("router", CAPACITY, |mailbox| {
            State { mailbox, sources, table: BTreeMap::new(), by_monitor: HashMap::new(), draining: false }
                .run()
        });
        (Self { control }, handle)
    }

    /// Registers `source`. The source stays registered until `session` has ended.
    ///
    /// # Errors
    /// [`RouterError::Refused`] with `draining` once a drain has begun.
    pub async fn add(&self, source: SourceInfo, session: Address<Stop>) -> Result<(), RouterError> {
        let added = self.control.call(CALL_TIMEOUT, |reply| Control::Add { source, session, reply }).await?;
        added.map_err(RouterError::Refused)
    }

    /// Orders the session of a source to end with ERROR `removed`. Returns false when there is no such
    /// source.
    ///
    /// Frames that the session has handed over stay queued and are archived.
    ///
    /// # Errors
    /// [`RouterError::Call`] when the router is gone.
    pub async fn remove(&self, session_id: SessionId) -> Result<bool, RouterError> {
        Ok(self.control.call(CALL_TIMEOUT, |reply| Control::Remove { session_id, reply }).await?)
    }

    /// The registered sources, by session.
    ///
    /// # Errors
    /// [`RouterError::Call`] when the router is gone.
    pub async fn list(&self) -> Result<Vec<SourceInfo>, RouterError> {
        Ok(self.control.call(CALL_TIMEOUT, |reply| Control::List { reply }).await?)
    }

    /// Takes no more sources, waits until every session has ended, and tells the fan-in that nothing more comes.
    ///
    /// # Errors
    /// [`RouterError::Call`] when the router is gone, or `timeout` has passed.
    pub async fn drain(&self, timeout: Duration) -> Result<(), RouterError> {
        Ok(self.control.call_urgent(timeout, |reply| Control::Drain { reply }).await?)
    }
}

struct State {
    mailbox: Mailbox<Control>,
    sources: Arc<Sources>,
    table: BTreeMap<SessionId, Entry>,
    by_monitor: HashMap<MonitorId, SessionId>,
    draining: bool,
}

struct Entry {
    info: SourceInfo,
    session: Address<Stop>,
}

impl State {
    async fn run(mut self) {
        while let Some(received) = self.mailbox.recv().await {
            self.handle(received).await;
        }
        // All addresses are dropped, so no session is left that could push.
        self.sources.finish();
    }

    async fn handle(&mut self, received: Received<Control>) {
        match received {
            Received::Message(Control::Add { source, session, reply }) => {
                let _ = reply.send(self.add(source, session));
            }
            Received::Message(Control::Remove { session_id, reply }) => {
                let _ = reply.send(self.remove(session_id));
            }
            Received::Message(Control::List { reply }) => {
                let _ = reply.send(self.table.values().map(|entry| entry.info.clone()).collect());
            }
            Received::Message(Control::Drain { reply }) => {
                self.draining = true;
                self.await_sessions().await;
                self.sources.finish();
                let _ = reply.send(());
            }
            Received::Down(down) => self.forget(&down),
            Received::Exit(_) => {}
        }
    }

    fn add(&mut self, info: SourceInfo, session: Address<Stop>) -> Result<(), WireError> {
        if self.draining {
            return Err(WireError::new(ErrorCode::Draining, "the daemon is draining"));
        }
        let monitor = self.mailbox.monitor(&session);
        by_peer!(
            Kind::Registered, INFO,
            session = info.session_id, stream = %info.origin.stream, epoch = info.origin.epoch, peer = %info.peer,
            "source registered"
        );
        self.by_monitor.insert(monitor, info.session_id);
        self.table.insert(info.session_id, Entry { info, session });
        Ok(())
    }

    fn remove(&mut self, session_id: SessionId) -> bool {
        let Some(entry) = self.table.get(&session_id) else {
            return false;
        };
        let order = Stop(WireError::new(ErrorCode::Removed, "removed by an operator"));
        // A full or closed mailbox means that the session is being stopped already.
        let _ = entry.session.try_send_urgent(order);
        true
    }

    fn forget(&mut self, down: &Down) {
        let gone =
            self.by_monitor.remove(&down.monitor).and_then(|session_id| self.table.remove(&session_id));
        if let Some(Entry { info, .. }) = gone {
            let (session, stream) = (info.session_id, &info.origin.stream);
            by_peer!(Kind::Gone, INFO, session, %stream, reason = %down.reason, "source gone");
        }
    }

    /// Handles the `Down`s of the sessions first. Other messages keep their order and are handled afterwards.
    async fn await_sessions(&mut self) {
        while !self.table.is_empty() {
            let received =
                match self.mailbox.recv_match(|received| matches!(received, Received::Down(_))).await {
                    Ok(Some(received)) => received,
                    Ok(None) => return,
                    // Too many other messages have come meanwhile, so the oldest ones are answered first.
                    Err(_) => match self.mailbox.try_recv() {
                        Some(received) => received,
                        None => continue,
                    },
                };
            match received {
                Received::Message(Control::Drain { reply }) => drop(reply),
                other => Box::pin(self.handle(other)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests;
