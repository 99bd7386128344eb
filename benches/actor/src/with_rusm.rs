//! rusm-otp, whose messages are byte vectors, and whose mailboxes are unbounded (or shed, which is not compared).

use rusm_otp::{Context, Runtime};
use tokio::task::JoinSet;

use crate::SENDERS;
use crate::gauge::{Gauge, Latch, Spent};

async fn number(context: &mut Context) -> u64 {
    let bytes = context.recv().await.message().unwrap();
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Pairs of processes that each send one message there and back, again and again.
pub(crate) async fn ping_pong(pairs: u64, round_trips: u64) -> Spent {
    let runtime = Runtime::new();
    let latch = Latch::new(pairs);
    let mut starts = Vec::new();
    for _ in 0..pairs {
        let (introduce_tx, introduce_rx) = tokio::sync::oneshot::channel();
        let (own, latch) = (runtime.clone(), latch.clone());
        let pinger = runtime.spawn(move |mut context| async move {
            let ponger = introduce_rx.await.unwrap();
            loop {
                let number = number(&mut context).await;
                if number == round_trips {
                    break;
                }
                assert!(own.send(ponger, (number + 1).to_le_bytes().to_vec()));
            }
            latch.done();
        });
        let (own, back) = (runtime.clone(), pinger.pid());
        let ponger = runtime.spawn(move |mut context| async move {
            loop {
                let number = number(&mut context).await;
                assert!(own.send(back, number.to_le_bytes().to_vec()));
            }
        });
        introduce_tx.send(ponger.pid()).unwrap();
        starts.push(pinger.pid());
    }
    let gauge = Gauge::start();
    for start in starts {
        runtime.send(start, 0_u64.to_le_bytes().to_vec());
    }
    latch.opened().await;
    let spent = gauge.stop();
    runtime.shutdown();
    spent
}

/// One message at a time, from many to one, without a bound.
pub(crate) async fn fan_in(each: u64) -> Spent {
    let runtime = Runtime::new();
    let latch = Latch::new(1);
    let gauge = Gauge::start();
    let receiver = runtime.spawn({
        let latch = latch.clone();
        move |mut context| async move {
            let mut count = 0;
            while count < SENDERS * each {
                count += number(&mut context).await;
            }
            latch.done();
        }
    });
    let mut tasks = JoinSet::new();
    for _ in 0..SENDERS {
        let (runtime, receiver) = (runtime.clone(), receiver.pid());
        tasks.spawn(async move {
            for _ in 0..each {
                assert!(runtime.send(receiver, 1_u64.to_le_bytes().to_vec()));
            }
        });
    }
    latch.opened().await;
    let spent = gauge.stop();
    tasks.join_all().await;
    spent
}
