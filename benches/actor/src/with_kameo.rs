//! kameo with bounded mailboxes; its asks are made without a timeout, which is their faster form.

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox::bounded;
use kameo::message::{Context, Message};
use tokio::task::JoinSet;

use crate::gauge::{Gauge, Latch, Spent};
use crate::{CAPACITY, SENDERS};

/// A number, and who is to get it back.
struct Ping(u64, ActorRef<Pinger>);
struct Pong(u64);

#[derive(Actor)]
struct Ponger;

impl Message<Ping> for Ponger {
    type Reply = ();

    async fn handle(&mut self, ping: Ping, _: &mut Context<Self, ()>) {
        ping.1.tell(Pong(ping.0)).await.unwrap();
    }
}

#[derive(Actor)]
struct Pinger {
    ponger: ActorRef<Ponger>,
    round_trips: u64,
    latch: Latch,
}

impl Message<Pong> for Pinger {
    type Reply = ();

    async fn handle(&mut self, pong: Pong, context: &mut Context<Self, ()>) {
        if pong.0 == self.round_trips {
            self.latch.done();
            return;
        }
        self.ponger.tell(Ping(pong.0 + 1, context.actor_ref().clone())).await.unwrap();
    }
}

/// Pairs of actors that each send one message there and back, again and again.
pub(crate) async fn ping_pong(pairs: u64, round_trips: u64) -> Spent {
    let latch = Latch::new(pairs);
    let mut actors = Vec::new();
    for _ in 0..pairs {
        let ponger = Ponger::spawn_with_mailbox(Ponger, bounded(CAPACITY));
        let pinger = Pinger { ponger: ponger.clone(), round_trips, latch: latch.clone() };
        let pinger = Pinger::spawn_with_mailbox(pinger, bounded(CAPACITY));
        actors.push((ponger, pinger));
    }
    for (ponger, pinger) in &actors {
        ponger.wait_for_startup().await;
        pinger.wait_for_startup().await;
    }
    let gauge = Gauge::start();
    for (_, pinger) in &actors {
        pinger.tell(Pong(0)).await.unwrap();
    }
    latch.opened().await;
    let spent = gauge.stop();
    for (ponger, pinger) in actors {
        ponger.kill();
        pinger.kill();
        ponger.wait_for_shutdown().await;
        pinger.wait_for_shutdown().await;
    }
    spent
}

/// Counts up to its total.
#[derive(Actor)]
struct Counter {
    count: u64,
    total: u64,
    latch: Latch,
}

struct Count(u64);

impl Message<Count> for Counter {
    type Reply = ();

    async fn handle(&mut self, one: Count, _: &mut Context<Self, ()>) {
        self.count += one.0;
        if self.count == self.total {
            self.latch.done();
        }
    }
}

/// One message at a time, from many to one.
pub(crate) async fn fan_in(each: u64) -> Spent {
    let latch = Latch::new(1);
    let gauge = Gauge::start();
    let counter = Counter { count: 0, total: SENDERS * each, latch: latch.clone() };
    let counter = Counter::spawn_with_mailbox(counter, bounded(CAPACITY));
    let mut tasks = JoinSet::new();
    for _ in 0..SENDERS {
        let counter = counter.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                counter.tell(Count(1)).await.unwrap();
            }
        });
    }
    latch.opened().await;
    let spent = gauge.stop();
    tasks.join_all().await;
    counter.kill();
    counter.wait_for_shutdown().await;
    spent
}

#[derive(Actor)]
struct Server;

struct Next(u64);

impl Message<Next> for Server {
    type Reply = u64;

    async fn handle(&mut self, next: Next, _: &mut Context<Self, u64>) -> u64 {
        next.0 + 1
    }
}

/// Request and response that may take for ever.
pub(crate) async fn asks(askers: u64, each: u64) -> Spent {
    let server = Server::spawn_with_mailbox(Server, bounded(CAPACITY));
    server.wait_for_startup().await;
    let gauge = Gauge::start();
    let mut tasks = JoinSet::new();
    for _ in 0..askers {
        let server = server.clone();
        tasks.spawn(async move {
            for number in 0..each {
                assert_eq!(server.ask(Next(number)).await.unwrap(), number + 1);
            }
        });
    }
    tasks.join_all().await;
    let spent = gauge.stop();
    server.kill();
    server.wait_for_shutdown().await;
    spent
}
