//! A supervised actor that adds numbers. It panics at one message, is restarted, and keeps its mailbox.
//!
//! ```sh
//! cargo run -p actor --example counter
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actor::{Capacity, ExitReason, Mailbox, Received, Reply, Restart, supervise};

/// The messages of the actor.
enum Message {
    Add(u64),
    /// Asks for the sum.
    Sum(Reply<u64>),
}

/// What the example shows.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// The sum of the numbers that the actor has added.
    sum: u64,
    /// How often the supervisor has restarted the actor.
    restarts: u64,
    /// Why the actor ended.
    reason: ExitReason,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the output of the program")]
async fn main() -> Result<(), Box<dyn Error>> {
    let shown = run().await?;
    println!("sum {}, restarts {}, end: {}", shown.sum, shown.restarts, shown.reason);
    Ok(())
}

/// Sends 1, 2, a number that makes the actor panic, and 3.
async fn run() -> Result<Shown, Box<dyn Error>> {
    // What must survive a restart is outside of the body.
    let sum = Arc::new(AtomicU64::new(0));
    let restart = Restart { max: 3, within: Duration::from_secs(10) };
    let capacity = Capacity { urgent: 1, routine: 16 };
    let (address, handle) = supervise("counter", restart, capacity, move |mailbox| {
        let sum = Arc::clone(&sum);
        async move { count(mailbox, &sum).await }
    });
    for number in [1, 2, u64::MAX, 3] {
        address.send(Message::Add(number)).await?;
    }
    let sum = address.call(Duration::from_secs(5), Message::Sum).await?;
    let restarts = handle.restarts();
    // The actor ends when its last address is dropped. The owner of the handle waits for the end.
    drop(address);
    Ok(Shown { sum, restarts, reason: handle.join().await })
}

/// The body of the actor. The supervisor runs it again after a panic.
async fn count(mut mailbox: Mailbox<Message>, sum: &AtomicU64) {
    while let Some(Received::Message(message)) = mailbox.recv().await {
        match message {
            Message::Add(number) => {
                assert_ne!(number, u64::MAX, "this number is not allowed");
                sum.fetch_add(number, Relaxed);
            }
            // A caller that has given up needs no answer.
            Message::Sum(reply) => drop(reply.send(sum.load(Relaxed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_loses_one_message_and_no_other() {
        let shown = run().await.expect("the actor answers");
        assert_eq!(shown, Shown { sum: 6, restarts: 1, reason: ExitReason::Normal });
    }
}
