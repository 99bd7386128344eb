//! What happens when a connection or the server fails.

use super::super::*;
use super::peer::{PLENTY, Server, against, by_lane, next_of, within};
use frame::FramePriority::{Emergency, Routine};
use wire::{ErrorCode, GoAway, ServerMessage};

#[tokio::test]
async fn after_a_lost_connection_exactly_the_frames_not_accepted_are_resent() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(1000), ..server.plan() };
    let (report, resent) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [20 * 320, 60 * 320]).await;
        let [emergencies, routine] = peer.frames(80).await;
        peer.ack(Emergency, emergencies[4], 20 * 320).await;
        peer.ack(Routine, routine[9], 60 * 320).await;
        peer.is_quiet().await;
        drop(peer);

        // More is accepted than durable. The frames in between are kept, and not sent again.
        let resume_next = [emergencies[6] + 1, routine[29] + 1];
        let durable_next = [emergencies[4], routine[9]];
        let mut peer = server.welcome(&plan, resume_next, durable_next, [PLENTY; 2]).await;
        assert_eq!(peer.hello.epoch, 77);
        let (lanes, bye) = peer.frames_to_bye().await;
        let [all_emergencies, all_routine] = by_lane(1000);
        assert_eq!(lanes[0], all_emergencies[7..]);
        assert_eq!(lanes[1], all_routine[30..]);
        let duplicates = 3;
        peer.ack_with_duplicates(Routine, bye[1], PLENTY, duplicates).await;
        peer.bye(bye).await;
        (emergencies.len() - 7 + routine.len() - 30) as u64
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.acked, report.reconnects), (1000, 1000, 1));
    assert_eq!((report.resent, report.duplicates), (resent, 3));
}

#[tokio::test]
async fn an_unanswered_bye_is_sent_again() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(10), ..server.plan() };
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        let (lanes, bye) = peer.frames_to_bye().await;
        drop(peer);
        let mut peer = server.welcome(&plan, bye, [0; 2], [PLENTY; 2]).await;
        assert_eq!(peer.frames_to_bye().await, ([Vec::new(), Vec::new()], bye));
        assert_eq!(bye, next_of(&lanes));
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.resent, report.reconnects), (0, 1));
}

#[tokio::test]
async fn the_wait_of_a_retryable_error_is_obeyed_before_and_after_welcome() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(1), ..server.plan() };
    let wait = Duration::from_millis(300);
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.accept(&plan).await;
        peer.error(ErrorCode::Busy, wait).await;
        let first = std::time::Instant::now();
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0; 2]).await;
        assert!(first.elapsed() >= wait, "{:?}", first.elapsed());
        peer.error(ErrorCode::Limit, wait).await;
        let second = std::time::Instant::now();
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        assert!(second.elapsed() >= wait, "{:?}", second.elapsed());
        let (_, bye) = peer.frames_to_bye().await;
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.reconnects), (1, 1));
}

#[tokio::test]
async fn an_error_that_is_not_retryable_ends_the_source() {
    for code in [ErrorCode::Fenced, ErrorCode::TakenOver, ErrorCode::Unauthorized] {
        let server = Server::new().await;
        let plan = server.plan();
        let (report, ()) = against(plan.clone(), async {
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0; 2]).await;
            peer.error(code, Duration::ZERO).await;
        })
        .await;
        assert_eq!(report.errors, [format!("live/0@SVALBARD: refused by the server: {code}: scripted")]);
        assert!(!report.is_complete());
    }
}

#[tokio::test]
async fn a_source_does_not_continue_in_a_used_epoch() {
    let server = Server::new().await;
    let plan = server.plan();
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0, 9], [0, 9], [PLENTY; 2]).await;
        assert_eq!(peer.next().await, None);
    })
    .await;
    assert_eq!(report.sent, 0);
    assert!(report.errors[0].contains("routine resumes at 9, above 0"), "{report}");
}

