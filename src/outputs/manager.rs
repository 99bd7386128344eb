//! The actor that owns the outputs: it starts and ends them as the configuration and operators say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::output::{self, End};
use super::status::{OutputStatus, Phase};
use super::{Configs, Context, OutputList};
use crate::actor::{
    ActorHandle, Address, Capacity, Down, Mailbox, MonitorId, Received, Reply, Restart, supervise,
};
use crate::config::{Link, Output};
use crate::feed::Ending;

/// An output that fails more often than this stays down until it is switched on again.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(60) };
/// Room in the mailbox of an output.
const OUTPUT_CAPACITY: Capacity = Capacity { urgent: 1, routine: 1 };

pub(super) enum Message {
    /// Switches an output on or off. Replies false if there is no such output.
    Switch { name: String, is_on: bool, reply: Reply<bool> },
    /// Ends every output at once.
    Stop,
    /// Replies when every output has ended.
    Drain(Reply<()>),
}

/// Runs the manager.
pub(super) async fn run(context: Arc<Context>, list: OutputList, mailbox: Mailbox<Message>) {
    let mut manager = Manager {
        context,
        list,
        mailbox,
        links: Vec::new().into(),
        outputs: BTreeMap::new(),
        by_monitor: HashMap::new(),
        is_draining: false,
        drained: None,
    };
    manager.serve().await;
}

struct Manager {
    context: Arc<Context>,
    list: OutputList,
    mailbox: Mailbox<Message>,
    /// The links of the configuration in force.
    links: Arc<[Link]>,
    outputs: BTreeMap<Arc<str>, Managed>,
    by_monitor: HashMap<MonitorId, Arc<str>>,
    /// The daemon drains: outputs end by themselves, and none is started.
    is_draining: bool,
    drained: Option<Reply<()>>,
}

/// An output, running or not.
struct Managed {
    status: Arc<OutputStatus>,
    running: Option<Running>,
    /// What to start, once the output does not run. `None` leaves it off.
    wanted: Option<Arc<Output>>,
    /// The configuration does not have the output.
    is_removed: bool,
}

struct Running {
    address: Address<End>,
    _task: ActorHandle,
}

