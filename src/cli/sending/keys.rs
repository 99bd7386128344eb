//! Keys on the terminal that pause a replay.

use std::io::{IsTerminal, Stdin, stdin};

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes read at a time. The terminal delivers lines.
const LINE_BYTES_MAX: usize = 256;

/// Waits for Enter, or p and Enter. It holds the terminal; without one, and from the first failure on, it waits
/// forever, because the signals still pause the run.
pub(crate) struct Keys(Option<AsyncFd<Stdin>>);

impl Keys {
    /// Does not listen, for a run that reads its data from stdin.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Listens to stdin if it is a terminal.
    #[allow(
        deprecated,
        reason = "its successor is unsafe; the handle of stdin keeps its descriptor open for good"
    )]
    pub(crate) fn of_terminal() -> Self {
        if !stdin().is_terminal() {
            return Self(None);
        }
        Self(AsyncFd::with_interest(stdin(), Interest::READABLE).ok())
    }

    /// Waits for the next line that is empty or `p`. Cancel safe.
    pub(crate) async fn pressed(&mut self) {
        loop {
            let Some(terminal) = &self.0 else {
                return std::future::pending().await;
            };
            let Ok(mut ready) = terminal.readable().await else {
                self.0 = None;
                continue;
            };
            // Input that is typed while another job is in the foreground belongs to that job, and reading it would stop
            // this process. The input stays readable until that job reads it, so waiting again would be a busy loop: the
            // keys are off for good.
            if tcgetpgrp(terminal.get_ref()).is_ok_and(|group| group != getpgrp()) {
                drop(ready);
                self.0 = None;
                continue;
            }
            let mut line = [0; LINE_BYTES_MAX];
            // The terminal delivers whole lines, so this does not block. The next wait is for another line.
            let read = rustix::io::read(terminal.get_ref(), &mut line);
            ready.clear_ready();
            match read {
                Ok(0) | Err(_) => {
                    drop(ready);
                    self.0 = None;
                }
                Ok(count) if matches!(line[..count].trim_ascii(), b"" | b"p") => return,
                Ok(_) => {}
            }
        }
    }
}