#[tokio::test]
async fn a_lost_acknowledged_frame_is_reported() {
    let server = Server::new().await;
    let plan = server.plan();
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0, 3200]).await;
        let [_, routine] = peer.frames(10).await;
        peer.ack(Routine, routine[7] + 1, 3200).await;
        peer.is_quiet().await;
        drop(peer);
        let mut peer = server.welcome(&plan, [0, routine[5]], [0; 2], [PLENTY; 2]).await;
        assert_eq!(peer.next().await, None);
    })
    .await;
    assert_eq!((report.sent, report.acked), (10, 8));
    assert!(report.errors[0].contains("was acknowledged as durable"), "{report}");
}

#[tokio::test]
async fn the_wait_for_the_last_acks_is_bounded() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(10), linger: Duration::from_millis(50), ..server.plan() };
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        let (_, _) = peer.frames_to_bye().await;
        peer.ack(Routine, 3, PLENTY).await;
        assert_eq!(peer.next().await, None);
    })
    .await;
    let acked = by_lane(3)[1].len() as u64;
    assert_eq!((report.sent, report.acked), (10, acked));
    assert!(report.errors[0].contains(&format!("{} frames not acknowledged", 10 - acked)), "{report}");
}

#[tokio::test]
async fn without_a_server_a_feed_ends_in_time_with_a_reason() {
    let free = Server::new().await;
    let plan = Plan {
        duration: Some(Duration::from_millis(60)),
        linger: Duration::from_millis(60),
        satellites: 3,
        ..free.plan()
    };
    drop(free);
    let (report, ()) = against(plan, async {}).await;
    assert_eq!((report.sent, report.errors.len()), (0, 3));
    assert!(report.errors[0].contains("never connected (cannot connect to "), "{report}");
}

#[tokio::test]
async fn a_draining_server_gets_no_new_frames_and_the_next_server_gets_the_rest() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(100), ..server.plan() };
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0, 3200]).await;
        let [_, routine] = peer.frames(10).await;
        let goaway = GoAway { deadline: Duration::from_secs(5), text: String::new() };
        peer.send(ServerMessage::GoAway(goaway)).await;
        peer.is_quiet().await;
        peer.ack(Routine, routine[9] + 1, PLENTY).await;
        peer.is_quiet().await;
        peer.error(ErrorCode::Draining, Duration::ZERO).await;
        let next = [0, routine[9] + 1];
        let mut peer = server.welcome(&plan, next, next, [PLENTY; 2]).await;
        let (lanes, bye) = peer.frames_to_bye().await;
        let [emergencies, all_routine] = by_lane(100);
        assert_eq!(lanes, [emergencies, all_routine[10..].to_vec()]);
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.resent, report.reconnects), (100, 0, 1));
}

#[tokio::test]
async fn messages_of_the_server_are_read_while_a_write_is_blocked() {
    let server = Server::new().await;
    let plan = Plan { payload_bytes: 100_000, ..server.plan() };
    let (report, _peer) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        // The server reads no frame: the buffers of the socket are full, and the write of the client hangs.
        peer.error(ErrorCode::Removed, Duration::ZERO).await;
        peer
    })
    .await;
    assert!(report.errors[0].ends_with("removed: scripted"), "{report}");
}

#[tokio::test]
async fn without_acks_a_lost_connection_loses_its_frames() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(1_000_000), no_ack: true, ..server.plan() };
    let (stop_tx, stop_rx) = watch::channel(false);
    let (report, arrived) = within(async {
        tokio::join!(run(plan.clone(), stop_rx, Arc::default()), async {
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0; 2]).await;
            peer.frames(10).await;
            drop(peer);
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0; 2]).await;
            peer.frames(10).await;
            stop_tx.send_replace(true);
            let (lanes, bye) = peer.frames_to_bye().await;
            peer.bye(bye).await;
            10 + lanes[0].len() + lanes[1].len()
        })
    })
    .await;
    assert_eq!((report.acked, report.resent), (arrived as u64, 0));
    assert!(report.sent >= report.acked + 10);
    assert!(!report.is_complete());
}
