//! The actor that owns the actors of a switchboard.

use std::collections::BTreeMap;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Configured, End, Kind, Reporter, Reporters, Status as _};
use actor::{ActorHandle, Address, Capacity, Down, Mailbox, MonitorId, Received, Reply, Restart, supervise};
use config::Config;

/// An actor that fails more often than this stays down until it is switched on again.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(60) };
/// Room in the mailbox of an actor.
const CAPACITY: Capacity = Capacity { urgent: 1, routine: 1 };

/// A request to the manager.
pub(super) enum Message {
    /// Switches an actor on or off. Replies false if the configuration does not have it.
    Switch { name: String, is_on: bool, reply: Reply<bool> },
    /// Ends every actor at once.
    Stop,
    /// Replies when every actor has ended.
    Drain(Reply<()>),
}

/// The owner of the actors.
pub(super) struct Manager<K: Kind> {
    /// What the actors need from the rest of the daemon.
    kind: Arc<K>,
    /// Where readers find the actors.
    list: Reporters<K::Report>,
    /// Receives requests, and the ends of actors.
    mailbox: Mailbox<Message>,
    /// The actors by name. One that is removed stays until it has ended.
    actors: BTreeMap<String, Managed<K>>,
    /// The daemon drains: actors end by themselves, and none is started.
    is_draining: bool,
    /// The request that waits for the end of a drain.
    drained: Option<Reply<()>>,
}

/// An actor, running or not.
struct Managed<K: Kind> {
    /// Its configuration.
    config: Arc<K::Config>,
    /// Its state and counts, which outlive its restarts.
    status: Arc<K::Status>,
    /// The running actor; `None` while it does not run.
    running: Option<Running>,
    /// Whether it shall run. One that still runs with another configuration is started when it has ended.
    is_on: bool,
    /// The configuration does not have the actor.
    is_removed: bool,
}

/// An actor that runs.
struct Running {
    /// Its mailbox.
    address: Address<End>,
    /// Names it in the message of its end.
    monitor: MonitorId,
    /// Dropping it aborts the actor.
    _task: ActorHandle,
}

impl<K: Kind> Manager<K> {
    pub(super) fn new(kind: K, list: Reporters<K::Report>, mailbox: Mailbox<Message>) -> Self {
        let (kind, actors) = (Arc::new(kind), BTreeMap::new());
        Self { kind, list, mailbox, actors, is_draining: false, drained: None }
    }

    /// Runs the manager until all actors have ended in a drain.
    pub(super) async fn serve(
        mut self,
        mut configs: watch::Receiver<Arc<Config>>,
        mut draining: watch::Receiver<bool>,
    ) {
        let mut config = Arc::clone(&configs.borrow_and_update());
        self.apply(&config, &config);
        while !(self.is_draining && self.actors.values().all(|actor| actor.running.is_none())) {
            tokio::select! {
                // An actor that ends because the daemon drains must not be started again.
                biased;
                // A dropped sender means the same.
                _ = draining.wait_for(|is_draining| *is_draining), if !self.is_draining => {
                    self.is_draining = true;
                }
                received = self.mailbox.recv() => match received {
                    Some(Received::Message(message)) => self.handle(message),
                    Some(Received::Down(down)) => self.down(&down),
                    Some(Received::Exit(_)) => {}
                    None => return,
                },
                Ok(()) = configs.changed() => {
                    let before = replace(&mut config, Arc::clone(&configs.borrow_and_update()));
                    self.apply(&before, &config);
                }
            }
        }
        if let Some(drained) = self.drained {
            let _ = drained.send(());
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Switch { name, is_on, reply } => {
                let _ = reply.send(self.switch(&name, is_on));
            }
            Message::Stop => {
                self.is_draining = true;
                self.actors.values().for_each(Managed::end);
            }
            Message::Drain(reply) => {
                self.is_draining = true;
                self.drained = Some(reply);
            }
        }
    }

