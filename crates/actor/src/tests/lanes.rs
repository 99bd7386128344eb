use std::collections::VecDeque;

use futures::FutureExt;
use tokio::time;

use super::*;

#[tokio::test]
async fn each_lane_keeps_its_order_and_urgent_goes_first() {
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
async fn urgent_overtakes_routine_that_was_there_first_and_batches_keep_to_it() {
    let (address, mut mailbox) = mailbox(capacity(4, 4));
    for i in 0..4 {
        address.try_send(i).unwrap();
    }
    assert_eq!(message(mailbox.try_recv()), 0);
    address.try_send_urgent(10).unwrap();
    address.try_send_urgent(11).unwrap();
    let mut out = vec![Received::Message(99)];
    assert_eq!(mailbox.recv_batch(&mut out, 4).await, 4);
    let out: Vec<_> = out.into_iter().map(|entry| message(Some(entry))).collect();
    assert_eq!(out, [99, 10, 11, 1, 2]);
    assert_eq!(message(mailbox.try_recv()), 3);
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
async fn a_batch_above_the_limit_goes_in_parts_and_in_order() {
    let (address, mut mailbox) = mailbox(capacity(4, 4));
    let (result, got) = tokio::join!(
        async {
            let mut batch: VecDeque<_> = (0..100).collect();
            let result = address.send_batch(&mut batch).await;
            assert!(batch.is_empty());
            drop(address);
            result
        },
        async {
            let mut got = Vec::new();
            while mailbox.recv_batch(&mut got, 3).await > 0 {
                assert!(got.len() <= 100);
            }
            got
        }
    );
    result.unwrap();
    let got: Vec<_> = got.into_iter().map(|entry| message(Some(entry))).collect();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_sender_waits_for_its_whole_rest_and_keeps_what_a_gone_actor_left() {
    let (address, mut mailbox) = mailbox(capacity(4, 4));
    let mut batch: VecDeque<_> = (0..7).collect();
    {
        let mut sending = Box::pin(address.send_batch(&mut batch));
        assert_eq!((&mut sending).now_or_never(), None);
        assert_eq!(message(mailbox.try_recv()), 0);
        assert_eq!((&mut sending).now_or_never(), None, "3 are left, there is room for 1");
        drop(mailbox);
        assert_eq!(sending.await, Err(SendError(())));
    }
    assert_eq!(batch, [4, 5, 6]);
}

#[tokio::test]
async fn a_gone_actor_says_so_to_everyone_and_gives_the_message_back() {
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
async fn a_sender_that_waits_when_the_actor_goes_gets_its_message_back() {
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
async fn a_dropped_mailbox_drops_what_is_queued() {
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
async fn a_closed_mailbox_refuses_but_gives_what_it_has() {
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
async fn a_sender_that_was_given_room_is_refused_by_a_close_before_it_used_it() {
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
async fn a_call_unanswered_by_a_living_actor_is_told_apart_from_a_gone_one() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) =
        tokio::join!(address.call_urgent(PATIENCE, |reply| reply), async { drop(mailbox.recv().await) });
    assert_eq!(answer, Err(CallError::Dropped));
    let (answer, ()) = tokio::join!(address.call(PATIENCE, |reply| reply), async { drop(mailbox) });
    assert_eq!(answer, Err(CallError::Gone));
}

#[tokio::test]
async fn an_answer_wins_over_the_end_of_who_gave_it() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) = tokio::join!(address.call(PATIENCE, |reply| reply), async {
        message(mailbox.recv().await).send(7).unwrap();
        drop(mailbox);
    });
    assert!(address.is_closed());
    assert_eq!(answer, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn an_answer_wins_over_a_timeout_that_is_due() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let mut call = Box::pin(address.call(Duration::from_secs(1), |reply| reply));
    assert_eq!((&mut call).now_or_never(), None);
    time::advance(Duration::from_secs(2)).await;
    message(mailbox.recv().await).send(7).unwrap();
    assert_eq!(call.await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_the_wait_for_room_and_the_actor_sees_that_nobody_waits() {
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
async fn the_time_of_a_call_runs_while_its_task_waits() {
    let (address, _mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let start = time::Instant::now();
    assert_eq!(address.call(Duration::from_secs(5), |reply| reply).await, Err(CallError::Timeout));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_may_have_all_the_time_there_is() {
    let (address, mut mailbox) = mailbox::<Reply<u32>>(capacity(1, 1));
    let (answer, ()) = tokio::join!(biased; address.call(Duration::MAX, |reply| reply), async {
        let reply = message(mailbox.recv().await);
        time::sleep(Duration::from_millis(2)).await;
        reply.send(7).unwrap();
    });
    assert_eq!(answer, Ok(7));
}

#[tokio::test]
async fn memory_of_a_burst_is_given_back() {
    let (address, mut mailbox) = mailbox(capacity(1, 100_000));
    let mut batch: VecDeque<u64> = (0..100_000).collect();
    address.send_batch(&mut batch).await.unwrap();
    while mailbox.try_recv().is_some() {}
    assert_eq!(mailbox.recv().now_or_never(), None);
    let held = mailbox.core.inbox().lane(super::super::core::LaneName::Routine).held();
    assert!(held <= 64, "{held} entries are held while idle");
}
