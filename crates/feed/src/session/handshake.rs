//! From the first byte to SUBSCRIBED: identifies the client, checks whether it may read, and finds the start
//! offset.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::time::sleep;

use super::*;
use crate::SessionPolicy;
use crate::catch_up::NO_FILES_PAUSE;
use archive::{Filter, History, Item};
use connection::{Proof, renewed};
use support::logging::{Kind, by_peer};
use wire::{Start, Subscribe, Subscribed, VERSION};

/// Longest time of one turn of a search.
const SEARCH_TURN_MAX: Duration = Duration::from_millis(200);
/// How often to check whether a subscriber that has sent more bytes is gone.
const GONE_EVERY: Duration = Duration::from_millis(100);
/// Offsets to search before the next check of the time.
const SEARCH_OFFSETS: u64 = 1 << 10;

/// Reads SUBSCRIBE and answers it, unless the session must end or the subscriber leaves before.
pub(super) async fn greet(
    socket: &mut Socket,
    tls: Option<tls::Server>,
    permit: entrance::Permit,
    mailbox: &mut Mailbox<Stop>,
    context: &Arc<Context>,
) -> Result<(Subscription, BytesMut), Ended> {
    let mut ending = context.ending.clone();
    tokio::select! {
        subscription = subscribe(socket, tls, permit, context) => subscription,
        order = mailbox.recv() => match order {
            Some(Received::Message(Stop(error))) => Err(error.into()),
            _ => Err(draining().into()),
        },
        _ = ending.wait_for(|ending| *ending != Ending::NotYet) => Err(draining().into()),
    }
}

/// Checks SUBSCRIBE in the order version, token, sources, limits, position.
async fn subscribe(
    socket: &mut Socket,
    tls: Option<tls::Server>,
    permit: entrance::Permit,
    context: &Arc<Context>,
) -> Result<(Subscription, BytesMut), Ended> {
    let limit = context.policy().config.subscribe_timeout;
    let entrance::First { body, rest } = permit.first_message(socket, limit, "SUBSCRIBE").await?;
    let subscribe = Subscribe::decode(&body)?;
    // The policy in force when SUBSCRIBE is complete: a token that was withdrawn meanwhile is refused.
    let policy = context.policy();
    let SessionPolicy { config, credentials, .. } = &*policy;
    // An authority that was withdrawn since the connection came proves nothing.
    if policy.tls != tls {
        return Err(renewed().into());
    }
    let names = socket.peer_names();
    let proof = Proof { token: &subscribe.token, names: names.as_deref() };
    let selection = credentials.narrow(proof, subscribe.selection.clone())?;
    let subscribed = context.take_place(config.max_subscribers)?;
    // The search for the start may take a while.
    drop(permit);
    let (follower, head_offset) = context.durable.subscribe_tail();
    let start_offset = tokio::select! {
        // A subscriber that has closed its writing side may still read why it is refused.
        biased;
        found = start_offset(context, subscribe.start, head_offset) => found?,
        () = gone(socket.tcp()) => return Err(Ended::Eof),
    };
    let mut greeting = BytesMut::new();
    let heartbeat = config.heartbeat;
    Subscribed {
        version: VERSION,
        heartbeat_s: u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX),
        max_message_bytes: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
        log_id: context.durable.history().log_id(),
        start_offset,
        head_offset,
    }
    .encode(&mut greeting);
    let (durable, policy) = (context.durable.clone(), subscribe.policy);
    let has_caught_up = subscribe.start == Start::Live;
    let following = Following::new(durable, follower, selection, policy, start_offset, has_caught_up);
    let subscription = Subscription {
        policy,
        following,
        heartbeat,
        message_bytes_max: config.message_bytes_max,
        greeting,
        permit: Some(subscribed),
    };
    Ok((subscription, BytesMut::from(&rest[..])))
}

/// Waits until the subscriber is gone, as far as that is visible without reading its bytes.
async fn gone(socket: &TcpStream) {
    while matches!(socket.ready(Interest::READABLE).await, Ok(ready) if !ready.is_read_closed()) {
        if !matches!(socket.peek(&mut [0]).await, Ok(1..)) {
            return;
        }
        // The subscriber has sent more bytes, which are not read yet. So the socket is always readable.
        tokio::time::sleep(GONE_EVERY).await;
    }
}

fn draining() -> WireError {
    WireError::new(ErrorCode::Draining, "the daemon is shutting down")
}

