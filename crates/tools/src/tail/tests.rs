//! The client against a peer that the test controls, on a paused clock.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use frame::{Frame, FrameFlags, FramePriority, Origin, Selection, SourceKind, Station, StreamKey};
use wire::{GapReason, Policy, SubscriberMessage, next_body};

const HEARTBEAT: Duration = Duration::from_secs(15);
const LOG: u64 = 0xA1;

/// A daemon's listener.
struct Peer {
    listener: TcpListener,
}

/// The daemon's side of a connection.
struct Served {
    socket: TcpStream,
    incoming: BytesMut,
}

impl Peer {
    async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn client(&self, start: Start) -> Client {
        self.client_for(start, None)
    }

    fn client_for(&self, start: Start, retry_for: Option<Duration>) -> Client {
        let address = self.listener.local_addr().unwrap().to_string();
        let subscribe = Subscribe::new(Policy::Complete, start, Selection::default());
        Client::new(Target { address, tls: None, subscribe, retry_for })
    }

    /// Accepts the next connection and returns its SUBSCRIBE.
    async fn accept(&self) -> (Served, Subscribe) {
        let (socket, _) = self.listener.accept().await.unwrap();
        let mut served = Served { socket, incoming: BytesMut::new() };
        let body = served.body().await.unwrap();
        (served, Subscribe::decode(&body).unwrap())
    }

    /// Accepts, and sends SUBSCRIBED for `log_id` from `start_offset` on.
    async fn serve(&self, log_id: u64, start_offset: u64) -> (Served, Start) {
        let (mut served, subscribe) = self.accept().await;
        served.say(&[subscribed(log_id, start_offset)]).await;
        (served, subscribe.start)
    }

    /// Accepts, and sends ERROR.
    async fn refuse(&self, code: ErrorCode, retry_after: Duration) -> Start {
        let (mut served, subscribe) = self.accept().await;
        served.say(&[error(code, retry_after)]).await;
        subscribe.start
    }
}

impl Served {
    async fn body(&mut self) -> Option<Bytes> {
        loop {
            if let Some(body) = next_body(&mut self.incoming, 4096).unwrap() {
                return Some(body);
            }
            if self.socket.read_buf(&mut self.incoming).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn heard(&mut self) -> SubscriberMessage {
        SubscriberMessage::decode(&self.body().await.expect("the client is there")).unwrap()
    }

    async fn say(&mut self, messages: &[FeedMessage]) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.socket.write_all(&out).await.unwrap();
    }
}

fn subscribed(log_id: u64, start_offset: u64) -> FeedMessage {
    FeedMessage::Subscribed(Subscribed {
        version: 1,
        heartbeat_s: HEARTBEAT.as_secs() as u16,
        max_message_bytes: 4096,
        log_id,
        start_offset,
        head_offset: start_offset,
    })
}

fn error(code: ErrorCode, retry_after: Duration) -> FeedMessage {
    FeedMessage::Error(ErrorMessage::new(&WireError::new(code, "said the peer"), retry_after))
}

fn deliver(offset: u64) -> FeedMessage {
    let (source_id, source_kind) = (7, SourceKind::LiveUplink);
    let stream = StreamKey { source_id, source_kind, station: Station::default() };
    let frame = Frame {
        source_id,
        source_kind,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence: offset,
        ert_ns: 0,
        received_ns: 1,
        origin: Arc::new(Origin { stream, epoch: 1 }),
        payload: Bytes::from(vec![0; 4096]),
    };
    FeedMessage::Deliver(Deliver { offset, frame })
}

fn gap(reason: GapReason, offsets: std::ops::Range<u64>) -> FeedMessage {
    FeedMessage::Gap(Gap { reason, offsets })
}

fn resumes_at(offset: u64) -> Start {
    Start::Offset { offset, log_id: LOG }
}

async fn expect_subscribed(client: &mut Client) -> Subscribed {
    match client.next().await {
        Ok(Event::Subscribed(subscribed)) => subscribed,
        other => panic!("SUBSCRIBED is due, not {other:?}"),
    }
}

async fn expect_frame(client: &mut Client, offset: u64) {
    match client.next().await {
        Ok(Event::Frame(frame)) => assert_eq!(frame.offset, offset),
        other => panic!("frame {offset} is due, not {other:?}"),
    }
}

async fn expect_lost(client: &mut Client) -> (String, Duration) {
    match client.next().await {
        Ok(Event::Lost { trouble, pause }) => (trouble, pause),
        other => panic!("a lost connection is due, not {other:?}"),
    }
}

fn next_offset(client: &Client) -> u64 {
    let position = client.position().expect("a position");
    assert_eq!(position.log_id, LOG);
    position.next_offset
}

#[tokio::test(start_paused = true)]
async fn it_resumes_behind_the_newest_position_message() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Earliest);
    let serve = async {
        let (mut served, start) = peer.serve(LOG, 3).await;
        assert_eq!(start, Start::Earliest);
        served.say(&[deliver(3), deliver(5)]).await;
        drop(served);
        let (mut served, start) = peer.serve(LOG, 6).await;
        assert_eq!(start, resumes_at(6), "behind a DELIVER");
        served.say(&[gap(GapReason::Expired, 6..10)]).await;
        drop(served);
        let (mut served, start) = peer.serve(LOG, 10).await;
        assert_eq!(start, resumes_at(10), "behind a GAP");
        served.say(&[FeedMessage::Progress(17)]).await;
        drop(served);
        let (_served, start) = peer.serve(LOG, 17).await;
        assert_eq!(start, resumes_at(17), "behind a PROGRESS");
    };
    let follow = async {
        assert_eq!(client.position(), None);
        expect_subscribed(&mut client).await;
        assert_eq!(next_offset(&client), 3);
        expect_frame(&mut client, 3).await;
        assert_eq!(next_offset(&client), 4, "not behind what was read and not given");
        expect_frame(&mut client, 5).await;
        expect_lost(&mut client).await;
        expect_subscribed(&mut client).await;
        match client.next().await {
            Ok(Event::Gap(gap)) => assert_eq!((gap.reason, gap.offsets), (GapReason::Expired, 6..10)),
            other => panic!("a gap is due, not {other:?}"),
        }
        expect_lost(&mut client).await;
        expect_subscribed(&mut client).await;
        expect_lost(&mut client).await;
        assert_eq!(next_offset(&client), 17);
        expect_subscribed(&mut client).await;
    };
    tokio::join!(serve, follow);
}

