//! The measure of the others: tasks, `mpsc` and `oneshot`.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gauge::{Gauge, Latch, Spent};
use crate::{CAPACITY, SENDERS};

/// Pairs of tasks that each send one message there and back, again and again.
pub(crate) async fn ping_pong(pairs: u64, round_trips: u64) -> Spent {
    let latch = Latch::new(pairs);
    let mut tasks = JoinSet::new();
    let mut starts = Vec::new();
    for _ in 0..pairs {
        let (ping_tx, mut ping_rx) = mpsc::channel(CAPACITY);
        let (pong_tx, mut pong_rx) = mpsc::channel(CAPACITY);
        starts.push(pong_tx.clone());
        tasks.spawn(async move {
            while let Some(number) = ping_rx.recv().await {
                pong_tx.send(number).await.unwrap();
            }
        });
        let latch = latch.clone();
        tasks.spawn(async move {
            while let Some(number) = pong_rx.recv().await {
                if number == round_trips {
                    break;
                }
                ping_tx.send(number + 1).await.unwrap();
            }
            latch.done();
        });
    }
    let gauge = Gauge::start();
    for start in starts {
        start.send(0_u64).await.unwrap();
    }
    latch.opened().await;
    let spent = gauge.stop();
    tasks.join_all().await;
    spent
}

/// One message at a time, from many to one.
pub(crate) async fn fan_in(each: u64) -> Spent {
    let (message_tx, mut message_rx) = mpsc::channel(CAPACITY);
    let mut tasks = JoinSet::new();
    let gauge = Gauge::start();
    let latch = Latch::new(1);
    tasks.spawn({
        let latch = latch.clone();
        async move {
            let mut count = 0;
            while count < SENDERS * each {
                count += message_rx.recv().await.unwrap();
            }
            latch.done();
        }
    });
    for _ in 0..SENDERS {
        let message_tx = message_tx.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                message_tx.send(1).await.unwrap();
            }
        });
    }
    latch.opened().await;
    let spent = gauge.stop();
    tasks.join_all().await;
    spent
}

type Ask = (u64, oneshot::Sender<u64>);

async fn ask(message_tx: &mpsc::Sender<Ask>, number: u64) -> u64 {
    let (reply_tx, reply_rx) = oneshot::channel();
    message_tx.send((number, reply_tx)).await.unwrap();
    reply_rx.await.unwrap()
}

/// Request and response that may take for ever.
pub(crate) async fn asks(askers: u64, each: u64) -> Spent {
    ask_all(askers, |message_tx| async move {
        for number in 0..each {
            assert_eq!(ask(&message_tx, number).await, number + 1);
        }
    })
    .await
}

/// Request and response within a time.
pub(crate) async fn asks_within(askers: u64, each: u64) -> Spent {
    ask_all(askers, |message_tx| async move {
        for number in 0..each {
            let answer = timeout(Duration::from_secs(5), ask(&message_tx, number)).await;
            assert_eq!(answer.unwrap(), number + 1);
        }
    })
    .await
}

async fn ask_all<F>(askers: u64, asker: impl Fn(mpsc::Sender<Ask>) -> F) -> Spent
where
    F: Future<Output = ()> + Send + 'static,
{
    let (message_tx, mut message_rx) = mpsc::channel::<Ask>(CAPACITY);
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Some((number, reply_tx)) = message_rx.recv().await {
            reply_tx.send(number + 1).unwrap();
        }
    });
    let gauge = Gauge::start();
    let mut tasks = JoinSet::new();
    for _ in 0..askers {
        tasks.spawn(asker(message_tx.clone()));
    }
    tasks.join_all().await;
    gauge.stop()
}
