//! Writes log lines to stderr.
//!
//! stderr may be a pipe whose reader does not read: a terminal after Ctrl-S, `less`, a log driver that hangs. A part
//! that logs must not wait for that reader. So lines go into a `Queue` of bounded size, and one thread writes them. The
//! writes block, because other processes share stderr, and `O_NONBLOCK` would change it for all of them.
//!
//! While the queue is full, lines are dropped and counted. Each `Class` of lines has its own limit. So lines that peers
//! cause leave room for errors, and errors leave room for the summary of the drain. `by_peer!` limits the rate of lines
//! that a peer can cause.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

mod peers;
mod queue;
mod writer;

pub use peers::Kind;
pub use peers::by_peer;
pub use queue::SUMMARY;
use queue::{Class, Queue};

/// Upper bound in bytes of the lines that wait for stderr.
const STDERR_BYTES: usize = 1 << 20;
/// Upper bound in bytes of the lines that wait for stdout.
const STDOUT_BYTES: usize = 64 << 10;
/// Upper bound in bytes of the memory of all waiting lines.
pub const LOG_BYTES: u64 = (STDERR_BYTES + STDOUT_BYTES) as u64;

/// The queue for stderr. It is set when the log of the process uses it.
static STDERR: OnceLock<Arc<Queue>> = OnceLock::new();

/// Creates writers that put each log line into the queue for stderr.
#[derive(Clone, Debug)]
pub struct Stderr {
    queue: Arc<Queue>,
    /// Whether stderr is a terminal.
    pub is_terminal: bool,
}

impl Stderr {
    /// Starts the thread that writes the lines.
    ///
    /// # Errors
    /// The system has no descriptor or no thread left.
    pub fn start() -> io::Result<Self> {
        let stderr = io::stderr();
        let queue = Arc::new(Queue::new(STDERR_BYTES));
        writer::start("log", Arc::clone(&queue), own(&stderr)?, report)?;
        Ok(Self { queue, is_terminal: stderr.is_terminal() })
    }

    /// Routes the log, panics and failed commands of the whole process through this queue.
    pub fn install(&self) {
        if STDERR.set(Arc::clone(&self.queue)).is_ok() {
            std::panic::set_hook(Box::new(note_panic));
        }
    }
}

/// A writer for one line of one class.
#[derive(Debug)]
pub struct Line<'a> {
    queue: &'a Queue,
    class: Class,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue, class: Class::Notice }
    }

    fn make_writer_for(&'a self, line: &tracing::Metadata<'_>) -> Line<'a> {
        Line { queue: &self.queue, class: Class::of(line) }
    }
}

impl Write for Line<'_> {
    /// Queues `line` as a whole, or counts it as dropped. The subscriber writes each line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(self.class, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines to stdout without waiting for the reader. Lines that do not fit are dropped.
#[derive(Debug)]
pub struct Stdout(Arc<Queue>);

impl Stdout {
    /// Starts the thread that writes the lines.
    ///
    /// # Errors
    /// The system has no descriptor or no thread left.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(Queue::new(STDOUT_BYTES));
        writer::start("status line", Arc::clone(&queue), own(&io::stdout())?, || {})?;
        Ok(Self(queue))
    }
}

impl Write for Stdout {
    /// Queues `line` as a whole. Fails when the reader is gone.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.has_failed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.push(Class::Summary, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Duplicates the descriptor of the open file. The lock of the standard library's handle must not be held while a write
/// blocks.
fn own(stream: &impl AsFd) -> io::Result<std::fs::File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Puts `line` into the queue for stderr. `false` if the log of this process does not use the queue.
#[must_use]
pub fn say(line: &str) -> bool {
    let Some(queue) = STDERR.get() else { return false };
    queue.push(Class::Summary, format!("{line}\n").as_bytes());
    true
}

/// Waits at most `within` until all lines are written.
pub fn flush(within: Duration) {
    let Some(queue) = STDERR.get() else { return };
    let until = Instant::now() + within;
    peers::report_all();
    report_dropped(queue);
    queue.wait_written(until);
}

/// Counts of lines that are missing in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The queue was full, because stderr was not read.
    pub queue_full: u64,
    /// Peers caused more lines of one kind than the limit.
    pub rate: u64,
}

/// Lines dropped since the start of the process.
#[must_use]
pub fn left_out() -> LeftOut {
    LeftOut { queue_full: STDERR.get().map_or(0, |queue| queue.dropped_total()), rate: peers::left_out() }
}

/// Logs how many lines were dropped, when there is room. The writing thread calls this once a second and between
/// writes.
fn report() {
    peers::report();
    if let Some(queue) = STDERR.get().filter(|queue| queue.has_room()) {
        report_dropped(queue);
    }
}

fn report_dropped(queue: &Queue) {
    let lines = queue.take_dropped();
    if lines > 0 {
        tracing::warn!(target: SUMMARY, lines, "lines of the log were left out, because stderr was not read in time");
    }
}

fn note_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    let has_backtrace = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name(),
        at = panic.location().map(tracing::field::display),
        backtrace = has_backtrace.then(|| tracing::field::display(&backtrace)),
        "panic: {}",
        panic.payload_as_str().unwrap_or("without a message")
    );
}
