//! The simulator against a scripted server, without faults.

use std::collections::BTreeMap;

use super::*;
use frame::FramePriority::{self, Routine};
use wire::HelloFlags;

mod faults;
mod peer;

use peer::{PLENTY, Server, against, by_lane, next_of, within};

#[tokio::test]
async fn a_feed_arrives_completely_and_ends_with_bye() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(500), ..server.plan() };
    let (report, hello) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        let (lanes, bye) = peer.frames_to_bye().await;
        assert_eq!(lanes, by_lane(500));
        assert_eq!(bye, next_of(&lanes));
        for lane in FramePriority::ALL {
            peer.ack(lane, bye[lane.lane()], PLENTY).await;
        }
        peer.bye(bye).await;
        assert_eq!(peer.next().await, None);
        peer.hello
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.acked, report.resent, report.reconnects), (500, 500, 0, 0));
    assert!((report.bytes_per_s * report.elapsed_s - 150_000.0).abs() < 1.0);
    assert_eq!((hello.epoch, hello.token.as_str()), (77, "secret"));
    assert_eq!(hello.stream.to_string(), "live/0@SVALBARD");
    assert_eq!(hello.flags, HelloFlags::SHARED_SEQUENCE);
}

#[tokio::test]
async fn credit_is_used_to_the_last_byte_and_never_exceeded() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(300), ..server.plan() };
    let cost = 320;
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [3 * cost, 10 * cost + cost - 1]).await;
        let lanes = peer.frames(13).await;
        assert_eq!(lanes.each_ref().map(Vec::len), [3, 10]);
        peer.is_quiet().await;
        peer.ack(Routine, 0, 11 * cost).await;
        assert_eq!(peer.frame().await.0, Routine);
        peer.is_quiet().await;
        for lane in FramePriority::ALL {
            peer.ack(lane, 0, PLENTY).await;
        }
        let (_, bye) = peer.frames_to_bye().await;
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.sent, 300);
}

#[tokio::test]
async fn emergencies_flow_while_routine_has_no_credit() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(2000), ..server.plan() };
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY, 0]).await;
        let [emergencies, routine] = by_lane(2000);
        let lanes = peer.frames(emergencies.len()).await;
        assert_eq!(lanes, [emergencies, Vec::new()]);
        peer.is_quiet().await;
        peer.ack(Routine, 0, PLENTY).await;
        let (lanes, bye) = peer.frames_to_bye().await;
        assert_eq!(lanes, [Vec::new(), routine]);
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test]
async fn a_stop_sends_no_new_frame_and_waits_for_acks() {
    let server = Server::new().await;
    let plan = server.plan();
    let (stop_tx, stop_rx) = watch::channel(false);
    let (report, ()) = within(async {
        tokio::join!(run(plan.clone(), stop_rx, Arc::default()), async {
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0, 3200]).await;
            let [_, routine] = peer.frames(10).await;
            stop_tx.send_replace(true);
            let (none, bye) = peer.frames_to_bye().await;
            assert_eq!((none, bye), ([Vec::new(), Vec::new()], [0, routine[9] + 1]));
            // Credit brings no more new frames.
            peer.ack(Routine, routine[4], PLENTY).await;
            peer.is_quiet().await;
            peer.bye(bye).await;
        })
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.sent, 10);
}

#[tokio::test]
async fn without_acks_the_bye_reports_what_arrived() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(100), no_ack: true, ..server.plan() };
    for missing in [0, 2] {
        let (report, ()) = against(plan.clone(), async {
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [0; 2]).await;
            let flags = HelloFlags::NO_ACK.and(HelloFlags::SHARED_SEQUENCE);
            assert_eq!((peer.hello.epoch, peer.hello.flags), (0, flags));
            let (lanes, bye) = peer.frames_to_bye().await;
            assert_eq!(lanes, by_lane(100));
            let kept = lanes[1].len() - missing;
            peer.bye([bye[0], lanes[1][kept - 1] + 1]).await;
        })
        .await;
        assert_eq!((report.sent, report.acked), (100, 100 - missing as u64));
        assert_eq!(report.is_complete(), missing == 0, "{report}");
    }
}

#[tokio::test]
async fn every_source_sends_the_whole_input() {
    let server = Server::new().await;
    let packets: Vec<_> = (0..50usize).map(|k| Bytes::from(vec![k as u8; 7 + k * 11])).collect();
    let plan = Plan {
        satellites: 2,
        replays: 1,
        emergency_ratio: 0.0,
        input: Some(Arc::new(packets)),
        ..server.plan()
    };
    let (report, streams) = against(plan.clone(), async {
        let mut streams = BTreeMap::new();
        for _ in 0..3 {
            let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
            let (lanes, bye) = peer.frames_to_bye().await;
            assert_eq!(lanes, [Vec::new(), (0..50).collect()]);
            peer.bye(bye).await;
            streams.insert(peer.hello.stream.source_id, peer.hello.stream.to_string());
        }
        streams
    })
    .await;
    assert!(report.is_complete(), "{report}");
    let names: Vec<_> = streams.into_values().collect();
    assert_eq!(names, ["live/0@SVALBARD", "live/1@TROLL", "replay/2@KIRUNA"]);
}

#[tokio::test]
async fn frames_keep_to_the_rate() {
    let server = Server::new().await;
    let plan = Plan { frames: Some(51), rate: 200.0, ..server.plan() };
    let (report, ()) = against(plan.clone(), async {
        let mut peer = server.welcome(&plan, [0; 2], [0; 2], [PLENTY; 2]).await;
        let (_, bye) = peer.frames_to_bye().await;
        peer.bye(bye).await;
    })
    .await;
    assert!(report.is_complete(), "{report}");
    assert!(report.elapsed_s >= 0.25, "{report}");
}
