//! The terminal: a screen that is always restored, and keys that a separate thread reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::layout::Size;
use tokio::sync::mpsc;

use top::draw::draw;
use top::model::Model;

/// At most this many keys wait for the loop. Then the thread of the keys waits.
const KEYS_MAX: usize = 64;
/// How long the thread of the keys may take to notice that it must stop.
const KEYS_STOP_MAX: Duration = Duration::from_millis(100);

/// The terminal while it shows the daemon. Dropping it restores the terminal. A panic restores it before the message is
/// printed.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        // The setup may have done a part of its work before it failed.
        ratatui::try_init().map(Self).inspect_err(|_| drop(ratatui::try_restore()))
    }

    pub(super) fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.0.draw(|frame| draw(model, frame.area(), frame.buffer_mut())).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        // If the terminal is gone, there is nothing to restore.
        let _ = ratatui::try_restore();
    }
}

/// The pressed keys. A thread reads them, because the terminal cannot be polled together with sockets.
pub(super) struct Keys {
    /// The keys in order; `None` for another event, such as a new size. An error is the last item.
    pressed: mpsc::Receiver<io::Result<Option<KeyEvent>>>,
    /// Tells the thread to end; it looks at least every [`KEYS_STOP_MAX`].
    stop: Arc<AtomicBool>,
    /// The thread.
    reader: JoinHandle<()>,
}

impl Keys {
    pub(super) fn listen() -> io::Result<Self> {
        let (pressed_tx, pressed) = mpsc::channel(KEYS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Builder::new().name("keys".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || read(&pressed_tx, &stop)
        })?;
        Ok(Self { pressed, stop, reader })
    }

    /// Waits for the next key. `None` if something else has changed at the terminal, such as its size. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<KeyEvent>> {
        self.pressed.recv().await.unwrap_or_else(|| Err(io::Error::other("the terminal is gone")))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.pressed.close();
        // crossterm reads a terminal that is gone again and again, without an end. Then the thread ends with the process.
        let deadline = Instant::now() + 2 * KEYS_STOP_MAX;
        while !self.reader.is_finished() && Instant::now() < deadline {
            sleep(KEYS_STOP_MAX / 20);
        }
    }
}

fn read(pressed_tx: &mpsc::Sender<io::Result<Option<KeyEvent>>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let happened = match event::poll(KEYS_STOP_MAX) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let is_over = happened.is_err();
        let key = happened.map(|event| match event {
            Event::Key(key) => Some(key),
            _ => None,
        });
        if pressed_tx.blocking_send(key).is_err() || is_over {
            return;
        }
    }
}
