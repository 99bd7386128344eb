use futures::FutureExt;
use tokio::time;

use super::*;

#[tokio::test]
async fn each_lane_keeps_its_order_and_urgent_is_received_first() {
    let (address, mut mailbox) = mailbox(capacity(3, 3));
    for i in 0..3 {
        address.send(i).await.unwrap();
        address.send_urgent(10 + i).await.unwrap();
    }
    let mut got = Vec::new();
    for _ in 0..6 {
        got.push(message(mailbox.recv().await));
    }
    assert_eq!(got, [10, 11, 12, 0, 1, 2]);
}

#[tokio::test]
async fn urgent_overtakes_earlier_routine() {
    let (address, mut mailbox) = mailbox(capacity(4, 4));
    for i in 0..4 {
        address.try_send(i).unwrap();
    }
    assert_eq!(message(mailbox.try_recv()), 0);
    address.try_send_urgent(10).unwrap();
    address.try_send_urgent(11).unwrap();
    for expected in [10, 11, 1, 2, 3] {
        assert_eq!(message(mailbox.try_recv()), expected);
    }
    assert_eq!(mailbox.try_recv(), None);
}

#[tokio::test]
async fn the_lanes_have_limits_of_their_own() {
    let (address, _mailbox) = mailbox(capacity(1, 2));
    address.try_send(1).unwrap();
    address.try_send(2).unwrap();
    assert_eq!(address.try_send(3), Err(TrySendError::Full(3)));
    address.try_send_urgent(4).unwrap();
    assert_eq!(address.try_send_urgent(5), Err(TrySendError::Full(5)));
}

#[tokio::test]
async fn a_full_lane_makes_senders_wait_in_the_order_they_came() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    let mut first = Box::pin(address.send(1));
    let mut second = Box::pin(address.send(2));
    assert_eq!((&mut first).now_or_never(), None);
    assert_eq!((&mut second).now_or_never(), None);

    assert_eq!(message(mailbox.recv().await), 0);
    assert_eq!(address.try_send(9), Err(TrySendError::Full(9)), "the room is the first waiter's");
    assert_eq!((&mut second).now_or_never(), None);
    first.await.unwrap();
    assert_eq!(message(mailbox.recv().await), 1);
    second.await.unwrap();
    assert_eq!(message(mailbox.recv().await), 2);
}

