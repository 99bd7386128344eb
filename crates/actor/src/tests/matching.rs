use futures::FutureExt;

use super::*;

fn is(wanted: u32) -> impl FnMut(&Received<u32>) -> bool {
    move |entry| *entry == Received::Message(wanted)
}

#[tokio::test]
async fn passed_over_messages_keep_their_order_and_are_received_first() {
    let (address, mut mailbox) = mailbox(capacity(2, 5));
    for i in 0..5 {
        address.try_send(i).unwrap();
    }
    assert_eq!(message(mailbox.recv_match(is(3)).await.unwrap()), 3);
    assert_eq!(message(mailbox.recv_match(is(1)).await.unwrap()), 1, "found in the stash");
    address.try_send_urgent(10).unwrap();
    assert_eq!(message(mailbox.recv_match(is(4)).await.unwrap()), 4, "behind stash and urgent");
    address.try_send_urgent(11).unwrap();
    let mut rest = Vec::new();
    while let Some(entry) = mailbox.try_recv() {
        rest.push(message(Some(entry)));
    }
    assert_eq!(rest, [0, 2, 10, 11]);
}

#[tokio::test]
async fn a_full_stash_is_an_error_and_loses_nothing() {
    let (address, mut mailbox) = mailbox(capacity(1, 2));
    for i in 0..3 {
        address.try_send(i % 2).ok();
        assert_eq!(mailbox.recv_match(is(9)).now_or_never(), None, "3 can be passed over");
    }
    address.try_send(5).unwrap();
    address.try_send(6).unwrap();
    address.try_send_urgent(7).unwrap();
    assert_eq!(mailbox.recv_match(is(9)).await, Err(StashFull { limit: 3 }));
    assert_eq!(mailbox.recv_match(is(9)).await, Err(StashFull { limit: 3 }));
    assert_eq!(message(mailbox.recv_match(is(7)).await.unwrap()), 7, "a match needs no stash");
    let mut rest = Vec::new();
    while let Some(entry) = mailbox.try_recv() {
        rest.push(message(Some(entry)));
    }
    assert_eq!(rest, [0, 1, 0, 5, 6]);
}

#[tokio::test]
async fn a_passed_over_message_makes_room_for_senders() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    let (found, ()) = tokio::join!(mailbox.recv_match(is(1)), async {
        address.send(0).await.unwrap();
        address.send(1).await.unwrap();
    });
    assert_eq!(message(found.unwrap()), 1);
    assert_eq!(message(mailbox.recv().await), 0);
}

#[tokio::test]
async fn recv_match_returns_none_when_no_message_can_come() {
    let (address, mut mailbox) = mailbox(capacity(1, 1));
    address.try_send(0).unwrap();
    drop(address);
    assert_eq!(mailbox.recv_match(is(1)).await, Ok(None));
    assert_eq!(message(mailbox.recv().await), 0);
    assert_eq!(mailbox.recv().await, None);
}

#[tokio::test]
async fn a_down_can_be_matched_and_needs_no_room_in_the_stash() {
    let (address, mut mailbox) = mailbox::<u32>(capacity(1, 1));
    let (first, first_handle) = puppet();
    let (second, second_handle) = puppet();
    mailbox.monitor(&first);
    let wanted = mailbox.monitor(&second);
    address.try_send(0).unwrap();
    address.try_send_urgent(1).unwrap();
    first.send(Ok(())).await.unwrap();
    first_handle.join().await;
    second.send(Err("second")).await.unwrap();
    second_handle.join().await;
    let found = mailbox.recv_match(|entry| matches!(entry, Received::Down(d) if d.monitor == wanted));
    assert_eq!(down(found.await.unwrap()).reason, error("second"));
    assert_eq!(message(mailbox.recv().await), 1);
    assert_eq!(message(mailbox.recv().await), 0);
    assert_eq!(down(mailbox.recv().await).actor, first.id());
}
