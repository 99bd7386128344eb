//! Tests of the crate through its public interface.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

mod cancel;
mod lanes;
mod matching;
mod model;
mod relations;
mod supervision;

/// Makes a test fail instead of hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result of `future`. Fails if `future` became ready only because a timeout polled it again.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let output = timeout(PATIENCE, future).await.expect("nothing happened");
    assert!(start.elapsed() < PATIENCE, "no task was woken");
    output
}

fn capacity(urgent: usize, routine: usize) -> Capacity {
    Capacity { urgent, routine }
}

fn message<M: std::fmt::Debug>(received: Option<Received<M>>) -> M {
    match received {
        Some(Received::Message(message)) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

fn down<M: std::fmt::Debug>(received: Option<Received<M>>) -> Down {
    match received {
        Some(Received::Down(down)) => down,
        other => panic!("expected a down, got {other:?}"),
    }
}

fn exit<M: std::fmt::Debug>(received: Option<Received<M>>) -> Exit {
    match received {
        Some(Received::Exit(exit)) => exit,
        other => panic!("expected an exit, got {other:?}"),
    }
}

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.into())
}

/// An actor that ends with the outcome that it receives.
fn puppet() -> (Address<Result<(), &'static str>>, ActorHandle) {
    spawn("puppet", capacity(1, 1), |mut mailbox: Mailbox<Result<(), &'static str>>| async move {
        message(mailbox.recv().await)
    })
}
