//! What commands write to stdout and stderr. The reader may be gone (`| head`), and a disk may be full.

use std::fmt::Display;
use std::io::{self, ErrorKind, Stdout, Write};

/// Writes a line to stderr with one call. An error is ignored, because there is no other place to report it.
pub fn note(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes `text` to stdout, for a command whose result is its output. A reader that is gone is no error.
///
/// # Errors
/// Other errors of stdout, such as a full disk.
pub fn print(text: impl Display) -> io::Result<()> {
    match io::stdout().write_all(text.to_string().as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The report of a command that does more than to write it. The exit code says what the command did.
///
/// A write never fails: after the first error the rest of the report is dropped. The error goes to stderr, unless the
/// reader is gone.
#[derive(Debug)]
pub struct Report<W>(Option<W>);

impl Report<Stdout> {
    /// The report on stdout.
    #[must_use]
    pub fn on_stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write> Report<W> {
    /// A report that `out` receives.
    pub const fn new(out: W) -> Self {
        Self(Some(out))
    }

    /// Adds `text` with one write.
    pub fn print(&mut self, text: impl Display) {
        self.attempt(|out| out.write_all(text.to_string().as_bytes()));
    }

    fn attempt(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) {
        let Some(Err(error)) = self.0.as_mut().map(write) else { return };
        self.0 = None;
        if error.kind() != ErrorKind::BrokenPipe {
            note(format_args!("cannot write the report: {error}"));
        }
    }
}

impl<W: Write> Write for Report<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|out| out.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(W::flush);
        Ok(())
    }
}