#[tokio::test]
async fn a_waiting_task_is_woken_when_there_is_room_for_it() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    let mut tasks = Tasks::new();
    for i in 1..=20 {
        let address = address.clone();
        tasks.spawn("sender", async move { address.send(i).await });
    }
    drop(address);
    let mut got = Vec::new();
    while let Some(entry) = soon(mailbox.recv()).await {
        got.push(message(Some(entry)));
    }
    got.sort_unstable();
    assert_eq!(got, (0..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn sending_to_an_ended_actor_fails_and_returns_the_message() {
    let (address, mailbox) = mailbox::<u32>(capacity(1, 1));
    assert!(!address.is_closed());
    drop(mailbox);
    assert!(address.is_closed());
    assert_eq!(address.send(1).await, Err(SendError(1)));
    assert_eq!(address.send_urgent(2).await, Err(SendError(2)));
    assert_eq!(address.try_send(3), Err(TrySendError::Gone(3)));
    assert_eq!(address.try_send_urgent(4), Err(TrySendError::Gone(4)));
    soon(address.closed()).await;
    let (address, mailbox) = super::mailbox::<Reply<u32>>(capacity(1, 1));
    drop(mailbox);
    assert_eq!(address.call(PATIENCE, |reply| reply).await, Err(CallError::Gone));
}

#[tokio::test]
async fn a_waiting_sender_gets_its_message_back_when_the_actor_ends() {
    let (address, mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    let waiting = tokio::task::LocalSet::new();
    let sender = waiting.spawn_local({
        let address = address.clone();
        async move { address.send(1).await }
    });
    waiting.run_until(tokio::task::yield_now()).await;
    assert!(!sender.is_finished());
    drop(mailbox);
    let result = waiting.run_until(soon(sender)).await.unwrap();
    assert_eq!(result, Err(SendError(1)));
}

#[tokio::test]
async fn a_dropped_mailbox_drops_its_queued_messages() {
    let (address, mut mailbox) = mailbox(capacity(2, 2));
    let token = Arc::new(());
    for _ in 0..2 {
        address.try_send(Arc::clone(&token)).unwrap();
        address.try_send_urgent(Arc::clone(&token)).unwrap();
    }
    assert_eq!(mailbox.recv_match(|_| false).now_or_never(), None);
    address.try_send(Arc::clone(&token)).unwrap();
    assert_eq!(Arc::strong_count(&token), 6);
    drop(mailbox);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[tokio::test]
async fn recv_ends_when_all_addresses_are_gone_and_nothing_is_left() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    let other = address.clone();
    address.try_send(1).unwrap();
    drop(address);
    assert_eq!(message(mailbox.recv().await), 1);
    assert_eq!(mailbox.recv().now_or_never(), None, "one address is left");
    let (received, ()) = tokio::join!(biased; soon(mailbox.recv()), async { drop(other) });
    assert_eq!(received, None);
    let again = mailbox.address();
    again.try_send(2).unwrap();
    assert_eq!(message(mailbox.recv().await), 2);
}

#[tokio::test]
async fn a_closed_mailbox_refuses_new_messages_and_yields_queued_ones() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(1).unwrap();
    let mut waiting = Box::pin(address.send(2));
    assert_eq!((&mut waiting).now_or_never(), None);
    mailbox.close();
    assert_eq!(waiting.await, Err(SendError(2)));
    assert_eq!(address.try_send(3), Err(TrySendError::Gone(3)));
    assert_eq!(message(mailbox.recv().await), 1);
    assert_eq!(mailbox.recv().await, None);
    assert!(!address.is_closed(), "the actor itself still runs");
}

#[tokio::test]
async fn a_close_refuses_a_sender_that_has_not_used_its_room() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(1).unwrap();
    let mut waiting = Box::pin(address.send(2));
    assert_eq!((&mut waiting).now_or_never(), None);
    assert_eq!(message(mailbox.try_recv()), 1);
    mailbox.close();
    assert_eq!(waiting.await, Err(SendError(2)));
    assert_eq!(mailbox.recv().await, None);
}

#[tokio::test]
async fn a_call_is_answered() {
    let (address, mut mailbox) = mailbox::<(u32, Reply<u32>)>(capacity(1, 1));
    let (answer, ()) = tokio::join!(address.call(PATIENCE, |reply| (20, reply)), async {
        let (question, reply) = message(mailbox.recv().await);
        reply.send(question + 1).unwrap();
    });
    assert_eq!(answer, Ok(21));
}

#[tokio::test]
async fn a_dropped_reply_and_an_ended_actor_are_different_errors() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) =
        tokio::join!(address.call_urgent(PATIENCE, |reply| reply), async { drop(mailbox.recv().await) });
    assert_eq!(answer, Err(CallError::Dropped));
    let (answer, ()) = tokio::join!(address.call(PATIENCE, |reply| reply), async { drop(mailbox) });
    assert_eq!(answer, Err(CallError::Gone));
}

#[tokio::test]
async fn an_answer_is_returned_even_if_the_actor_has_ended() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) = tokio::join!(address.call(PATIENCE, |reply| reply), async {
        message(mailbox.recv().await).send(7).unwrap();
        drop(mailbox);
    });
    assert!(address.is_closed());
    assert_eq!(answer, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_returned_even_if_the_timeout_is_due() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let mut call = Box::pin(address.call(Duration::from_secs(1), |reply| reply));
    assert_eq!((&mut call).now_or_never(), None);
    time::advance(Duration::from_secs(2)).await;
    message(mailbox.recv().await).send(7).unwrap();
    assert_eq!(call.await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_the_wait_for_room_and_the_actor_sees_a_dropped_call() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let start = time::Instant::now();
    let call = |seconds| address.call(Duration::from_secs(seconds), |reply| reply);
    let (first, second) = tokio::join!(call(3), call(5));
    assert_eq!((first, second), (Err(CallError::Timeout), Err(CallError::Timeout)));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let reply = message(mailbox.recv().await);
    assert_eq!(reply.send(1), Err(1));
    assert_eq!(mailbox.try_recv().map(|_| ()), None, "the second was never sent");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_call_runs_while_its_task_waits() {
    let (address, _mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let start = time::Instant::now();
    assert_eq!(address.call(Duration::from_secs(5), |reply| reply).await, Err(CallError::Timeout));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_have_the_longest_timeout() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) = tokio::join!(biased; address.call(Duration::MAX, |reply| reply), async {
        let reply = message(mailbox.recv().await);
        time::sleep(Duration::from_millis(2)).await;
        reply.send(7).unwrap();
    });
    assert_eq!(answer, Ok(7));
}

#[tokio::test]
async fn memory_of_a_burst_is_freed() {
    let (address, mut mailbox) = mailbox(capacity(1, 100_000));
    for i in 0..100_000_u64 {
        address.try_send(i).unwrap();
    }
    while mailbox.try_recv().is_some() {}
    assert_eq!(mailbox.recv().now_or_never(), None);
    let held = mailbox.core.inbox().lane(super::super::core::LaneName::Routine).held();
    assert!(held <= 64, "{held} entries are held while idle");
}
