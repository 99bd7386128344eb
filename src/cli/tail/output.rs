//! Writes frames to stdout on its own thread, because stdout may block.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use tokio::task::{JoinHandle, spawn_blocking};

use super::Format;
use archive::{StoredFrame, line::Line};
use tools::tail::Position;
use wire::Deliver;

/// At most this many bytes are collected while the thread writes. The last frame may exceed the limit.
const GATHERED_BYTES_MAX: usize = 256 << 10;

/// Writes frames in order. While the thread writes one piece, the next piece is collected. So few frames are flushed at
/// once, and many frames are written in large pieces.
pub(super) struct Output<W> {
    /// How a frame is written.
    format: Format,
    /// Frames in that format that no write has taken yet.
    gathered: Vec<u8>,
    /// The writer and an empty buffer. `None` while a piece is being written.
    idle: Option<(W, Vec<u8>)>,
    /// The running write.
    writing: Option<Writing<W>>,
    /// The position behind everything that was written, once there is one.
    written: Option<Position>,
}

/// A running write.
struct Writing<W> {
    /// Returns the result, the writer, and the empty buffer for the next piece.
    thread: JoinHandle<(io::Result<()>, W, Vec<u8>)>,
    /// The position behind the piece being written.
    position: Option<Position>,
}

impl<W: Write + Send + 'static> Output<W> {
    pub(super) fn new(to: W, format: Format) -> Self {
        Self { format, gathered: Vec::new(), idle: Some((to, Vec::new())), writing: None, written: None }
    }

    /// Sets the position of the first frame. Nothing below it will be written.
    pub(super) fn starts_at(&mut self, position: Option<Position>) {
        self.written = self.written.or(position);
    }

    /// Adds a frame, even if the buffer is full.
    pub(super) fn put(&mut self, Deliver { offset, frame }: Deliver) -> io::Result<()> {
        let stored = StoredFrame { offset, frame };
        match self.format {
            Format::Jsonl => Line::of(&stored).write_json(&mut self.gathered),
            Format::Payload => self.gathered.write_all(&stored.frame.payload),
            Format::Text => write_text(&mut self.gathered, &stored),
        }
    }

    /// Whether the caller should wait for a write before it adds more frames.
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= GATHERED_BYTES_MAX
    }

    /// Begins to write the collected frames, unless a write is running. `position` is the position behind them.
    pub(super) fn begin(&mut self, position: Option<Position>) {
        let Some((mut to, empty)) = self.idle.take() else { return };
        if self.gathered.is_empty() {
            self.idle = Some((to, empty));
            self.written = position;
            return;
        }
        let mut piece = std::mem::replace(&mut self.gathered, empty);
        let thread = spawn_blocking(move || {
            let result = to.write_all(&piece).and_then(|()| to.flush());
            piece.clear();
            (result, to, piece)
        });
        self.writing = Some(Writing { thread, position });
    }

    /// Waits until the running write ends. Waits forever if there is none. Cancel safe.
    pub(super) async fn wrote(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let joined = (&mut writing.thread).await;
        let position = self.writing.take().and_then(|writing| writing.position);
        let (result, to, empty) = joined.map_err(io::Error::other)?;
        self.idle = Some((to, empty));
        result.inspect(|()| self.written = position)
    }

    /// Writes all remaining frames.
    pub(super) async fn finish(&mut self, position: Option<Position>) -> io::Result<()> {
        loop {
            self.begin(position);
            if self.writing.is_none() {
                return Ok(());
            }
            self.wrote().await?;
        }
    }

    /// The position behind everything that was written.
    pub(super) const fn written(&self) -> Option<Position> {
        self.written
    }
}

/// Writes a line like `17 2026-08-01T12:00:00.500Z live/7@Kiruna routine epoch 3 sequence 9: 256 bytes`.
fn write_text(out: &mut impl Write, StoredFrame { offset, frame }: &StoredFrame) -> io::Result<()> {
    let received = UNIX_EPOCH + Duration::from_nanos(frame.received_ns.max(0).unsigned_abs());
    let time = humantime::format_rfc3339_millis(received);
    let (stream, epoch) = (&frame.origin.stream, frame.origin.epoch);
    let (lane, sequence, bytes) = (frame.priority, frame.sequence, frame.payload.len());
    writeln!(out, "{offset} {time} {stream} {lane} epoch {epoch} sequence {sequence}: {bytes} bytes")
}
