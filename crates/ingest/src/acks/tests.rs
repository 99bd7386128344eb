//! When each session is woken.

use futures::FutureExt;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A session whose last ACK of routine was sent at `now`.
fn session(now: Instant) -> Arc<AckSignal> {
    AckSignal::new(Arc::default(), now)
}

fn is_woken(signal: &AckSignal) -> bool {
    signal.changed().notified().now_or_never().is_some()
}

/// Lists `signals` as a commit does, and gives the list to `pacer`.
fn commit(acks: &Acks, pacer: &mut AckPacer, signals: &[&Arc<AckSignal>], now: Instant) {
    signals.iter().for_each(|signal| acks.list(signal));
    pacer.commit(acks.take(), now);
}

#[test]
fn a_session_without_a_recent_ack_is_woken_at_once() {
    let start = Instant::now();
    let (acks, mut pacer, signal) = (Acks::default(), AckPacer::default(), session(start));
    commit(&acks, &mut pacer, &[&signal], start + ACK_DELAY);
    assert!(is_woken(&signal) && signal.take_due());
    assert!(!signal.take_due(), "it is due once");
    assert_eq!(pacer.next_due(), None);
}

#[test]
fn a_session_with_a_recent_ack_is_woken_by_a_later_commit_of_any_stream() {
    let start = Instant::now();
    let (acks, mut pacer) = (Acks::default(), AckPacer::default());
    let (signal, other) = (session(start), session(start));
    commit(&acks, &mut pacer, &[&signal], start + 8 * MS);
    assert!(!is_woken(&signal));
    signal.sent(start + 8 * MS);
    commit(&acks, &mut pacer, &[&other], start + 16 * MS);
    assert!(is_woken(&other) && !is_woken(&signal), "it has sent one in between");
    commit(&acks, &mut pacer, &[], start + 18 * MS);
    assert!(is_woken(&signal));
}

#[test]
fn no_ack_waits_for_longer_than_its_delay() {
    let start = Instant::now();
    let (acks, mut pacer, signal) = (Acks::default(), AckPacer::default(), session(start));
    commit(&acks, &mut pacer, &[&signal], start + MS);
    let due = start + MS + ACK_DELAY;
    assert_eq!(pacer.next_due(), Some(due));
    // Frames that become durable meanwhile do not postpone it.
    signal.sent(start + 5 * MS);
    commit(&acks, &mut pacer, &[&signal], start + 6 * MS);
    assert_eq!(pacer.next_due(), Some(due));
    pacer.tick(due - MS);
    assert!(!is_woken(&signal));
    pacer.tick(due);
    assert!(is_woken(&signal) && signal.take_due());
    commit(&acks, &mut pacer, &[&signal], due + MS);
    assert_eq!(pacer.next_due(), Some(due + MS + ACK_DELAY), "it is listed again");
}

#[test]
fn a_session_that_ends_is_woken_by_each_commit_at_once() {
    let start = Instant::now();
    let (acks, signal) = (Acks::default(), session(start));
    signal.end();
    acks.list(&signal);
    assert!(is_woken(&signal) && signal.take_due());
    assert!(acks.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_a_commit_or_with_the_delay() {
    let (acks, mut pacer, signal) = (Acks::default(), AckPacer::default(), session(Instant::now()));
    acks.list(&signal);
    assert!(pacer.turn(&acks).now_or_never().is_none(), "the commit is not finished");
    acks.flush();
    pacer.turn(&acks).await;
    let listed_at = Instant::now();
    assert!(!is_woken(&signal));
    pacer.turn(&acks).await;
    assert!(is_woken(&signal));
    assert!(listed_at.elapsed() >= ACK_DELAY);
}