#[tokio::test(start_paused = true)]
async fn messages_already_read_are_returned_without_waiting() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let (_served, ()) = tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 0).await;
            served.say(&[deliver(0), FeedMessage::Progress(1), deliver(1)]).await;
            served
        },
        async {
            expect_subscribed(&mut client).await;
            expect_frame(&mut client, 0).await;
            assert!(matches!(client.at_hand(), Ok(Some(Event::Frame(frame))) if frame.offset == 1));
            assert!(matches!(client.at_hand(), Ok(None)));
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_grows_and_is_at_least_the_one_the_daemon_asks_for() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let asked = Duration::from_secs(7);
    let (start, ()) = tokio::join!(
        async {
            assert_eq!(peer.refuse(ErrorCode::Busy, asked).await, Start::Live);
            let said = Instant::now();
            let (_, start) = peer.serve(LOG, 9).await;
            assert!(said.elapsed() >= asked, "{:?}", said.elapsed());
            start
        },
        async {
            let (trouble, pause) = expect_lost(&mut client).await;
            assert_eq!(trouble, "busy: said the peer");
            assert!(pause >= asked && pause < asked * 2, "{pause:?}");
            expect_subscribed(&mut client).await;
        }
    );
    assert_eq!(start, Start::Live, "it never was anywhere");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_retryable_ends_the_subscription() {
    for code in [ErrorCode::Unauthorized, ErrorCode::Forbidden, ErrorCode::Protocol, ErrorCode::Version] {
        let peer = Peer::bind().await;
        let mut client = peer.client(Start::Earliest);
        let (_, refused) = tokio::join!(peer.refuse(code, Duration::ZERO), client.next());
        match refused {
            Err(TailError::Refused { code: said, text, .. }) => {
                assert_eq!((said, &*text), (code as u16, "said the peer"));
            }
            other => panic!("{code} is the end, not {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_subscribed_is_judged_too() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let (_, ()) = tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 4).await;
            served.say(&[error(ErrorCode::Draining, Duration::from_secs(1))]).await;
            let (mut served, start) = peer.serve(LOG, 4).await;
            assert_eq!(start, resumes_at(4));
            served.say(&[error(ErrorCode::Removed, Duration::ZERO)]).await;
        },
        async {
            expect_subscribed(&mut client).await;
            assert_eq!(expect_lost(&mut client).await.0, "draining: said the peer");
            expect_subscribed(&mut client).await;
            assert!(matches!(client.next().await, Err(TailError::Refused { code: 17, .. })));
        }
    );
}

/// Loses the connection at offset 5 of [`LOG`], and serves `log_id` at the next attempts.
async fn come_back_to(log_id: u64, start: Start) -> Result<Event, TailError> {
    let peer = Peer::bind().await;
    let mut client = peer.client(start);
    let (_, event) = tokio::join!(
        async {
            drop(peer.serve(LOG, 5).await);
            assert_eq!(peer.refuse(ErrorCode::Protocol, Duration::ZERO).await, resumes_at(5));
            let (served, asked) = peer.serve(log_id, 2).await;
            assert_eq!(asked, Start::Live, "only SUBSCRIBED names the log");
            served
        },
        async {
            expect_subscribed(&mut client).await;
            expect_lost(&mut client).await;
            client.next().await
        }
    );
    event
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_log_ends_all_but_live_subscriptions() {
    match come_back_to(0xB2, Start::Earliest).await {
        Err(error @ TailError::LogChanged { expected: LOG, found: 0xB2 }) => {
            assert!(error.to_string().contains("another archive"), "{error}");
        }
        other => panic!("another log is the end, not {other:?}"),
    }
    match come_back_to(0xB2, Start::Live).await {
        Ok(Event::LogChanged { from: LOG, to }) => assert_eq!((to.log_id, to.start_offset), (0xB2, 2)),
        other => panic!("a live subscription continues with the other log, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_offset_of_the_same_log_ends_the_subscription() {
    for start in [Start::Live, Start::Earliest] {
        let ended = come_back_to(LOG, start).await;
        assert!(matches!(ended, Err(TailError::Refused { code: 1, .. })), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_log_without_a_refusal_is_noticed() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Earliest);
    tokio::join!(
        async {
            drop(peer.serve(LOG, 0).await);
            drop(peer.serve(0xB2, 0).await);
        },
        async {
            expect_subscribed(&mut client).await;
            expect_lost(&mut client).await;
            let ended = client.next().await;
            assert!(matches!(ended, Err(TailError::LogChanged { expected: LOG, found: 0xB2 })), "{ended:?}");
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_offset_is_a_protocol_error_of_the_daemon() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let (_served, ()) = tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 3).await;
            served.say(&[deliver(3), deliver(3)]).await;
            served
        },
        async {
            expect_subscribed(&mut client).await;
            expect_frame(&mut client, 3).await;
            match client.next().await {
                Err(TailError::Peer(error)) => assert!(error.text.contains("offset 3"), "{error}"),
                other => panic!("a repeat is no protocol, not {other:?}"),
            }
        }
    );
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_while_nothing_is_delivered() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 0).await;
            for nonce in [3, 1, u64::MAX] {
                served.say(&[FeedMessage::Ping(nonce)]).await;
                assert_eq!(served.heard().await, SubscriberMessage::Pong(nonce));
            }
            served.say(&[deliver(0)]).await;
        },
        async {
            expect_subscribed(&mut client).await;
            expect_frame(&mut client, 0).await;
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_pinged_and_then_ended() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let (_served, ()) = tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 0).await;
            let since = Instant::now();
            for beat in 1..=2 {
                assert!(matches!(served.heard().await, SubscriberMessage::Ping(_)));
                assert_eq!(since.elapsed().as_secs(), (HEARTBEAT * beat).as_secs());
            }
            served
        },
        async {
            expect_subscribed(&mut client).await;
            let since = Instant::now();
            assert_eq!(expect_lost(&mut client).await.0, "nothing received for 45s");
            assert_eq!(since.elapsed().as_secs(), 45);
        }
    );
}

#[tokio::test(start_paused = true)]
async fn any_byte_ends_the_silence() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 0).await;
            let mut message = BytesMut::new();
            FeedMessage::Gap(Gap { reason: GapReason::Damaged, offsets: 0..2 }).encode(&mut message);
            for byte in message {
                tokio::time::sleep(HEARTBEAT * 2).await;
                served.socket.write_all(&[byte]).await.unwrap();
            }
        },
        async {
            expect_subscribed(&mut client).await;
            assert!(matches!(client.next().await, Ok(Event::Gap(_))));
        }
    );
}

