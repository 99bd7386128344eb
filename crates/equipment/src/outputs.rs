//! Output links: durable frames for software that does not speak the protocol of this daemon.
//!
//! An output is a subscriber inside the daemon. The modules, in the order in which a frame meets them:
//!
//! * `output`: the actor of one output, which listens or connects; a [`Switchboard`] starts and ends it,
//! * `reader`: the position of a connected reader in the log ([`feed::Following`]), and where it begins,
//! * `convert`: selects frames, takes packets out of them (`channels`), puts them into the framing,
//! * `session`: one TCP connection, and `patience` with its reader; `udp`: the datagrams of an output, at the rate of
//!   `pacer`,
//! * `forward`: the lanes of an output whose other side acknowledges,
//! * `marks`: which bytes of a connection stand for which position in the log, and `acknowledged`: how many of them the
//!   kernel of the reader has,
//! * `cursor`: the position that outlives connections and restarts, in a file,
//! * `status`: the state and the counts that operators see.
//!
//! Plain TCP has no acknowledgement of the application. A cursor stands at what the kernel of the reader has
//! acknowledged: what the process of the reader has not read when it dies is lost, and what was not acknowledged is
//! repeated.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::switchboard::{Configured, End, Kind, Reporters, Switchboard};
use actor::Mailbox;
use config::{Config, Link, Output};
use feed::{Durable, Ending};
use ingest::StreamTable;

mod acknowledged;
mod channels;
mod convert;
mod cursor;
mod forward;
mod marks;
mod output;
mod pacer;
mod patience;
mod reader;
mod session;
mod status;
mod udp;

pub use cursor::unused_cursors;

use status::OutputStatus;

/// What the outputs need from the rest of the daemon.
pub struct Context {
    /// The configuration in force. Its links know what the frames of their sources are.
    pub config: watch::Receiver<Arc<Config>>,
    /// The frames.
    pub durable: Durable,
    /// The streams, which know how their sources count.
    pub streams: Arc<StreamTable>,
    /// How far the shutdown of the daemon has come.
    pub ending: watch::Receiver<Ending>,
    /// The data directory, which has the cursors.
    pub data_dir: PathBuf,
}

/// The order to a connection to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leave(String);

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A handle to the outputs. Cheap to clone.
pub type Outputs = Switchboard<api::Output>;
/// The outputs, as readers find them. Cheap to clone.
pub type OutputList = Reporters<api::Output>;

/// The offset from which on the archive keeps frames that outputs with `retention_hold` have not forwarded; `u64::MAX` if
/// no output of `config` has it. An output whose cursor is not known holds everything.
#[must_use]
pub fn held_from(config: &Config, list: &OutputList) -> u64 {
    let holds = config.outputs.iter().filter(|output| output.retention_hold);
    let cursor = |output: &Output| list.report(&output.name, 0..0).and_then(|report| report.cursor);
    holds.map(|output| cursor(output).unwrap_or(0)).min().unwrap_or(u64::MAX)
}

impl Kind for Context {
    const NAME: &'static str = "output";
    type Config = Output;
    type Status = OutputStatus;
    type Report = api::Output;

    fn configured<'a>(before: &Config, after: &'a Config) -> Vec<Configured<'a, Output>> {
        let reads_differ = !links_read_alike(&before.links, &after.links);
        let configured = |config: &'a Output| Configured {
            name: &config.name,
            config,
            is_enabled: true,
            // An output that reads the headers of frames reads them in another way.
            must_restart: reads_differ && (config.extract_packets || !config.select.idle),
        };
        after.outputs.iter().map(configured).collect()
    }

    async fn run(self: Arc<Self>, config: Arc<Output>, status: Arc<OutputStatus>, mailbox: Mailbox<End>) {
        output::run(config, status, self, mailbox).await;
    }
}

/// Whether an output reads the frames of each source in the same way with both lists of links.
fn links_read_alike(before: &[Link], after: &[Link]) -> bool {
    let alike = |a: &Link, b: &Link| {
        (&a.source, &a.station, &a.spacecraft, &a.decode) == (&b.source, &b.station, &b.spacecraft, &b.decode)
    };
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| alike(a, b))
}
