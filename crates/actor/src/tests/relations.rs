use futures::FutureExt;
use tokio::sync::oneshot;

use super::super::peer::Peer;
use super::*;

/// Receives every entry until the mailbox is dry.
async fn drain<M>(mut mailbox: Mailbox<M>) -> Vec<Received<M>> {
    let mut entries = Vec::new();
    while let Some(entry) = soon(mailbox.recv()).await {
        entries.push(entry);
    }
    entries
}

#[tokio::test]
async fn a_down_comes_once_with_the_reason() {
    for (outcome, reason) in [(Ok(()), ExitReason::Normal), (Err("broken"), error("broken"))] {
        let (address, mut watcher) = mailbox::<()>(capacity(1, 1));
        let (target, handle) = puppet();
        let monitor = watcher.monitor(&target);
        drop(address);
        assert_eq!(watcher.recv().now_or_never(), None, "an outstanding monitor is waited for");
        target.send(outcome).await.unwrap();
        let expected = Down { monitor, actor: target.id(), reason: reason.clone() };
        assert_eq!(drain(watcher).await, [Received::Down(expected)]);
        assert_eq!(handle.join().await, reason);
    }
}

#[tokio::test]
async fn a_panic_is_a_reason() {
    let (_address, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (target, handle) = spawn("doomed", capacity(1, 1), |mut mailbox: Mailbox<u32>| async move {
        let number = message(mailbox.recv().await);
        assert_eq!(number, 0, "formatted {number}");
    });
    watcher.monitor(&target);
    target.send(1).await.unwrap();
    let reason = down(soon(watcher.recv()).await).reason;
    assert!(matches!(&reason, ExitReason::Panic(message) if message.contains("formatted 1")), "{reason:?}");
    assert_eq!(handle.join().await, reason);
}

#[tokio::test]
async fn a_body_that_panics_before_it_has_a_future_is_caught_too() {
    let (_address, handle) = spawn("doomed", capacity(1, 1), |_: Mailbox<()>| -> std::future::Ready<()> {
        std::panic::panic_any("early")
    });
    assert_eq!(handle.join().await, ExitReason::Panic("early".into()));
}

#[tokio::test]
async fn the_watcher_sees_an_abort_and_a_dropped_handle_as_errors() {
    let (_address, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (aborted, handle) = puppet();
    watcher.monitor(&aborted);
    tokio::task::yield_now().await;
    handle.abort();
    assert_eq!(handle.join().await, error("aborted"));
    assert_eq!(down(watcher.recv().await).reason, error("aborted"));

    let (unpolled, handle) = puppet();
    watcher.monitor(&unpolled);
    drop(handle);
    assert_eq!(down(soon(watcher.recv()).await).reason, error("aborted"));
    soon(unpolled.closed()).await;
}

#[tokio::test]
async fn a_target_that_ended_before_gives_one_down_too() {
    let (address, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (target, handle) = puppet();
    target.send(Ok(())).await.unwrap();
    handle.join().await;
    let monitor = watcher.monitor(&target);
    drop(address);
    let expected = Down { monitor, actor: target.id(), reason: ExitReason::Gone };
    assert_eq!(drain(watcher).await, [Received::Down(expected)]);
}

#[tokio::test]
async fn every_monitor_of_one_target_gets_its_own_down_although_the_mailbox_is_full() {
    let (address, mut watcher) = mailbox(capacity(1, 1));
    let (target, handle) = puppet();
    address.try_send("routine").unwrap();
    address.try_send_urgent("urgent").unwrap();
    let monitors: Vec<_> = (0..100).map(|_| watcher.monitor(&target)).collect();
    target.send(Ok(())).await.unwrap();
    handle.join().await;
    assert_eq!(address.try_send("full"), Err(TrySendError::Full("full")));
    drop(address);
    let entries = drain(watcher).await;
    assert_eq!(entries[..2], [Received::Message("urgent"), Received::Message("routine")]);
    let downs: Vec<_> = entries.into_iter().skip(2).map(|entry| down(Some(entry)).monitor).collect();
    assert_eq!(downs, monitors);
}

#[tokio::test]
async fn downs_take_no_room_of_messages() {
    let (address, mut watcher) = mailbox(capacity(1, 1));
    let (target, handle) = puppet();
    watcher.monitor(&target);
    drop(handle);
    target.closed().await;
    address.try_send(1).unwrap();
    assert_eq!(address.try_send(2), Err(TrySendError::Full(2)));
    down(watcher.recv().await);
    assert_eq!(address.try_send(2), Err(TrySendError::Full(2)), "no room came free");
    assert_eq!(message(watcher.recv().await), 1);
    address.try_send(2).unwrap();
}

/// Sends to its watcher while it lives, and once more when its body is dropped.
struct LastWords(Address<u32>);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.try_send(3).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_down_follows_everything_the_target_sent_in_either_lane() {
    for _ in 0..200 {
        let (address, mut watcher) = mailbox(capacity(2, 3));
        let (go_tx, go_rx) = oneshot::channel();
        let (target, handle) = spawn("target", capacity(1, 1), move |_: Mailbox<()>| async move {
            let last = LastWords(address);
            go_rx.await.unwrap();
            last.0.send(1).await.unwrap();
            last.0.send_urgent(2).await.unwrap();
            last.0.send(1).await.unwrap();
            last.0.send_urgent(2).await.unwrap();
            Err("gone")
        });
        let monitor = watcher.monitor(&target);
        go_tx.send(()).unwrap();
        let mut entries = Vec::new();
        for _ in 0..2 {
            entries.push(watcher.recv().await.unwrap());
        }
        entries.extend(drain(watcher).await);
        let expected = Down { monitor, actor: target.id(), reason: error("gone") };
        assert_eq!(entries.pop(), Some(Received::Down(expected)));
        assert_eq!(entries.len(), 5, "{entries:?}");
        handle.join().await;
    }
}

#[tokio::test]
async fn a_demonitored_target_gives_no_down_at_any_stage() {
    let (address, mut watcher) = mailbox(capacity(1, 1));
    let (target, handle) = puppet();
    let outstanding = watcher.monitor(&target);
    let queued = watcher.monitor(&target);
    let passed_over = watcher.monitor(&target);
    let kept = watcher.monitor(&target);
    watcher.demonitor(outstanding);
    drop(handle);
    target.closed().await;
    watcher.demonitor(queued);
    assert_eq!(watcher.recv_match(|entry| *entry == Received::Message(0)).now_or_never(), None);
    watcher.demonitor(passed_over);
    watcher.demonitor(passed_over);
    drop(address);
    let left: Vec<_> = drain(watcher).await.into_iter().map(|d| down(Some(d)).monitor).collect();
    assert_eq!(left, [kept]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demonitor_suppresses_the_down_of_a_target_that_ends_meanwhile() {
    for _ in 0..500 {
        let (address, mut watcher) = mailbox::<()>(capacity(1, 1));
        let (target, handle) = puppet();
        let monitor = watcher.monitor(&target);
        target.send(Ok(())).await.unwrap();
        watcher.demonitor(monitor);
        drop(address);
        assert_eq!(drain(watcher).await, []);
        handle.join().await;
    }
}

#[tokio::test]
async fn a_target_forgets_watchers_that_ended_or_demonitored() {
    let (target, _handle) = puppet();
    let before = Arc::strong_count(&target.core);
    for _ in 0..10 {
        let (_address, mut watcher) = mailbox::<()>(capacity(1, 1));
        let monitor = watcher.monitor(&target);
        watcher.monitor(&target);
        watcher.link(&target);
        watcher.demonitor(monitor);
    }
    assert_eq!(Arc::strong_count(&target.core), before);
    assert_eq!(target.core.life().relations(), 0);
}

#[tokio::test]
async fn a_link_reports_the_failure_of_one_side_to_the_other() {
    let (_address, mut mine) = mailbox::<()>(capacity(1, 1));
    let (target, handle) = puppet();
    mine.link(&target);
    mine.link(&target);
    target.send(Err("broken")).await.unwrap();
    let expected = Exit { from: target.id(), reason: error("broken") };
    assert_eq!(exit(soon(mine.recv()).await), expected);
    handle.join().await;
    assert_eq!(mine.try_recv(), None, "linked twice is linked once");

    let (exits_tx, exits_rx) = oneshot::channel();
    let (other, _other_handle) = spawn("other", capacity(1, 1), |mut mailbox: Mailbox<()>| async move {
        exits_tx.send(mailbox.recv().await).unwrap();
    });
    let (failing, failing_handle) = spawn("failing", capacity(1, 1), {
        move |mut mailbox: Mailbox<()>| async move {
            mailbox.link(&other);
            Err("failing")
        }
    });
    let expected = Exit { from: failing.id(), reason: error("failing") };
    assert_eq!(exit(soon(exits_rx).await.unwrap()), expected);
    failing_handle.join().await;
}

#[tokio::test]
async fn a_normal_end_sends_no_exit_and_removes_the_link() {
    let (address, mut mine) = mailbox::<()>(capacity(1, 1));
    let (target, handle) = puppet();
    mine.link(&target);
    target.send(Ok(())).await.unwrap();
    handle.join().await;
    assert_eq!(mine.core.life().relations(), 0);
    drop(address);
    assert_eq!(drain(mine).await, []);
}

#[tokio::test]
async fn a_link_to_an_ended_actor_gives_an_exit() {
    let (_address, mut mine) = mailbox::<()>(capacity(1, 1));
    let (target, handle) = puppet();
    drop(handle);
    target.closed().await;
    mine.link(&target);
    let expected = Exit { from: target.id(), reason: ExitReason::Gone };
    assert_eq!(mine.try_recv(), Some(Received::Exit(expected)));
    assert_eq!(mine.core.life().relations(), 0);
}

#[tokio::test]
async fn actors_that_watch_and_are_linked_to_each_other_are_freed() {
    let (first, mut first_mailbox) = mailbox::<()>(capacity(1, 1));
    let (second, mut second_mailbox) = mailbox::<()>(capacity(1, 1));
    first_mailbox.monitor(&second);
    second_mailbox.monitor(&first);
    first_mailbox.link(&second);
    let cores = [Arc::downgrade(&first.core), Arc::downgrade(&second.core)];
    drop((first, second, first_mailbox, second_mailbox));
    assert_eq!(cores.map(|core| core.strong_count()), [0, 0]);
}

/// The target had already copied its list of watchers when the watcher unset its monitor.
#[tokio::test]
async fn a_late_down_or_exit_is_discarded_after_demonitor_or_unlink() {
    let (_address, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (target, _handle) = puppet();
    let monitor = watcher.monitor(&target);
    let late = |monitor| Down { monitor, actor: target.id(), reason: ExitReason::Normal };
    watcher.demonitor(monitor);
    watcher.core.down(late(monitor));
    assert_eq!(watcher.try_recv(), None);

    let monitor = watcher.monitor(&target);
    watcher.core.down(late(monitor));
    watcher.core.down(late(monitor));
    assert_eq!(down(watcher.try_recv()).monitor, monitor);
    assert_eq!(watcher.try_recv(), None, "reported once");

    watcher.link(&target);
    let failed = || Exit { from: target.id(), reason: error("failed") };
    watcher.core.exit(failed());
    watcher.core.exit(failed());
    assert_eq!(exit(watcher.try_recv()), failed());
    assert_eq!(watcher.try_recv(), None, "reported once");
}

#[tokio::test]
async fn a_down_follows_the_messages_that_a_dropped_body_sends() {
    for polled in [false, true] {
        let (address, mut watcher) = mailbox(capacity(1, 1));
        let last = LastWords(address);
        let (target, handle) = spawn("target", capacity(1, 1), move |_: Mailbox<()>| async move {
            std::future::pending::<()>().await;
            drop(last);
        });
        watcher.monitor(&target);
        if polled {
            tokio::task::yield_now().await;
        }
        drop(handle);
        assert_eq!(message(soon(watcher.recv()).await), 3);
        assert_eq!(down(soon(watcher.recv()).await).reason, error("aborted"));
    }
}
