//! The registry: owns the session of every subscriber, and ends the sessions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{Context, session};
use actor::{
    ActorHandle, Address, CallError, Capacity, Mailbox, MonitorId, Received, Reply, spawn, spawn_stage,
};
use connection::Stop;
use connection::entrance::{Entrance, Permit};
use connection::listener::Acceptor;
use wire::WireError;

/// Room in the registry's mailbox. While a lane is full, the listener waits.
const CAPACITY: Capacity = Capacity { urgent: 16, routine: 256 };
/// Room in a session's mailbox. Every order means "end", so an order that finds no room is not needed.
const SESSION_CAPACITY: Capacity = Capacity { urgent: 4, routine: 1 };

/// A request to the registry.
enum Message {
    /// A connection from the listener, with its place at the entrance.
    Accepted { socket: TcpStream, peer: SocketAddr, permit: Permit },
    /// [`Registry::stop_all`].
    StopAll(WireError),
    /// [`Registry::drain`].
    Drain { reply: Reply<()> },
    /// [`Registry::count`].
    Count { reply: Reply<usize> },
}

/// A handle to the registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The mailbox of the actor.
    address: Address<Message>,
    /// Holds connections until they have said a valid SUBSCRIBE.
    entrance: Arc<Entrance>,
}

impl Registry {
    /// Starts the registry.
    pub fn start(context: Arc<Context>) -> (Self, ActorHandle) {
        let entrance = Arc::clone(&context.entrance);
        let (address, handle) = spawn_stage("subscriber registry", CAPACITY, |mailbox| {
            let state =
                State { mailbox, context, sessions: HashMap::new(), session_id_next: 1, drained: None };
            state.run()
        });
        (Self { address, entrance }, handle)
    }

    /// Orders every session to end with `error`.
    pub async fn stop_all(&self, error: WireError) {
        // A registry that is gone has no sessions.
        let _ = self.address.send_urgent(Message::StopAll(error)).await;
    }

    /// Refuses new connections and waits until every session has ended by itself.
    ///
    /// # Errors
    /// When `timeout` passes first, or the registry is gone.
    pub async fn drain(&self, timeout: Duration) -> Result<(), CallError> {
        self.address.call_urgent(timeout, |reply| Message::Drain { reply }).await
    }

    /// The number of sessions, including those in the handshake or at their end.
    ///
    /// # Errors
    /// When the registry is gone.
    pub async fn count(&self, timeout: Duration) -> Result<usize, CallError> {
        self.address.call_urgent(timeout, |reply| Message::Count { reply }).await
    }
}

impl Acceptor for Registry {
    async fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> bool {
        let Some(permit) = self.entrance.enter(peer).await else { return false };
        self.address.send(Message::Accepted { socket, peer, permit }).await.is_ok()
    }
}

/// The state of the actor.
struct State {
    /// Receives requests, and the ends of sessions.
    mailbox: Mailbox<Message>,
    /// What all sessions share.
    context: Arc<Context>,
    /// By monitor. Dropping a handle aborts its session.
    sessions: HashMap<MonitorId, (ActorHandle, Address<Stop>)>,
    /// The id of the next session.
    session_id_next: u64,
    /// The request that waits for the end of all sessions. While there is one, no connection is let in.
    drained: Option<Reply<()>>,
}

impl State {
    async fn run(mut self) {
        while let Some(received) = self.mailbox.recv().await {
            match received {
                Received::Message(message) => self.handle(message),
                Received::Down(down) => drop(self.sessions.remove(&down.monitor)),
                Received::Exit(_) => {}
            }
            if self.sessions.is_empty()
                && let Some(drained) = self.drained.take()
            {
                let _ = drained.send(());
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Accepted { socket, peer, permit } => self.accept(socket, peer, permit),
            Message::StopAll(error) => {
                for (_, session) in self.sessions.values() {
                    // A full or closed mailbox means that the session is being stopped already.
                    let _ = session.try_send_urgent(Stop(error.clone()));
                }
            }
            Message::Drain { reply } => self.drained = Some(reply),
            Message::Count { reply } => {
                let _ = reply.send(self.sessions.len());
            }
        }
    }

    fn accept(&mut self, socket: TcpStream, peer: SocketAddr, permit: Permit) {
        if self.drained.is_some() {
            return;
        }
        let session_id = self.session_id_next;
        self.session_id_next += 1;
        let context = Arc::clone(&self.context);
        let name = format!("subscriber {session_id} from {peer}");
        let (session, handle) = spawn(name, SESSION_CAPACITY, move |mailbox| {
            session::run(session::Arrival { session_id, socket, peer, permit }, mailbox, context)
        });
        let monitor = self.mailbox.monitor(&session);
        self.sessions.insert(monitor, (handle, session));
    }
}
