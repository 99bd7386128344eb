//! The product's own actors.

use std::time::Duration;

use actor::{ActorHandle, Address, Capacity, Mailbox, Received, Reply, Tasks, spawn};

use crate::gauge::{Gauge, Latch, Spent};
use crate::{CAPACITY, SENDERS};

const LANES: Capacity = Capacity { urgent: CAPACITY, routine: CAPACITY };

fn message<M>(received: Option<Received<M>>) -> Option<M> {
    match received {
        Some(Received::Message(message)) => Some(message),
        _ => None,
    }
}

/// Pairs of actors that each send one message there and back, again and again.
pub(crate) async fn ping_pong(pairs: u64, round_trips: u64) -> Spent {
    let latch = Latch::new(pairs);
    let mut handles = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..pairs {
        let latch = latch.clone();
        let (introduce_tx, introduce_rx) = tokio::sync::oneshot::channel::<Address<u64>>();
        let (pinger, handle) = spawn("pinger", LANES, move |mut mailbox: Mailbox<u64>| async move {
            let ponger = introduce_rx.await.unwrap();
            while let Some(number) = message(mailbox.recv().await) {
                if number == round_trips {
                    break;
                }
                ponger.send(number + 1).await.unwrap();
            }
            latch.done();
        });
        handles.push(handle);
        let back = pinger.clone();
        let (ponger, handle) = spawn("ponger", LANES, move |mut mailbox: Mailbox<u64>| async move {
            while let Some(number) = message(mailbox.recv().await) {
                back.send(number).await.unwrap();
            }
        });
        handles.push(handle);
        introduce_tx.send(ponger).unwrap();
        starts.push(pinger);
    }
    let gauge = Gauge::start();
    for start in starts {
        start.send(0).await.unwrap();
    }
    latch.opened().await;
    let spent = gauge.stop();
    join_all(handles).await;
    spent
}

async fn join_all(handles: Vec<ActorHandle>) {
    for handle in handles {
        assert!(handle.join().await.is_normal());
    }
}

/// One message at a time, from many to one.
pub(crate) async fn fan_in(each: u64) -> Spent {
    let mut tasks = Tasks::new();
    let gauge = Gauge::start();
    let (address, handle) = spawn("receiver", LANES, move |mut mailbox: Mailbox<u64>| async move {
        let mut count = 0;
        while count < SENDERS * each {
            count += message(mailbox.recv().await).unwrap();
        }
    });
    for _ in 0..SENDERS {
        let address = address.clone();
        tasks.spawn("sender", async move {
            for _ in 0..each {
                address.send(1).await.unwrap();
            }
        });
    }
    join_all(vec![handle]).await;
    let spent = gauge.stop();
    while tasks.join_next().await.is_some() {}
    spent
}

/// Request and response, within a time as always.
pub(crate) async fn asks(askers: u64, each: u64) -> Spent {
    let (address, handle) = spawn("server", LANES, |mut mailbox: Mailbox<(u64, Reply<u64>)>| async move {
        while let Some((number, reply)) = message(mailbox.recv().await) {
            reply.send(number + 1).unwrap();
        }
    });
    let gauge = Gauge::start();
    let mut tasks = Tasks::new();
    for _ in 0..askers {
        let address = address.clone();
        tasks.spawn("asker", async move {
            for number in 0..each {
                let answer = address.call(Duration::from_secs(5), |reply| (number, reply)).await;
                assert_eq!(answer, Ok(number + 1));
            }
        });
    }
    while let Some((_, reason)) = tasks.join_next().await {
        assert!(reason.is_normal());
    }
    let spent = gauge.stop();
    drop(address);
    join_all(vec![handle]).await;
    spent
}
