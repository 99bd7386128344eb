//! Input links: equipment and software that speak their own protocol become sources.
//!
//! A link turns the bytes of one peer into frames of one or more streams. The modules, in the order in which a frame
//! meets them:
//!
//! * `link`: the actor of one link, which makes connections; a [`Switchboard`] starts and ends it,
//! * `handshakes`: the TLS handshakes of peers that have connected to a link that listens,
//! * `session`: one connection: reads, cuts into units ([`framing`]) and hands over,
//! * `udp`: the socket of a link that receives datagrams,
//! * `sorter`: the source and the lane of each unit, or why it is dropped,
//! * `candidates`: units of sources that nothing vouches for yet,
//! * `recent`: a bound for streams and channels, where what is idle gives way,
//! * `streams`: the streams of a connection, which are opened at the router like those of any source,
//! * `status`: the state and the counts that operators see.
//!
//! The peers have no acknowledgement: a frame is at risk from the socket to the sync of the archive. A TCP peer is read
//! only as fast as the streams' queues have room.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::switchboard::{Configured, End, Kind, Reporters, Switchboard};
use actor::Mailbox;
use config::{Config, ConfigHandle, Link, LinkTransport};
use frame::BufferPool;
use ingest::{Router, SessionPolicy};

mod candidates;
mod handshakes;
mod link;
mod recent;
mod session;
mod sorter;
mod status;
mod streams;
mod udp;

pub use sorter::{Fate, Kept, Sorter};
pub use status::Channel;

use status::LinkStatus;

/// What the links need from the rest of the daemon.
#[derive(Debug)]
pub struct Context {
    /// Opens the streams.
    pub router: Router,
    /// The limits of the source side that are in force.
    pub policy: watch::Receiver<Arc<SessionPolicy>>,
    /// The configuration in force, for the certificates.
    pub live: ConfigHandle,
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

/// A handle to the links. Cheap to clone.
pub type Links = Switchboard<api::Link>;
/// The links, as readers find them. Cheap to clone.
pub type LinkList = Reporters<api::Link>;

impl Kind for Context {
    const NAME: &'static str = "link";
    type Config = Link;
    type Status = LinkStatus;
    type Report = api::Link;

    fn configured<'a>(_: &Config, after: &'a Config) -> Vec<Configured<'a, Link>> {
        let configured = |config: &'a Link| Configured {
            name: &config.name,
            config,
            is_enabled: config.enabled,
            must_restart: false,
        };
        after.links.iter().map(configured).collect()
    }

    async fn run(self: Arc<Self>, config: Arc<Link>, status: Arc<LinkStatus>, mailbox: Mailbox<End>) {
        link::run(config, status, self, mailbox).await;
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