/// The offset a subscription begins with.
async fn start_offset(context: &Context, start: Start, head: u64) -> Result<u64, Ended> {
    let history = context.durable.history();
    match start {
        Start::Live => Ok(head),
        Start::Earliest => Ok(history.first_offset()),
        Start::Offset { log_id, .. } if log_id != 0 && log_id != history.log_id() => {
            let ours = history.log_id();
            Err(WireError::protocol(format!("this daemon serves log {ours}, not log {log_id}")).into())
        }
        Start::Offset { offset, .. } if offset > head => {
            let text = format!("offset {offset} is above the head, which is {head}");
            Err(WireError::protocol(text).with_detail(head).into())
        }
        Start::Offset { offset, .. } => Ok(offset),
        Start::Received { from_ns } => received_from(context, from_ns, head).await,
    }
}

/// The lowest offset received at `from_ns` or later; `head` if there is none. Searches in turns, like all
/// reading.
async fn received_from(context: &Context, from_ns: i64, head: u64) -> Result<u64, Ended> {
    let mut next_offset = context.durable.history().first_offset();
    let wanted = Wanted::default();
    while next_offset < head {
        let Ok(turn) = Arc::clone(context.durable.readers()).acquire_owned().await else {
            return Err(draining().into());
        };
        let (history, is_wanted) = (context.durable.history().clone(), Arc::clone(&wanted.0));
        let search = tokio::task::spawn_blocking(move || {
            // The session that waits for the result may end. The turn lasts until the reading ends.
            let _turn = turn;
            search(&history, from_ns, next_offset..head, || is_wanted.load(Ordering::Relaxed))
        });
        match search.await {
            Ok(Ok(Search::Found(offset))) => return Ok(offset),
            Ok(Ok(Search::NoneBelow(offset))) => next_offset = offset,
            Ok(Err(error)) if error.is_too_many_files() => {
                by_peer!(Kind::Unread, WARN, %error, "a subscriber waits until files can be opened again");
                sleep(NO_FILES_PAUSE).await;
            }
            Ok(Err(error)) => {
                by_peer!(Kind::Unread, ERROR, %error, "the start of a subscription cannot be found");
                return Err(WireError::new(ErrorCode::StorageFailed, "the archive cannot be read").into());
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(draining().into()),
            },
        }
    }
    Ok(head)
}

/// Marks that a session waits for the result of a search. Dropping it clears the mark.
struct Wanted(Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The result of one turn.
enum Search {
    /// The lowest offset that was looked for.
    Found(u64),
    /// There is none below this offset. The search goes on there.
    NoneBelow(u64),
}

/// Searches `offsets` until the turn ends or the result is not wanted.
fn search(
    history: &History,
    from_ns: i64,
    offsets: Range<u64>,
    is_wanted: impl Fn() -> bool,
) -> Result<Search, ReadError> {
    let began = std::time::Instant::now();
    let mut reader = history.read(Filter {
        from_offset: offsets.start,
        to_offset: Some(offsets.end),
        from_received_ns: Some(from_ns),
        ..Filter::default()
    })?;
    let mut reached = offsets.start;
    while reached < offsets.end && began.elapsed() < SEARCH_TURN_MAX && is_wanted() {
        reached = reached.max(reader.next_offset()).saturating_add(SEARCH_OFFSETS).min(offsets.end);
        reader.set_to_offset(Some(reached));
        for item in &mut reader {
            if let Item::Frame(stored) = item? {
                return Ok(Search::Found(stored.offset));
            }
        }
    }
    Ok(Search::NoneBelow(reached))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A subscriber's socket, and the subscriber, which has sent `more`.
    async fn pair(more: &[u8]) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut peer, socket) = (peer.unwrap(), accepted.unwrap().0);
        peer.write_all(more).await.unwrap();
        if !more.is_empty() {
            socket.readable().await.unwrap();
        }
        (socket, peer)
    }

    #[tokio::test]
    async fn a_subscriber_that_leaves_is_noticed_even_with_unread_input() {
        for more in [&b""[..], b"PING"] {
            let (socket, peer) = pair(more).await;
            let stays = tokio::time::timeout(2 * GONE_EVERY, gone(&socket)).await;
            assert!(stays.is_err(), "it is still there");
            drop(peer);
            tokio::time::timeout(Duration::from_secs(20), gone(&socket))
                .await
                .expect("the end is not noticed");
        }
    }

    #[test]
    fn a_dropped_search_is_marked_as_unwanted() {
        let wanted = Wanted::default();
        let is_wanted = Arc::clone(&wanted.0);
        assert!(is_wanted.load(Ordering::Relaxed));
        drop(wanted);
        assert!(!is_wanted.load(Ordering::Relaxed));
    }
}
