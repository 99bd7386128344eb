use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time;

use super::*;

const RESTART: Restart = Restart { max: 3, within: Duration::from_secs(10) };

/// What a test body reports, in order.
type Log = mpsc::UnboundedReceiver<u32>;

/// A supervised actor that reports each message. It fails on messages above 1,000: even ones cause a panic, odd ones an
/// error.
fn fragile(limits: Capacity) -> (Address<u32>, ActorHandle, Log) {
    let (log_tx, log) = mpsc::unbounded_channel();
    let (address, handle) = supervise("fragile", RESTART, limits, move |mut mailbox: Mailbox<u32>| {
        let log_tx = log_tx.clone();
        async move {
            while let Some(entry) = mailbox.recv().await {
                let number = message(Some(entry));
                if number > 1_000 {
                    assert_eq!(number % 2, 1, "even");
                    return Err("odd");
                }
                log_tx.send(number).unwrap();
            }
            Ok(())
        }
    });
    (address, handle, log)
}

async fn collect(mut log: Log) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(number) = soon(log.recv()).await {
        all.push(number);
    }
    all
}

#[tokio::test]
async fn a_failure_at_any_message_loses_no_other_message() {
    const COUNT: u32 = 20;
    for poison in [2_000, 2_001] {
        for index in 0..COUNT {
            let (address, handle, log) = fragile(capacity(4, 64));
            for number in 0..COUNT {
                address.send(if number == index { poison } else { number }).await.unwrap();
            }
            drop(address);
            let expected: Vec<_> = (0..COUNT).filter(|number| *number != index).collect();
            assert_eq!(collect(log).await, expected, "failure at {index}");
            assert_eq!(handle.restarts(), 1);
            assert_eq!(handle.join().await, ExitReason::Normal);
        }
    }
}

#[tokio::test]
async fn senders_that_wait_across_a_restart_are_served() {
    let (address, handle, log) = fragile(capacity(1, 1));
    for number in [0, 2_000, 1, 2_001, 2] {
        soon(address.send(number)).await.unwrap();
    }
    drop(address);
    assert_eq!(collect(log).await, [0, 1, 2]);
    assert_eq!(handle.restarts(), 2);
}

#[tokio::test]
async fn passed_over_messages_and_monitors_survive_a_restart() {
    let (target, target_handle) = puppet();
    let mut first_run = true;
    let (report_tx, mut report_rx) = mpsc::unbounded_channel();
    let watched = target.clone();
    let (address, _handle) =
        supervise("selective", RESTART, capacity(1, 4), move |mut mailbox: Mailbox<u32>| {
            let first = std::mem::take(&mut first_run);
            let (report_tx, watched) = (report_tx.clone(), watched.clone());
            async move {
                if first {
                    mailbox.monitor(&watched);
                    mailbox.recv_match(|entry| *entry == Received::Message(2)).await?;
                    panic!("after 2");
                }
                while let Some(entry) = mailbox.recv().await {
                    report_tx.send(entry).unwrap();
                }
                Ok::<_, StashFull>(())
            }
        });
    for number in 0..4 {
        address.send(number).await.unwrap();
    }
    for expected in [0, 1, 3] {
        assert_eq!(message(soon(report_rx.recv()).await), expected);
    }
    drop(target_handle);
    assert_eq!(down(soon(report_rx.recv()).await).actor, target.id());
}

