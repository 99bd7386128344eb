//! The terminal: a screen that is given back in every case, and keys from a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::layout::Size;
use tokio::sync::mpsc;

use crate::top::draw::draw;
use crate::top::model::Model;

/// Keys that wait for the loop; a keyboard that is faster waits.
const KEYS_MAX: usize = 64;
/// How long the thread of the keys may take to see that it is not needed any more.
const KEYS_STOP_MAX: Duration = Duration::from_millis(100);

/// The terminal while it shows the daemon. Dropping it gives it back as it was; a panic does so before it is told.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        // It may have done half of it.
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
        // A terminal that is gone needs nothing.
        let _ = ratatui::try_restore();
    }
}

/// What is typed. The terminal has no way to be waited for along with sockets, so a thread reads it.
pub(super) struct Keys {
    pressed: mpsc::Receiver<io::Result<Option<KeyEvent>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Keys {
    pub(super) fn listen() -> io::Result<Self> {
        let (pressed_tx, pressed) = mpsc::channel(KEYS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Builder::new().name("keys".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || read(&pressed_tx, &stop)
        })?;
        Ok(Self { pressed, stop, reader: Some(reader) })
    }

    /// Waits for the next key; none when something else, as its size, has changed at the terminal. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<KeyEvent>> {
        self.pressed.recv().await.unwrap_or_else(|| Err(io::Error::other("the terminal is gone")))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.pressed.close();
        if let Some(reader) = self.reader.take() {
            // Its panic has been told, and there is nothing left to do for it.
            let _ = reader.join();
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