impl Manager {
    async fn serve(&mut self) {
        let mut configs = self.context.configs.clone();
        let first = configs.borrow_and_update().clone();
        self.apply(&first);
        let mut ending = self.context.ending.clone();
        loop {
            if self.is_draining && self.outputs.values().all(|managed| managed.running.is_none()) {
                if let Some(drained) = self.drained.take() {
                    let _ = drained.send(());
                }
                return;
            }
            let received = tokio::select! {
                received = self.mailbox.recv() => received,
                () = drains(&mut ending), if !self.is_draining => {
                    self.is_draining = true;
                    continue;
                }
                () = changed(&mut configs) => {
                    let configs = configs.borrow_and_update().clone();
                    self.apply(&configs);
                    continue;
                }
            };
            match received {
                Some(Received::Message(message)) => self.handle(message),
                Some(Received::Down(down)) => self.output_down(&down),
                Some(Received::Exit(_)) => {}
                None => return,
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Switch { name, is_on, reply } => {
                let _ = reply.send(self.switch(&name, is_on));
            }
            Message::Stop => {
                self.is_draining = true;
                self.outputs.values().filter_map(|managed| managed.running.as_ref()).for_each(end);
            }
            Message::Drain(reply) => {
                self.is_draining = true;
                self.drained = Some(reply);
            }
        }
    }

    /// Starts, changes and ends outputs until they are as in `configs`. Outputs that do not change go on.
    fn apply(&mut self, configs: &Configs) {
        let reads_differ = !links_read_alike(&self.links, &configs.links);
        self.links = Arc::clone(&configs.links);
        let is_gone = |name: &str| !configs.outputs.iter().any(|config| config.name == name);
        let gone: Vec<_> = self.outputs.keys().filter(|name| is_gone(name)).cloned().collect();
        for name in gone {
            if let Some(managed) = self.outputs.get_mut(&name) {
                (managed.is_removed, managed.wanted) = (true, None);
            }
            self.settle(&name);
        }
        for config in &configs.outputs {
            let name: Arc<str> = config.name.as_str().into();
            let managed = self.outputs.entry(Arc::clone(&name)).or_insert_with(|| Managed {
                status: OutputStatus::new(Arc::clone(config)),
                running: None,
                wanted: None,
                is_removed: true,
            });
            let is_other = managed.is_removed || managed.status.config() != *config;
            if is_other {
                managed.is_removed = false;
                managed.status.set_config(Arc::clone(config));
                managed.wanted = Some(Arc::clone(config));
            }
            // An output that reads the headers of frames reads them in another way.
            if let Some(running) = &managed.running
                && (is_other || reads_differ && (config.extract_packets || !config.select.idle))
            {
                end(running);
            }
            self.settle(&name);
        }
        self.publish();
    }

    fn switch(&mut self, name: &str, is_on: bool) -> bool {
        let Some((name, managed)) = self.outputs.get_key_value(name) else { return false };
        if managed.is_removed {
            return false;
        }
        let name = Arc::clone(name);
        if let Some(managed) = self.outputs.get_mut(&name) {
            managed.wanted = is_on.then(|| managed.status.config());
        }
        self.settle(&name);
        true
    }

    /// Starts or ends the output as wanted. An output that still runs is started when it has ended.
    fn settle(&mut self, name: &Arc<str>) {
        // An output may end before the manager learns that the daemon drains.
        self.is_draining |= *self.context.ending.borrow() != Ending::NotYet;
        let Some(managed) = self.outputs.get_mut(name) else { return };
        match (&managed.running, &managed.wanted) {
            (Some(running), None) => end(running),
            (Some(_), Some(_)) => {}
            (None, Some(config)) if !self.is_draining => {
                let (config, status) = (Arc::clone(config), Arc::clone(&managed.status));
                let context = Arc::clone(&self.context);
                let (address, task) =
                    supervise(format!("output {name}"), RESTART, OUTPUT_CAPACITY, move |mailbox| {
                        output::run(Arc::clone(&config), Arc::clone(&status), Arc::clone(&context), mailbox)
                    });
                let monitor = self.mailbox.monitor(&address);
                managed.running = Some(Running { address, _task: task });
                self.by_monitor.insert(monitor, Arc::clone(name));
            }
            (None, _) if managed.is_removed => {
                self.outputs.remove(name);
                self.publish();
            }
            (None, _) => managed.status.enter(Phase::Disabled),
        }
    }

    fn output_down(&mut self, down: &Down) {
        let Some(name) = self.by_monitor.remove(&down.monitor) else { return };
        let Some(managed) = self.outputs.get_mut(&name) else { return };
        managed.running = None;
        if !down.reason.is_normal() {
            managed.wanted = None;
            managed.status.enter(Phase::Failed);
            managed.status.note_trouble(format!("{}; switch the output on to try again", down.reason));
            return;
        }
        self.settle(&name);
    }

    /// Shows readers which outputs there are.
    fn publish(&self) {
        let outputs = self.outputs.values().filter(|managed| !managed.is_removed);
        self.list.set(outputs.map(|managed| Arc::clone(&managed.status)).collect());
    }
}

/// Whether an output reads the frames of each source in the same way with both lists of links.
fn links_read_alike(before: &[Link], after: &[Link]) -> bool {
    let alike = |a: &Link, b: &Link| {
        (&a.source, &a.station, &a.spacecraft, &a.decode) == (&b.source, &b.station, &b.spacecraft, &b.decode)
    };
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| alike(a, b))
}

/// Completes when the daemon drains.
async fn drains(ending: &mut watch::Receiver<Ending>) {
    // A dropped sender means the same.
    let _ = ending.wait_for(|ending| *ending != Ending::NotYet).await;
}

/// Waits for new configurations.
async fn changed(configs: &mut watch::Receiver<Configs>) {
    if configs.changed().await.is_err() {
        // The daemon ends, so no more will come.
        std::future::pending().await
    }
}

fn end(running: &Running) {
    // A full or closed mailbox means that the output is ending already.
    let _ = running.address.try_send(End);
}