    /// Starts, changes and ends actors until they are as in the configuration `after`, which replaces `before`.
    fn apply(&mut self, before: &Config, after: &Config) {
        let configured = K::configured(before, after);
        let is_gone = |name: &str| configured.iter().all(|one| one.name != name);
        let gone: Vec<_> = self.actors.keys().filter(|name| is_gone(name)).cloned().collect();
        for name in gone {
            if let Some(actor) = self.actors.get_mut(&name) {
                (actor.is_removed, actor.is_on) = (true, false);
            }
            self.settle(&name);
        }
        for one in configured {
            self.configure(one);
        }
        self.publish();
    }

    /// Takes the configuration of one actor. Nothing happens if it is the same.
    fn configure(
        &mut self,
        Configured { name, config, is_enabled, must_restart }: Configured<'_, K::Config>,
    ) {
        let actor = self.actors.entry(name.to_owned()).or_insert_with(|| Managed {
            config: Arc::new(config.clone()),
            status: Arc::default(),
            running: None,
            is_on: false,
            is_removed: true,
        });
        let is_other = actor.is_removed || *actor.config != *config;
        if is_other || must_restart {
            actor.end();
        }
        if is_other {
            (actor.config, actor.is_on, actor.is_removed) = (Arc::new(config.clone()), is_enabled, false);
            actor.status.reconfigured();
            self.settle(name);
        }
    }

    fn switch(&mut self, name: &str, is_on: bool) -> bool {
        let Some(actor) = self.actors.get_mut(name).filter(|actor| !actor.is_removed) else { return false };
        actor.is_on = is_on;
        self.settle(name);
        true
    }

    /// Starts or ends the actor as wanted. An actor that still runs is started when it has ended.
    fn settle(&mut self, name: &str) {
        let Some(actor) = self.actors.get_mut(name) else { return };
        match actor.running {
            Some(_) if !actor.is_on => actor.end(),
            Some(_) => {}
            None if actor.is_on && !self.is_draining => {
                let kind = Arc::clone(&self.kind);
                let (config, status) = (Arc::clone(&actor.config), Arc::clone(&actor.status));
                let (address, task) =
                    supervise(format!("{} {name}", K::NAME), RESTART, CAPACITY, move |mailbox| {
                        Arc::clone(&kind).run(Arc::clone(&config), Arc::clone(&status), mailbox)
                    });
                let monitor = self.mailbox.monitor(&address);
                actor.running = Some(Running { address, monitor, _task: task });
            }
            None if actor.is_removed => drop(self.actors.remove(name)),
            None => actor.status.stopped(None),
        }
    }

    fn down(&mut self, down: &Down) {
        let has_ended = |actor: &Managed<K>| {
            actor.running.as_ref().is_some_and(|running| running.monitor == down.monitor)
        };
        let Some((name, actor)) = self.actors.iter_mut().find(|(_, actor)| has_ended(actor)) else { return };
        actor.running = None;
        if down.reason.is_normal() {
            let name = name.clone();
            return self.settle(&name);
        }
        actor.is_on = false;
        let why = format!("{}; switch the {} on to try again", down.reason, K::NAME);
        actor.status.stopped(Some(why));
    }

    /// Shows readers the actors of the configuration.
    fn publish(&self) {
        let actors = self.actors.iter().filter(|(_, actor)| !actor.is_removed);
        self.list.set(actors.map(|(name, actor)| actor.reporter(name)).collect());
    }
}

impl<K: Kind> Managed<K> {
    /// Orders the actor to end, if it runs.
    fn end(&self) {
        if let Some(running) = &self.running {
            // A full or closed mailbox means that the actor is ending already.
            let _ = running.address.try_send(End);
        }
    }

    fn reporter(&self, name: &str) -> Reporter<K::Report> {
        let (config, status) = (Arc::clone(&self.config), Arc::clone(&self.status));
        Reporter { name: name.to_owned(), report: Box::new(move |parts| status.report(&config, parts)) }
    }
}
