use futures::FutureExt;

use super::*;

#[tokio::test]
async fn a_dropped_send_sends_nothing_and_frees_its_place() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    let mut first = Box::pin(address.send(1));
    let mut second = Box::pin(address.send(2));
    let mut third = Box::pin(address.send(3));
    assert_eq!((&mut first).now_or_never(), None);
    assert_eq!((&mut second).now_or_never(), None);
    assert_eq!((&mut third).now_or_never(), None);
    drop(second);
    assert_eq!(message(mailbox.recv().await), 0);
    drop(first);
    third.await.unwrap();
    assert_eq!(message(mailbox.recv().await), 3);
    address.try_send(4).unwrap();
    assert_eq!(address.try_send(5), Err(TrySendError::Full(5)), "no room was won by cancelling");
}

#[tokio::test]
async fn a_dropped_recv_takes_nothing() {
    let (address, mut mailbox) = mailbox(capacity(1, 4));
    for i in 0..4 {
        let mut receiving = Box::pin(mailbox.recv());
        assert_eq!((&mut receiving).now_or_never(), None);
        address.try_send(i).unwrap();
        drop(receiving);
        assert_eq!(message(mailbox.recv().await), i);
        assert_eq!(mailbox.try_recv(), None);
    }
}

#[tokio::test]
async fn a_dropped_recv_match_keeps_the_messages_it_passed_over() {
    let (address, mut mailbox) = mailbox(capacity(4, 4));
    for i in 0..4 {
        address.try_send(i).unwrap();
        let mut matching = Box::pin(mailbox.recv_match(|_| false));
        assert_eq!((&mut matching).now_or_never(), None);
        address.try_send(10 + i).unwrap();
        drop(matching);
    }
    let mut rest = Vec::new();
    while let Some(entry) = mailbox.try_recv() {
        rest.push(message(Some(entry)));
    }
    assert_eq!(rest, [0, 10, 1, 11, 2, 12, 3, 13]);
}

#[tokio::test]
async fn a_receiver_that_moved_to_another_task_is_woken() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    assert_eq!(mailbox.recv().now_or_never(), None);
    let (entry, ()) = tokio::join!(biased; soon(mailbox.recv()), async {
        tokio::task::yield_now().await;
        address.try_send(1).unwrap();
    });
    assert_eq!(message(entry), 1);
}

#[tokio::test]
async fn a_waiting_sender_that_moved_to_another_task_is_woken() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    let mut sending = Box::pin(address.send(1));
    assert_eq!((&mut sending).now_or_never(), None);
    let (sent, ()) = tokio::join!(biased; soon(sending), async {
        tokio::task::yield_now().await;
        assert_eq!(message(mailbox.try_recv()), 0);
    });
    sent.unwrap();
}

/// A task that can only run when the test yields. The receiver reports whether it ran.
fn bystander(tasks: &mut Tasks) -> tokio::sync::oneshot::Receiver<()> {
    let (ran_tx, ran_rx) = tokio::sync::oneshot::channel();
    tasks.spawn("bystander", async move { ran_tx.send(()).map_err(|()| "the receiver has ended") });
    ran_rx
}

#[tokio::test]
async fn busy_senders_and_receivers_let_others_run() {
    let (address, mut mailbox) = mailbox(capacity(1, 1_000));
    let mut tasks = Tasks::new();
    let mut ran = bystander(&mut tasks);
    for i in 0..1_000 {
        address.send(i).await.unwrap();
    }
    assert_eq!(ran.try_recv(), Ok(()), "a sender that never waits");
    let mut ran = bystander(&mut tasks);
    for _ in 0..1_000 {
        mailbox.recv().await.unwrap();
    }
    assert_eq!(ran.try_recv(), Ok(()), "a receiver that never waits");
}

/// Sends `0..COUNT` as sender `from`. It cancels some waits and tries again.
async fn impatient(address: Address<(usize, u32)>, from: usize) {
    for number in 0..COUNT {
        for attempt in 0.. {
            let send = address.send((from, number));
            if attempt % 3 == 2 {
                send.await.unwrap();
                break;
            }
            tokio::select! {
                biased;
                sent = send => {
                    sent.unwrap();
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
    }
}

const COUNT: u32 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_on_other_threads_that_cancel_and_retry_lose_and_duplicate_nothing() {
    const SENDERS: usize = 8;
    let (address, mut mailbox) = mailbox(capacity(1, 3));
    let mut tasks = Tasks::new();
    for from in 0..SENDERS {
        tasks.spawn("sender", impatient(address.clone(), from));
    }
    drop(address);
    let mut next = [0; SENDERS];
    while let Some(entry) = soon(mailbox.recv()).await {
        let (from, number) = message(Some(entry));
        assert_eq!(number, next[from], "sender {from}");
        next[from] += 1;
    }
    assert_eq!(next, [COUNT; SENDERS]);
    while let Some((_, reason)) = tasks.join_next().await {
        assert_eq!(reason, ExitReason::Normal);
    }
}
