//! The thread that writes the lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;

/// How often the thread calls `report` while there is nothing to write.
const TICK: Duration = Duration::from_secs(1);
/// Pause after a write to a full pipe that another process has made non-blocking.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes the lines of `queue` to `out` until the queue is closed. Calls `report` after each write and once a second.
///
/// The thread is never joined, because a write may block as long as the process lives. It ends with the process.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(
    name: &str,
    queue: Arc<Queue>,
    mut out: impl Write + Send + 'static,
    report: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let write = move || {
        while let Some(batch) = queue.next(TICK) {
            if !batch.text.is_empty() {
                let written = write_all(&mut out, &batch.text);
                // If the reader is gone, the lines are lost, and there is no other place to report this.
                queue.wrote(&batch, written.is_err());
            }
            report();
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(write)?;
    Ok(())
}

fn write_all(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};
    use std::time::Instant;

    use super::*;
    use crate::logging::queue::Class;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn logging_does_not_wait_for_a_stalled_reader_and_queued_lines_arrive_later() {
        let (mut reader, pipe) = pipe().unwrap();
        let queue = Arc::new(Queue::new(256 << 10));
        start("test", Arc::clone(&queue), pipe, || {}).unwrap();
        let chatter = format!("{}\n", "x".repeat(999));
        for _ in 0..1_000 {
            queue.push(Class::Chatter, chatter.as_bytes());
        }
        queue.push(Class::Summary, b"the summary\n");
        let dropped = queue.dropped_total();
        assert!(dropped > 700, "{dropped} lines were left out of 1,000 of 1 kB, with 192 kB of room");
        queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count() as u64, 1_001 - dropped);
        assert!(text.ends_with("x\nthe summary\n"));
    }

    #[test]
    fn a_closed_reader_fails_the_next_write() {
        let (reader, pipe) = pipe().unwrap();
        drop(reader);
        let queue = Arc::new(Queue::new(1 << 20));
        start("test", Arc::clone(&queue), pipe, || {}).unwrap();
        queue.push(Class::Notice, b"into nowhere\n");
        queue.wait_written(Instant::now() + LIMIT);
        assert!(queue.has_failed());
        queue.close();
    }

    #[test]
    fn a_non_blocking_descriptor_loses_no_line() {
        let (mut reader, pipe) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let queue = Arc::new(Queue::new(1 << 20));
        start("test", Arc::clone(&queue), pipe, || {}).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..400 {
            queue.push(Class::Notice, line.as_bytes());
        }
        queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.lines().count(), queue.dropped_total()), (400, 0));
    }
}
