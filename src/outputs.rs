//! Output links: durable frames for software that does not speak the protocol of this daemon.
//!
//! An output is a subscriber inside the daemon. The modules, in the order in which a frame meets them:
//!
//! * `manager`: the actor that owns the outputs, starts and ends them,
//! * `output`: the actor of one output, which listens or connects,
//! * `reader`: the position of a connected reader in the log ([`crate::feed::Following`]), and where it begins,
//! * `convert`: selects frames, takes packets out of them (`channels`), puts them into the framing,
//! * `session`: one TCP connection; `udp`: the datagrams of an output, at the rate of `pacer`,
//! * `marks`: which bytes of a connection stand for which position in the log, and `acknowledged`: how many of them the
//!   kernel of the reader has,
//! * `cursor`: the position that outlives connections and restarts, in a file,
//! * [`status`]: the state and the counts that operators see.
//!
//! Plain TCP has no acknowledgement of the application. A cursor stands at what the kernel of the reader has
//! acknowledged: what the process of the reader has not read when it dies is lost, and what was not acknowledged is
//! repeated.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::{ActorHandle, Address, CallError, Capacity, Reply, spawn_stage};
use crate::config::{Link, Output};
use crate::feed::{Durable, Ending};

mod acknowledged;
mod channels;
mod convert;
mod cursor;
mod manager;
mod marks;
mod output;
mod pacer;
mod reader;
mod session;
pub mod status;
mod udp;

pub use status::{ClientView, OutputCounts, OutputView, Phase};

use manager::Message;
use status::OutputStatus;

/// Longest time of a request. The manager only reads tables, so a longer time means that it hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Room in the manager's mailbox. While a lane is full, callers wait.
const CAPACITY: Capacity = Capacity { urgent: 4, routine: 64 };

/// The outputs of a configuration, and its links: they know what the frames of their sources are.
#[derive(Clone, Debug)]
pub struct Configs {
    /// The outputs.
    pub outputs: Vec<Arc<Output>>,
    /// The input links.
    pub links: Arc<[Link]>,
}

/// What the outputs need from the rest of the daemon.
pub struct Context {
    /// The configuration in force.
    pub configs: watch::Receiver<Configs>,
    /// The frames.
    pub durable: Durable,
    /// How far the shutdown of the daemon has come.
    pub ending: watch::Receiver<Ending>,
    /// The directory of the cursors.
    pub dir: PathBuf,
}

/// The order to a connection to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leave(String);

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The outputs, as readers find them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OutputList(Arc<Mutex<Vec<Arc<OutputStatus>>>>);

impl OutputList {
    /// The outputs now, by name.
    #[must_use]
    pub fn views(&self) -> Vec<OutputView> {
        let outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        outputs.iter().map(|status| status.view()).collect()
    }

    fn set(&self, outputs: Vec<Arc<OutputStatus>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = outputs;
    }
}

/// A handle to the outputs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outputs {
    address: Address<Message>,
    list: OutputList,
}

/// The manager of the outputs has ended, or hangs. It ends with a drain.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the outputs do not answer: {0}")]
pub struct OutputsError(#[from] CallError);

impl Outputs {
    /// Starts the outputs of the configuration. A new configuration starts new outputs, ends outputs that are gone, and
    /// restarts outputs that have changed. Other outputs go on, also those that an operator has switched on or off.
    pub fn start(context: Context) -> (Self, ActorHandle) {
        let (context, list) = (Arc::new(context), OutputList::default());
        let own = list.clone();
        let (address, handle) =
            spawn_stage("outputs", CAPACITY, |mailbox| manager::run(context, own, mailbox));
        (Self { address, list }, handle)
    }

    /// Switches an output on or off, until its configuration changes or the daemon restarts. Returns false if there is
    /// no such output.
    ///
    /// # Errors
    /// When the manager has ended, or hangs.
    pub async fn switch(&self, name: &str, is_on: bool) -> Result<bool, OutputsError> {
        let name = name.to_owned();
        Ok(self.address.call(CALL_TIMEOUT, |reply| Message::Switch { name, is_on, reply }).await?)
    }

    /// Orders every output to end at once. The cursors are saved.
    pub async fn stop(&self) {
        // A manager that is gone has no outputs.
        let _ = self.address.send_urgent(Message::Stop).await;
    }

    /// Waits until every output has ended by itself: in a drain, when its readers have everything or take nothing.
    ///
    /// # Errors
    /// When `timeout` passes first, or the manager has ended before.
    pub async fn drain(&self, timeout: Duration) -> Result<(), OutputsError> {
        Ok(self.address.call_urgent(timeout, |reply: Reply<()>| Message::Drain(reply)).await?)
    }

    /// A handle that only reads.
    #[must_use]
    pub fn list(&self) -> OutputList {
        self.list.clone()
    }
}
