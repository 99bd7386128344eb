//! From the first byte to SUBSCRIBED: who is there, may they listen, and where do they begin.

use std::sync::Arc;

use super::*;
use crate::archive::{Filter, Item};
use crate::wire::{Start, Subscribe, Subscribed, VERSION};

/// Reads SUBSCRIBE and judges it in the order version, token, sources, limits, position.
pub(super) async fn greet(
    socket: &TcpStream,
    input: &mut BytesMut,
    mailbox: &mut Mailbox<Stop>,
    context: &Arc<Context>,
) -> Result<Subscription, Ended> {
    let subscribe = await_subscribe(socket, input, mailbox, context).await?;
    let selection = context.credentials.narrow(&subscribe.token, subscribe.selection.clone())?;
    let place = context.take_place()?;
    let (follower, head_offset) = context.tail.subscribe(|| context.history.watermark());
    let start_offset = start_offset(context, subscribe.start, head_offset).await?;
    let mut greeting = BytesMut::new();
    let heartbeat = context.config.heartbeat;
    Subscribed {
        version: VERSION,
        heartbeat_s: u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX),
        max_message_bytes: u32::try_from(context.config.message_bytes_max).unwrap_or(u32::MAX),
        log_id: context.history.log_id(),
        start_offset,
        head_offset,
    }
    .encode(&mut greeting);
    Ok(Subscription {
        policy: subscribe.policy,
        selection,
        next_offset: start_offset,
        has_caught_up: false,
        follower,
        heartbeat,
        greeting,
        _place: place,
    })
}

async fn await_subscribe(
    socket: &TcpStream,
    input: &mut BytesMut,
    mailbox: &mut Mailbox<Stop>,
    context: &Context,
) -> Result<Subscribe, Ended> {
    let limit = context.config.subscribe_timeout;
    let mut ending = context.ending.clone();
    tokio::select! {
        subscribe = tokio::time::timeout(limit, read_subscribe(socket, input)) => subscribe.unwrap_or_else(|_| {
            let text = format!("no complete SUBSCRIBE within {limit:?}");
            Err(WireError::new(ErrorCode::Idle, text).into())
        }),
        order = mailbox.recv() => match order {
            Some(Received::Message(Stop(error))) => Err(error.into()),
            _ => Err(draining().into()),
        },
        _ = ending.wait_for(|ending| *ending != Ending::NotYet) => Err(draining().into()),
    }
}

fn draining() -> WireError {
    WireError::new(ErrorCode::Draining, "the daemon is draining")
}

async fn read_subscribe(socket: &TcpStream, input: &mut BytesMut) -> Result<Subscribe, Ended> {
    loop {
        if let Some(body) = next_body(input, HANDSHAKE_BODY_BYTES_MAX)? {
            return Ok(Subscribe::decode(&body)?);
        }
        socket.readable().await?;
        input.reserve(READ_BYTES);
        match socket.try_read_buf(input) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The offset a subscription begins with.
async fn start_offset(context: &Context, start: Start, head: u64) -> Result<u64, Ended> {
    let history = &context.history;
    match start {
        Start::Live => Ok(head),
        Start::Earliest => Ok(history.first_offset()),
        Start::Offset { log_id, .. } if log_id != 0 && log_id != history.log_id() => {
            let ours = history.log_id();
            Err(WireError::protocol(format!("log {log_id} is not this one, which is {ours}")).into())
        }
        Start::Offset { offset, .. } if offset > head => {
            let text = format!("offset {offset} is above the head, which is {head}");
            Err(WireError::protocol(text).with_detail(head).into())
        }
        Start::Offset { offset, .. } => Ok(offset),
        Start::Received { from_ns } => received_from(context, from_ns, head).await,
    }
}

/// The lowest offset received at `from_ns` or later; `head` without one.
async fn received_from(context: &Context, from_ns: i64, head: u64) -> Result<u64, Ended> {
    let _turn = context.readers.acquire().await;
    let history = context.history.clone();
    let filter = Filter {
        from_offset: history.first_offset(),
        to_offset: Some(head),
        from_received_ns: Some(from_ns),
        limit: Some(1),
        ..Filter::default()
    };
    let search = tokio::task::spawn_blocking(move || {
        let mut reader = history.read(filter)?;
        let found = reader.find_map(|item| match item {
            Ok(Item::Frame(stored)) => Some(Ok(stored.offset)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        found.transpose()
    });
    match search.await {
        Ok(Ok(found)) => Ok(found.unwrap_or(head)),
        Ok(Err(error)) => {
            tracing::error!(%error, "the start of a subscription cannot be found");
            Err(WireError::new(ErrorCode::StorageFailed, "the archive cannot be read").into())
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(draining().into()),
        },
    }
}
