//! The actor that owns the links: it starts and ends them as the configuration and operators say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::link::{self, End};
use super::status::{LinkStatus, Phase};
use super::{Context, LinkList};
use crate::actor::{
    ActorHandle, Address, Capacity, Down, Mailbox, MonitorId, Received, Reply, Restart, supervise,
};
use crate::config::Link;

/// A link that fails more often than this stays down until it is switched on again.
const RESTART: Restart = Restart { max: 10, within: std::time::Duration::from_secs(60) };
/// Room in the mailbox of a link.
const LINK_CAPACITY: Capacity = Capacity { urgent: 1, routine: 1 };

pub(super) enum Message {
    /// Switches a link on or off. Replies false if there is no such link.
    Switch { name: String, is_on: bool, reply: Reply<bool> },
    /// Replies when every link has ended.
    Drain(Reply<()>),
}

/// Runs the manager.
pub(super) async fn run(context: Arc<Context>, list: LinkList, mailbox: Mailbox<Message>) {
    let mut manager = Manager {
        context,
        list,
        mailbox,
        links: BTreeMap::new(),
        by_monitor: HashMap::new(),
        is_draining: false,
        drained: None,
    };
    manager.serve().await;
}

struct Manager {
    context: Arc<Context>,
    list: LinkList,
    mailbox: Mailbox<Message>,
    links: BTreeMap<Arc<str>, Managed>,
    by_monitor: HashMap<MonitorId, Arc<str>>,
    /// The daemon drains: links end by themselves, and none is started.
    is_draining: bool,
    drained: Option<Reply<()>>,
}

/// A link, running or not.
struct Managed {
    status: Arc<LinkStatus>,
    running: Option<Running>,
    /// What to start, once the link does not run any more. `None` leaves it off.
    wanted: Option<Arc<Link>>,
    /// The configuration does not have the link any more.
    is_removed: bool,
}

struct Running {
    address: Address<End>,
    _task: ActorHandle,
}

impl Manager {
    async fn serve(&mut self) {
        let mut configs = self.context.configs.clone();
        self.apply(&configs.borrow_and_update().clone());
        let mut shutdown = self.context.shutdown.clone();
        loop {
            if self.is_draining && self.links.values().all(|managed| managed.running.is_none()) {
                if let Some(drained) = self.drained.take() {
                    let _ = drained.send(());
                }
                return;
            }
            let received = tokio::select! {
                received = self.mailbox.recv() => received,
                () = drain_begins(&mut shutdown), if !self.is_draining => {
                    self.is_draining = true;
                    continue;
                }
                () = changed(&mut configs) => {
                    self.apply(&configs.borrow_and_update().clone());
                    continue;
                }
            };
            let Some(received) = received else { return };
            match received {
                Received::Message(Message::Switch { name, is_on, reply }) => {
                    let _ = reply.send(self.switch(&name, is_on));
                }
                Received::Message(Message::Drain(reply)) => self.drained = Some(reply),
                Received::Down(down) => self.link_down(&down),
                Received::Exit(_) => {}
            }
        }
    }

    /// Starts, changes and ends links until they are as in `configs`. Links that do not change go on.
    fn apply(&mut self, configs: &[Arc<Link>]) {
        let gone: Vec<_> = self
            .links
            .keys()
            .filter(|name| !configs.iter().any(|config| config.name.as_str() == &***name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(managed) = self.links.get_mut(&name) {
                (managed.is_removed, managed.wanted) = (true, None);
            }
            self.settle(&name);
        }
        for config in configs {
            let name: Arc<str> = config.name.as_str().into();
            let managed = self.links.entry(Arc::clone(&name)).or_insert_with(|| Managed {
                status: LinkStatus::new(Arc::clone(config)),
                running: None,
                wanted: None,
                is_removed: true,
            });
            let is_same = !managed.is_removed && managed.status.config() == *config;
            if is_same {
                continue;
            }
            managed.is_removed = false;
            managed.status.set_config(Arc::clone(config));
            managed.wanted = config.enabled.then(|| Arc::clone(config));
            if let Some(running) = &managed.running {
                end(running);
            }
            self.settle(&name);
        }
        self.publish();
    }

    fn switch(&mut self, name: &str, is_on: bool) -> bool {
        let Some((name, managed)) = self.links.get_key_value(name) else { return false };
        if managed.is_removed {
            return false;
        }
        let name = Arc::clone(name);
        let Some(managed) = self.links.get_mut(&name) else { return false };
        managed.wanted = is_on.then(|| managed.status.config());
        if !is_on && let Some(running) = &managed.running {
            end(running);
        }
        if !is_on || managed.running.is_none() {
            self.settle(&name);
        }
        true
    }

    /// Starts the link if it shall run and does not. A link that still runs is started when it has ended.
    fn settle(&mut self, name: &Arc<str>) {
        // A link may end before the manager learns that the daemon drains.
        self.is_draining |= *self.context.shutdown.borrow();
        let Some(managed) = self.links.get_mut(name) else { return };
        match (&managed.running, &managed.wanted) {
            (Some(running), None) => end(running),
            (Some(_), Some(_)) => {}
            (None, Some(config)) if !self.is_draining => {
                let (config, status) = (Arc::clone(config), Arc::clone(&managed.status));
                let context = Arc::clone(&self.context);
                let (address, task) =
                    supervise(format!("link {name}"), RESTART, LINK_CAPACITY, move |mailbox| {
                        link::run(Arc::clone(&config), Arc::clone(&status), Arc::clone(&context), mailbox)
                    });
                let monitor = self.mailbox.monitor(&address);
                managed.running = Some(Running { address, _task: task });
                self.by_monitor.insert(monitor, Arc::clone(name));
            }
            (None, _) if managed.is_removed => {
                self.links.remove(name);
                self.publish();
            }
            (None, _) => managed.status.enter(Phase::Disabled),
        }
    }

    fn link_down(&mut self, down: &Down) {
        let Some(name) = self.by_monitor.remove(&down.monitor) else { return };
        let Some(managed) = self.links.get_mut(&name) else { return };
        managed.running = None;
        if !down.reason.is_normal() {
            managed.wanted = None;
            managed.status.enter(Phase::Failed);
            managed.status.note_trouble(format!("{}; switch the link on to try again", down.reason));
            return;
        }
        self.settle(&name);
    }

    /// Shows readers which links there are.
    fn publish(&self) {
        let links = self.links.values().filter(|managed| !managed.is_removed);
        self.list.set(links.map(|managed| Arc::clone(&managed.status)).collect());
    }
}

/// Completes when the daemon drains.
async fn drain_begins(shutdown: &mut watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Waits for new configurations.
async fn changed(configs: &mut watch::Receiver<Vec<Arc<Link>>>) {
    if configs.changed().await.is_err() {
        // The daemon ends, so no more will come.
        std::future::pending().await
    }
}

fn end(running: &Running) {
    // A full or closed mailbox means that the link is ending already.
    let _ = running.address.try_send(End);
}
