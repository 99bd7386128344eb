//! Input links: equipment and software that speak their own protocol become sources.
//!
//! A link turns the bytes of one peer into frames of one or more streams. The modules, in the order in which a frame
//! meets them:
//!
//! * `manager`: the actor that owns the links, starts and ends them,
//! * `link`: the actor of one link, which makes connections,
//! * `session`: one connection: reads, cuts into units ([`crate::framing`]) and hands over,
//! * `udp`: the socket of a link that receives datagrams,
//! * `sorter`: the source and the lane of each unit, or why it is dropped,
//! * `streams`: the streams of a connection, which are opened at the router like those of any source,
//! * [`status`]: the state and the counts that operators see.
//!
//! The peers have no acknowledgement: a frame is at risk from the socket to the sync of the archive. A TCP peer is read
//! only as fast as the streams' queues have room.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::{ActorHandle, Address, CallError, Capacity, Reply, spawn_stage};
use crate::config::{Link, LinkTransport};
use crate::frame::BufferPool;
use crate::ingest::{Router, SessionPolicy};

mod link;
mod manager;
mod session;
mod sorter;
pub mod status;
mod streams;
mod udp;

pub(crate) use sorter::{Fate, Kept, Sorter};
pub use status::{Channel, LinkCounts, LinkView, Phase, SILENT_AFTER};

use manager::Message;
use status::LinkStatus;

/// Longest time of a request. The manager only reads tables, so a longer time means that it hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Room in the manager's mailbox. While a lane is full, callers wait.
const CAPACITY: Capacity = Capacity { urgent: 4, routine: 64 };

/// What the links need from the rest of the daemon.
#[derive(Debug)]
pub struct Context {
    /// The links of the configuration in force.
    pub configs: watch::Receiver<Vec<Arc<Link>>>,
    /// Opens the streams.
    pub router: Router,
    /// The limits of the source side that are in force.
    pub policy: watch::Receiver<Arc<SessionPolicy>>,
    /// The pool of buffers for frames.
    pub buffers: Arc<BufferPool>,
    /// Turns true when the daemon drains.
    pub shutdown: watch::Receiver<bool>,
}

impl Context {
    /// In a drain, links stop reading after this long.
    fn drain_read_max(&self) -> Duration {
        self.policy.borrow().config.drain_read_max
    }
}

/// The links, as readers find them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LinkList(Arc<Mutex<Vec<Arc<LinkStatus>>>>);

impl LinkList {
    /// The links now, by name.
    #[must_use]
    pub fn views(&self) -> Vec<LinkView> {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        links.iter().map(|status| status.view()).collect()
    }

    fn set(&self, links: Vec<Arc<LinkStatus>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = links;
    }
}

/// A handle to the links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links {
    address: Address<Message>,
    list: LinkList,
}

/// The manager of the links has ended, or hangs. It ends with a drain.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the links do not answer: {0}")]
pub struct LinksError(#[from] CallError);

impl Links {
    /// Starts the links of the configuration. A new configuration starts new links, ends links that are gone, and
    /// restarts links that have changed. Other links go on, also those that an operator has switched on or off.
    pub fn start(context: Context) -> (Self, ActorHandle) {
        let (context, list) = (Arc::new(context), LinkList::default());
        let own = list.clone();
        let (address, handle) = spawn_stage("links", CAPACITY, |mailbox| manager::run(context, own, mailbox));
        (Self { address, list }, handle)
    }

    /// Switches a link on or off, until its configuration changes or the daemon restarts. Returns false if there is no
    /// such link.
    ///
    /// # Errors
    /// When the manager has ended, or hangs.
    pub async fn switch(&self, name: &str, is_on: bool) -> Result<bool, LinksError> {
        let name = name.to_owned();
        Ok(self.address.call(CALL_TIMEOUT, |reply| Message::Switch { name, is_on, reply }).await?)
    }

    /// Waits until every link has read what its socket holds and has ended. The daemon must be draining.
    ///
    /// # Errors
    /// When the manager has ended before, or `timeout` passes first.
    pub async fn drain(&self, timeout: Duration) -> Result<(), LinksError> {
        Ok(self.address.call_urgent(timeout, |reply: Reply<()>| Message::Drain(reply)).await?)
    }

    /// A handle that only reads.
    #[must_use]
    pub fn list(&self) -> LinkList {
        self.list.clone()
    }
}

/// Whether `address` may connect to `link` or send to it. Without a list of peers, every address may.
fn allows(link: &Link, address: IpAddr) -> bool {
    match &link.transport {
        LinkTransport::Connect { .. } => true,
        LinkTransport::Listen { peers, .. } | LinkTransport::Udp { peers, .. } => {
            peers.is_empty() || peers.iter().any(|network| network.contains(address))
        }
    }
}
