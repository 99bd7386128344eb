//! The lines that a process writes to a pipe.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LIMIT;

/// The lines of a pipe. A thread collects them until the pipe closes.
pub struct Lines {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    is_closed: bool,
}

impl Lines {
    /// Collects the lines of `pipe` from this call on.
    pub fn read(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let reader = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.fill(pipe)
        });
        Self { shared, reader: Some(reader) }
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// The number of lines so far.
    pub fn count(&self) -> usize {
        self.shared.lock().lines.len()
    }

    /// Waits until `find` finds something in the lines, and returns that. Panics after [`LIMIT`], and when the pipe closes
    /// before.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        self.wait_within(LIMIT, what, find)
    }

    /// Like [`Self::wait`], for `within` at most.
    #[track_caller]
    pub fn wait_within<T>(&self, within: Duration, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let state = self.shared.wait(within, |state| state.is_closed || find(&state.lines).is_some());
        find(&state.lines).unwrap_or_else(|| panic!("waiting for {what}, but: {:#?}", state.lines))
    }

    /// Waits for a line that contains `text`. Returns the first such line.
    #[track_caller]
    pub fn wait_line(&self, text: &str) -> String {
        self.wait_line_within(text, LIMIT)
    }

    /// Like [`Self::wait_line`], for `within` at most.
    #[track_caller]
    pub fn wait_line_within(&self, text: &str, within: Duration) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.wait_within(within, &format!("a line with {text:?}"), find)
    }

    /// Waits until the pipe is closed, for `within` at most. Returns whether it is closed.
    pub fn wait_closed(&self, within: Duration) -> bool {
        self.shared.wait(within, |state| state.is_closed).is_closed
    }

    /// Waits until the pipe is closed, however long that takes. Returns all lines.
    pub fn read_to_end(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the lines panicked");
        }
        self.all()
    }
}

impl Shared {
    fn fill(&self, pipe: impl Read) {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            self.lock().lines.push(line);
            self.changed.notify_all();
        }
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until `is_done`, for `within` at most.
    fn wait(&self, within: Duration, is_done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), within, |state| !is_done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic of a test that held the lines, the drop of its daemon must still be able to show them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
