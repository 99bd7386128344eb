//! Registration, removal by `Down`, and the drain.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::actor::{Address, spawn};
use crate::frame::{SourceKind, Station, StreamKey};

const LONG: Duration = Duration::from_secs(20);

/// A session that ends with the first order it gets, or by itself when a message asks for it.
fn session() -> (Address<Stop>, ActorHandle) {
    spawn("session", Capacity { urgent: 4, routine: 4 }, |mut mailbox: Mailbox<Stop>| async move {
        match mailbox.recv().await {
            Some(Received::Message(Stop(error))) => Err(error),
            _ => Ok(()),
        }
    })
}

fn info(session_id: SessionId) -> SourceInfo {
    let stream = StreamKey {
        source_id: u32::try_from(session_id).unwrap(),
        source_kind: SourceKind::LiveUplink,
        station: Station::default(),
    };
    SourceInfo {
        session_id,
        origin: Arc::new(Origin { stream, epoch: 1 }),
        peer: ([127, 0, 0, 1], 1).into(),
        since_ns: 0,
    }
}

async fn ids(router: &Router) -> Vec<SessionId> {
    router.list().await.unwrap().iter().map(|source| source.session_id).collect()
}

async fn wait_for_ids(router: &Router, expected: &[SessionId]) {
    while ids(router).await != expected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_source_stays_until_its_session_ends() {
    let (router, handle) = Router::start(Sources::new());
    let (first, first_handle) = session();
    let (second, second_handle) = session();
    router.add(info(1), first).await.unwrap();
    router.add(info(2), second).await.unwrap();
    assert_eq!(ids(&router).await, [1, 2]);
    first_handle.abort();
    wait_for_ids(&router, &[2]).await;
    assert!(router.remove(2).await.unwrap());
    assert!(second_handle.join().await.to_string().contains("removed by an operator"));
    wait_for_ids(&router, &[]).await;
    assert!(!router.remove(2).await.unwrap(), "it is gone");
    drop((router, first_handle));
    assert!(handle.join().await.is_normal());
}

#[tokio::test]
async fn a_session_that_was_gone_before_it_was_registered_does_not_stay() {
    let (router, _handle) = Router::start(Sources::new());
    let (address, session_handle) = session();
    session_handle.abort();
    address.closed().await;
    router.add(info(1), address).await.unwrap();
    wait_for_ids(&router, &[]).await;
}

/// The router handles the sessions' `Down`s out of turn. Messages that came meanwhile are answered
/// afterwards, in order.
#[tokio::test]
async fn a_drain_waits_for_the_sessions_alone_and_answers_the_rest_in_order() {
    let sources = Sources::new();
    let (router, _handle) = Router::start(Arc::clone(&sources));
    let (address, session_handle) = session();
    router.add(info(1), address).await.unwrap();

    let mut drain = std::pin::pin!(router.drain(LONG));
    assert!(futures::poll!(&mut drain).is_pending());
    // The router answers this request at once while it does not drain. So when this request waits, the router
    // drains.
    let mut list = std::pin::pin!(router.list());
    assert!(futures::poll!(&mut list).is_pending());
    let (late, _late_handle) = session();
    let mut add = std::pin::pin!(router.add(info(2), late));
    assert!(futures::poll!(&mut add).is_pending());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut list).is_pending(), "it waits for the session");
    assert!(futures::poll!(&mut drain).is_pending());

    session_handle.abort();
    drain.await.unwrap();
    assert_eq!(list.await.unwrap().len(), 0, "asked before the late one came");
    let Err(RouterError::Refused(refused)) = add.await else {
        panic!("a draining router takes no source");
    };
    assert_eq!(refused.code, ErrorCode::Draining);
}

#[tokio::test]
async fn a_drain_with_more_requests_than_it_can_set_aside_goes_on() {
    let (router, _handle) = Router::start(Sources::new());
    let (address, session_handle) = session();
    router.add(info(1), address).await.unwrap();
    let mut drain = std::pin::pin!(router.drain(LONG));
    assert!(futures::poll!(&mut drain).is_pending());
    let mut lists: Vec<_> =
        (0..3 * (CAPACITY.routine + CAPACITY.urgent)).map(|_| Box::pin(router.list())).collect();
    for list in &mut lists {
        assert!(futures::poll!(list).is_pending());
    }
    session_handle.abort();
    let (lists, drained) = tokio::join!(futures::future::join_all(lists), drain);
    drained.unwrap();
    assert!(lists.iter().all(Result::is_ok));
}