#[tokio::test]
async fn watchers_get_no_down_at_a_restart() {
    let (_mine, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (address, handle, mut log) = fragile(capacity(1, 8));
    watcher.monitor(&address);
    watcher.link(&address);
    address.send(2_001).await.unwrap();
    address.send(1).await.unwrap();
    assert_eq!(soon(log.recv()).await, Some(1));
    assert_eq!(handle.restarts(), 1);
    assert_eq!(watcher.try_recv(), None);
    assert!(!address.is_closed());
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_within_the_span_escalate() {
    let (_mine, mut watcher) = mailbox::<()>(capacity(1, 1));
    let (address, handle, _log) = fragile(capacity(1, 8));
    watcher.monitor(&address);
    watcher.link(&address);
    for _ in 0..RESTART.max {
        address.send(2_000).await.unwrap();
    }
    address.send(2_001).await.unwrap();
    address.send(1).await.unwrap();
    assert_eq!(down(watcher.recv().await).reason, error("odd"));
    assert_eq!(exit(watcher.recv().await).reason, error("odd"));
    assert_eq!(handle.restarts(), 3);
    assert_eq!(handle.join().await, error("odd"));
    assert_eq!(address.try_send(1), Err(TrySendError::Gone(1)));
}

#[tokio::test(start_paused = true)]
async fn failures_further_apart_than_the_span_do_not_escalate() {
    let (address, handle, mut log) = fragile(capacity(1, 8));
    for round in 0..5 {
        for _ in 0..RESTART.max {
            address.send(2_001).await.unwrap();
        }
        address.send(round).await.unwrap();
        assert_eq!(log.recv().await, Some(round));
        time::advance(RESTART.within).await;
    }
    assert_eq!(handle.restarts(), 15);
    for _ in 0..RESTART.max {
        address.send(2_001).await.unwrap();
    }
    time::sleep(RESTART.within - Duration::from_millis(1)).await;
    address.send(2_001).await.unwrap();
    assert_eq!(handle.join().await, error("odd"), "one more within the span");
}

#[tokio::test]
async fn a_task_without_messages_is_restarted_and_ends_normally() {
    let mut runs = 0;
    let handle = supervise_task("task", RESTART, move || {
        runs += 1;
        let run = runs;
        async move { if run <= 2 { Err(format!("run {run}")) } else { Ok(()) } }
    });
    assert_eq!(handle.name(), "task");
    assert_eq!(handle.join().await, ExitReason::Normal);

    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let handle = supervise_task("task", RESTART, move || {
        let run = counted.fetch_add(1, Ordering::Relaxed);
        async move { Err::<(), _>(run) }
    });
    assert_eq!(handle.join().await, error("3"));
    assert_eq!(runs.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_aborted_supervised_actor_is_not_restarted() {
    let (address, handle, log) = fragile(capacity(1, 1));
    tokio::task::yield_now().await;
    handle.abort();
    assert_eq!(handle.join().await, error("aborted"));
    assert_eq!(address.send(1).await, Err(SendError(1)));
    assert_eq!(collect(log).await, [0_u32; 0]);
}

#[tokio::test]
async fn tasks_are_known_by_name_until_they_are_joined() {
    let mut tasks = Tasks::new();
    assert_eq!(tasks.join_next().await, None);
    let (end_tx, end_rx) = tokio::sync::oneshot::channel::<()>();
    tasks.spawn("waits", end_rx);
    tasks.spawn("panics", async { assert_eq!(1, 2, "on purpose") });
    assert_eq!(tasks.names(), ["panics".into(), "waits".into()]);
    let (name, reason) = tasks.join_next().await.unwrap();
    assert_eq!(&*name, "panics");
    assert!(matches!(&reason, ExitReason::Panic(text) if text.contains("on purpose")), "{reason:?}");
    assert_eq!(tasks.names(), ["waits".into()]);
    assert_eq!(tasks.join_next().now_or_never(), None);
    end_tx.send(()).unwrap();
    assert_eq!(tasks.join_next().await, Some(("waits".into(), ExitReason::Normal)));
    tasks.spawn("pends", std::future::pending::<()>());
    tasks.abort_all();
    assert_eq!(tasks.join_next().await, Some(("pends".into(), error("aborted"))));
    assert!(tasks.names().is_empty());
}

#[tokio::test]
async fn dropped_tasks_are_aborted() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let mut tasks = Tasks::new();
    tasks.spawn("holds", async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    tokio::task::yield_now().await;
    drop(tasks);
    soon(async {
        while Arc::strong_count(&token) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
