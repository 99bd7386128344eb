//! How a session ends, and which messages its client gets last.

use std::sync::Arc;

use bytes::BytesMut;
use tls::Socket;
use tokio::time::Instant;

use super::{Ended, Session, Settling};
use crate::StreamState;
use connection::SessionId;
use connection::closing::{say, say_error};
use frame::{Lanes, Origin};
use support::logging::{Kind, by_peer};
use wire::{Bye, ErrorCode, WireError};

impl Session {
    /// Releases the stream for a successor, then writes the last messages, which may take a while.
    pub(super) async fn close(mut self, served: Result<Settling, Ended>) -> Result<(), Ended> {
        self.note_durable();
        let Self {
            mut socket, mut opened, outbox, mut intake, input, context, session_id, durable_next, ..
        } = self;
        let known =
            outbox.finish(durable_next, opened.stream.queue.queued_cost(), &mut intake, Instant::now());
        let origin = Arc::clone(&opened.origin);
        opened.ended = Some(state_after(&served, intake.said_bye().is_some()));
        drop(opened);
        let ended = match served {
            Ok(Settling::Bye) => {
                note_bye(session_id, &origin, intake.said_bye().unwrap_or_default(), intake.accepted_next());
                say_bye(&mut socket, known, durable_next).await;
                return Ok(());
            }
            Ok(Settling::Eof) => {
                say(&mut socket, known).await;
                return Err(Ended::Eof);
            }
            Ok(Settling::Drained) => WireError::new(
                ErrorCode::Draining,
                "the daemon has drained: all acknowledged frames are kept",
            ),
            Err(Ended::Error(error)) => error,
            Err(lost) => return Err(lost),
        };
        if ended.code == ErrorCode::TakenOver {
            // The successor already has the slot. The permits of parting connections bound what this
            // connection still holds.
            drop((input, intake));
            context.entrance.part(&mut socket, known, &ended).await;
        } else {
            say_error(&mut socket, known, &ended).await;
        }
        Err(ended.into())
    }
}

/// The state of the stream after a session that ended with `served`.
fn state_after(served: &Result<Settling, Ended>, said_bye: bool) -> StreamState {
    match served {
        Err(Ended::Error(error)) if error.code == ErrorCode::Removed => StreamState::Removed,
        _ if said_bye => StreamState::Ended,
        // The daemon ends, not the source.
        Ok(Settling::Drained) => StreamState::Offline,
        Err(Ended::Error(error)) if error.code == ErrorCode::Draining => StreamState::Offline,
        Ok(Settling::Bye) => StreamState::Ended,
        Ok(Settling::Eof) | Err(_) => StreamState::Lost,
    }
}

/// Logs the end of a feed, and whether BYE names the positions that the daemon has.
fn note_bye(session: SessionId, origin: &Origin, said: Bye, accepted_next: Lanes<u64>) {
    let stream = &origin.stream;
    if said.next == accepted_next {
        let Lanes { emergency, routine } = accepted_next;
        by_peer!(Kind::Complete, INFO, session, %stream, emergency, routine, "feed complete");
    } else {
        by_peer!(
            Kind::Complete, WARN,
            session, %stream,
            emergency = accepted_next.emergency, routine = accepted_next.routine,
            bye_emergency = said.next.emergency, bye_routine = said.next.routine,
            "feed complete, but its BYE names other positions"
        );
    }
}

/// Writes `known`, then BYE with the durable positions, and closes.
async fn say_bye(socket: &mut Socket, mut known: BytesMut, durable_next: Lanes<u64>) {
    Bye { next: durable_next }.encode(&mut known);
    say(socket, known).await;
}
