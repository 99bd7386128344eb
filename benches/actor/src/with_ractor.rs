//! ractor, whose mailboxes are unbounded; its calls are made without a timeout, which is their faster form.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call};
use tokio::task::JoinSet;

use crate::SENDERS;
use crate::gauge::{Gauge, Latch, Spent};

/// A number, and who is to get it back.
struct Ping(u64, ActorRef<Pong>);
struct Pong(u64);

struct Ponger;

impl Actor for Ponger {
    type Msg = Ping;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ping>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Ping>, ping: Ping, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Ok(ping.1.cast(Pong(ping.0))?)
    }
}

struct Pinger {
    ponger: ActorRef<Ping>,
    round_trips: u64,
    latch: Latch,
}

impl Actor for Pinger {
    type Msg = Pong;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Pong>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, me: ActorRef<Pong>, pong: Pong, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if pong.0 == self.round_trips {
            self.latch.done();
            return Ok(());
        }
        Ok(self.ponger.cast(Ping(pong.0 + 1, me))?)
    }
}

/// Pairs of actors that each send one message there and back, again and again.
pub(crate) async fn ping_pong(pairs: u64, round_trips: u64) -> Spent {
    let latch = Latch::new(pairs);
    let mut actors = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..pairs {
        let (ponger, joined) = Actor::spawn(None, Ponger, ()).await.unwrap();
        actors.push((ponger.get_cell(), joined));
        let pinger = Pinger { ponger, round_trips, latch: latch.clone() };
        let (pinger, joined) = Actor::spawn(None, pinger, ()).await.unwrap();
        actors.push((pinger.get_cell(), joined));
        starts.push(pinger);
    }
    let gauge = Gauge::start();
    for start in starts {
        start.cast(Pong(0)).unwrap();
    }
    latch.opened().await;
    let spent = gauge.stop();
    for (actor, joined) in actors {
        actor.stop(None);
        joined.await.unwrap();
    }
    spent
}

/// Counts up to what it is made with.
struct Counter(u64, Latch);

impl Actor for Counter {
    type Msg = u64;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<u64>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _: ActorRef<u64>, one: u64, count: &mut u64) -> Result<(), ActorProcessingErr> {
        *count += one;
        if *count == self.0 {
            self.1.done();
        }
        Ok(())
    }
}

/// One message at a time, from many to one, without a bound.
pub(crate) async fn fan_in(each: u64) -> Spent {
    let latch = Latch::new(1);
    let gauge = Gauge::start();
    let (counter, joined) = Actor::spawn(None, Counter(SENDERS * each, latch.clone()), ()).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..SENDERS {
        let counter = counter.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                counter.cast(1).unwrap();
            }
        });
    }
    latch.opened().await;
    let spent = gauge.stop();
    tasks.join_all().await;
    counter.stop(None);
    joined.await.unwrap();
    spent
}

enum Ask {
    Next(u64, RpcReplyPort<u64>),
}

struct Server;

impl Actor for Server {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Ask>, ask: Ask, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let Ask::Next(number, reply) = ask;
        Ok(reply.send(number + 1)?)
    }
}

/// Request and response that may take for ever.
pub(crate) async fn asks(askers: u64, each: u64) -> Spent {
    let (server, joined) = Actor::spawn(None, Server, ()).await.unwrap();
    let gauge = Gauge::start();
    let mut tasks = JoinSet::new();
    for _ in 0..askers {
        let server = server.clone();
        tasks.spawn(async move {
            for number in 0..each {
                assert_eq!(call!(server, Ask::Next, number).unwrap(), number + 1);
            }
        });
    }
    tasks.join_all().await;
    let spent = gauge.stop();
    server.stop(None);
    joined.await.unwrap();
    spent
}