#[tokio::test(start_paused = true)]
async fn while_held_it_sends_pings_and_does_not_time_out() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let (mut served, ()) = tokio::join!(async { peer.serve(LOG, 0).await.0 }, async {
        expect_subscribed(&mut client).await;
    });
    let began = Instant::now();
    let (_, pings) = tokio::join!(
        // Calls it repeatedly, like a caller that also waits for other things.
        async {
            while began.elapsed() < HEARTBEAT * 10 {
                let _ = timeout(Duration::from_secs(1), client.hold()).await;
            }
        },
        async {
            for _ in 0..9 {
                assert!(matches!(served.heard().await, SubscriberMessage::Ping(_)));
            }
            began.elapsed()
        }
    );
    assert!(pings >= HEARTBEAT * 8, "a PING each heartbeat, not 9 in {pings:?}");
    tokio::join!(
        async {
            tokio::time::sleep(HEARTBEAT * 2).await;
            served.say(&[deliver(0)]).await;
        },
        expect_frame(&mut client, 0),
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_loses_no_message() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Live);
    let cut = Duration::from_millis(10);
    tokio::join!(
        async {
            let (mut served, _) = peer.serve(LOG, 0).await;
            let mut out = BytesMut::new();
            deliver(0).encode(&mut out);
            for piece in out.chunks(1_000) {
                served.socket.write_all(piece).await.unwrap();
                tokio::time::sleep(cut * 5).await;
            }
        },
        async {
            expect_subscribed(&mut client).await;
            let mut cuts = 0;
            let event = loop {
                match timeout(cut, client.next()).await {
                    Ok(event) => break event,
                    Err(_) => cuts += 1,
                }
            };
            assert!(cuts > 3, "{cuts}");
            assert!(matches!(event, Ok(Event::Frame(frame)) if frame.frame.payload.len() == 4096));
        }
    );
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_the_retry_time() {
    // The socket is bound, so that no other program gets the port, but it does not listen.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    let limit = Duration::from_secs(60);
    let subscribe = Subscribe::new(Policy::Complete, Start::Live, Selection::default());
    let mut client =
        Client::new(Target { address: address.to_string(), tls: None, subscribe, retry_for: Some(limit) });
    let began = Instant::now();
    let mut pauses = Vec::new();
    let error = loop {
        match client.next().await {
            Ok(Event::Lost { pause, .. }) => pauses.push(pause),
            Ok(other) => panic!("no daemon is there, but {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, TailError::GaveUp { after, .. } if *after == limit), "{error}");
    let took = began.elapsed();
    assert!(took <= limit && took > limit - Duration::from_secs(6), "{took:?}");
    assert!(pauses[0] < Duration::from_millis(100), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(2)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_counts_as_time_without_a_connection() {
    let peer = Peer::bind().await;
    let limit = Duration::from_secs(2);
    let mut client = peer.client_for(Start::Live, Some(limit));
    let began = Instant::now();
    // The peer accepts, reads SUBSCRIBE and sends nothing.
    let (accepted, error) = tokio::join!(peer.accept(), client.next());
    let error = error.unwrap_err();
    assert!(
        matches!(&error, TailError::GaveUp { trouble, .. } if trouble.starts_with("no answer")),
        "{error}"
    );
    assert!(began.elapsed() <= limit + Duration::from_millis(10), "{:?}", began.elapsed());
    drop(accepted);

    let mut client = peer.client_for(Start::Live, Some(limit));
    let ((served, _), _) = tokio::join!(peer.serve(LOG, 0), expect_subscribed(&mut client));
    let began = Instant::now();
    let error = client.next().await.unwrap_err();
    assert!(matches!(error, TailError::GaveUp { .. }), "{error}");
    assert_eq!(began.elapsed(), 3 * HEARTBEAT);
    drop(served);
}

#[tokio::test]
async fn an_offset_of_another_log_ends_the_subscription() {
    let peer = Peer::bind().await;
    let mut client = peer.client(Start::Offset { offset: 7, log_id: LOG });
    let daemon = async {
        assert_eq!(
            peer.refuse(ErrorCode::Protocol, Duration::ZERO).await,
            Start::Offset { offset: 7, log_id: LOG }
        );
        peer.serve(LOG + 1, 0).await
    };
    let (_, error) = tokio::join!(daemon, client.next());
    assert_eq!(error.unwrap_err(), TailError::LogChanged { expected: LOG, found: LOG + 1 });
}
