//! The cursor of an output: how far its reader has got, kept in a file.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use config::{Config, OutputStart};
use frame::FramePriority;
use support::{plain_file, private};

/// The directory of the cursors, in the data directory.
pub(super) const DIR: &str = "outputs";
/// The file is written at most this often, except at the end of a connection.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// No cursor is longer. Further bytes are not read.
const BYTES_MAX: u64 = 1_024;

/// Where an output goes on after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The reader has everything of the frames below this offset.
    pub(super) next_offset: u64,
    /// The output reads from this offset on. With packets taken out of frames it may be lower than
    /// [`Position::next_offset`]: the lowest offset where a packet begins that ends later.
    pub(super) read_from: u64,
}

impl Position {
    /// A position at which no packet is incomplete.
    pub(super) const fn at(next_offset: u64) -> Self {
        Self { next_offset, read_from: next_offset }
    }
}

/// The content of the file, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// The log that the offsets belong to.
    pub(super) log_id: u64,
    /// [`Position::next_offset`].
    pub(super) next_offset: u64,
    /// [`Position::read_from`].
    pub(super) read_from: u64,
    /// Of a forwarder: the sequence that the other side gave to the last message, 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) sequence: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(sequence: &u64) -> bool {
    *sequence == 0
}

/// Between the name of an output and its lane, in the name of a file. No name of an output contains it.
const LANE_MARK: char = '+';

/// The name of the file of the output `name`. The lanes of a forwarder have a file each.
pub(super) fn file_name(name: &str, lane: Option<FramePriority>) -> String {
    match lane {
        Some(FramePriority::Emergency) => format!("{name}{LANE_MARK}emergency"),
        Some(FramePriority::Routine) | None => name.to_owned(),
    }
}

/// The file of a cursor cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cursor in {} is unreadable: {why}; put the file back, or remove it to begin with the oldest frame",
    path.display()
)]
pub(super) struct CursorError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    why: String,
}

/// The file of a cursor.
#[derive(Clone, Debug)]
pub(super) struct CursorFile {
    /// The file with the cursor.
    path: PathBuf,
    /// What is written here becomes the file. The name of an output cannot begin with a dot.
    new: PathBuf,
}

impl CursorFile {
    /// The file `name` in `dir`, see [`file_name`].
    pub(super) fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(name), new: dir.join(format!(".{name}.new")) }
    }

    /// The file, for a message.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads the file; `None` if there is none.
    pub(super) fn load(&self) -> Result<Option<Cursor>, CursorError> {
        let unreadable = |why: String| CursorError { path: self.path.clone(), why };
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let cursor: Cursor = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if cursor.read_from > cursor.next_offset {
            return Err(unreadable("read_from is above next_offset".to_owned()));
        }
        Ok(Some(cursor))
    }

    fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        plain_file::open(&self.path)?.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Replaces the file. After a crash it holds this cursor or the one before.
    pub(super) fn save(&self, cursor: &Cursor) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        private::create_dir_all(dir, private::DIR_MODE)?;
        let mut text = serde_json::to_string(cursor).map_err(io::Error::other)?;
        text.push('\n');
        let mut file = plain_file::create(&mut private::create_file(), &self.new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&self.new, &self.path)?;
        File::open(dir)?.sync_all()
    }
}

/// One line for each cursor in the data directory of `config` that no output uses. A cursor outlives its output, so
/// that the output goes on when it comes back.
#[must_use]
pub fn unused_cursors(config: &Config) -> Vec<String> {
    let dir = config.data_dir.join(DIR);
    let is_used = |file: &str| {
        let name = file.split(LANE_MARK).next().unwrap_or(file);
        config.outputs.iter().any(|output| output.name == name && output.start == OutputStart::Cursor)
    };
    // Without the directory there are no cursors. An output reports a directory that is unreadable.
    let files = fs::read_dir(&dir).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut unused: Vec<_> = names.filter(|name| !name.starts_with('.') && !is_used(name)).collect();
    unused.sort();
    let line = |name: &String| {
        let file = dir.join(name);
        format!(
            "the cursor of output {name} is kept, but no output of that name has start = \"cursor\"; remove {} unless \
             the output comes back",
            file.display()
        )
    };
    unused.iter().map(line).collect()
}

/// Saves the cursor of a running output.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Where the cursor is saved.
    file: CursorFile,
    /// The log that the positions belong to.
    log_id: u64,
    /// [`Cursor::sequence`] at [`Self::position`].
    sequence: u64,
    /// Where the reader is.
    position: Position,
    /// The position in the file; `None` before the first save.
    saved: Option<Position>,
    /// A save that is under way, with its position. There is at most one.
    saving: Option<(Position, JoinHandle<io::Result<()>>)>,
    /// When the next save may begin.
    next_at: Instant,
}

impl Keeper {
    /// Saves to `file`, from `position` on, which is not saved yet.
    pub(super) fn new(file: CursorFile, log_id: u64, position: Position) -> Self {
        Self { file, log_id, sequence: 0, position, saved: None, saving: None, next_at: Instant::now() }
    }

    /// The reader has come to `position`.
    pub(super) fn moved_to(&mut self, position: Position) {
        self.position = position;
    }

    /// The other side of a forwarder gave this sequence to its last message.
    pub(super) const fn stored_at(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// When [`Keeper::act`] has to be called. Between two calls at least [`SAVE_EVERY`] passes.
    pub(super) const fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Starts to save, if that is due.
    pub(super) fn act(&mut self, now: Instant) {
        if now < self.next_at {
            return;
        }
        self.next_at = now + SAVE_EVERY;
        if self.saving.is_none() && self.saved != Some(self.position) {
            let saving = self.save();
            self.saving = Some((self.position, saving));
        }
    }

    fn save(&self) -> JoinHandle<io::Result<()>> {
        let Position { next_offset, read_from } = self.position;
        let cursor = Cursor { log_id: self.log_id, next_offset, read_from, sequence: self.sequence };
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || file.save(&cursor))
    }

    /// Waits until the file is written.
    ///
    /// # Errors
    /// When it cannot be written. A later call of [`Keeper::act`] tries again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn saved(&mut self) -> io::Result<()> {
        let Some((position, saving)) = &mut self.saving else { return std::future::pending().await };
        let (position, saved) = (*position, saving.await);
        self.saving = None;
        saved.map_err(io::Error::other)??;
        self.saved = Some(position);
        Ok(())
    }

    /// Saves the last position.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if self.saving.is_some() {
            // The save that follows reports what prevents it.
            let _ = self.saved().await;
        }
        if self.saved == Some(self.position) {
            return Ok(());
        }
        self.save().await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = CursorFile::new(&dir.path().join("outputs"), "yamcs");
        assert_eq!(file.load().unwrap(), None);
        for next_offset in [7, u64::MAX] {
            let cursor = Cursor { log_id: u64::MAX - 1, next_offset, read_from: 5, sequence: 0 };
            file.save(&cursor).unwrap();
            assert_eq!(file.load().unwrap(), Some(cursor));
        }
        let names: Vec<_> = fs::read_dir(dir.path().join("outputs")).unwrap().collect();
        assert_eq!(names.len(), 1, "what was written aside has become the file: {names:?}");
    }

    #[test]
    fn an_unreadable_cursor_names_the_file_and_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = CursorFile::new(dir.path(), "yamcs");
        for text in [
            "",
            "5",
            "{\"log_id\": 1, \"next_offset\": 2}",
            "{\"log_id\": 1, \"next_offset\": 2, \"read_from\": 3}",
            "{\"log_id\": 1, \"next_offset\": 2, \"read_from\": 2, \"more\": 0}",
        ] {
            fs::write(dir.path().join("yamcs"), text).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(
                error.contains("/yamcs is unreadable: ") && error.contains("remove it to begin"),
                "{error}"
            );
        }
    }

    #[test]
    fn cursors_that_no_output_uses_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        assert_eq!(unused_cursors(&config), Vec::<String>::new(), "there is no directory yet");
        let output = |name: &str, start| {
            let text = format!(
                "[[outputs]]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\nclients = 1\nstart = \"{start}\"\n"
            );
            let file = dir.path().join("aggregator.toml");
            fs::write(&file, text).unwrap();
            Config::load(Some(&file), std::iter::empty()).unwrap().config.outputs.remove(0)
        };
        config.outputs = vec![output("used", "cursor"), output("live", "live")];
        for name in ["used", "live", "gone"] {
            let cursor = Cursor { log_id: 1, next_offset: 2, read_from: 2, sequence: 0 };
            CursorFile::new(&dir.path().join(DIR), name).save(&cursor).unwrap();
        }
        fs::write(dir.path().join(DIR).join(".used.new"), "").unwrap();
        let [gone, live] = &unused_cursors(&config)[..] else { panic!("two cursors are unused") };
        assert!(
            gone.starts_with("the cursor of output gone is kept") && gone.contains("/outputs/gone "),
            "{gone}"
        );
        assert!(live.starts_with("the cursor of output live is kept"), "{live}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_moving_cursor_is_saved_once_a_second_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = CursorFile::new(dir.path(), "yamcs");
        let saved = || file.load().unwrap().map(|cursor| cursor.next_offset);
        let mut keeper = Keeper::new(file.clone(), 1, Position::at(0));
        keeper.act(Instant::now());
        keeper.saved().await.unwrap();
        assert_eq!(saved(), Some(0));
        keeper.moved_to(Position::at(10));
        keeper.act(Instant::now());
        assert!(keeper.saving.is_none(), "less than a second has passed");
        tokio::time::advance(SAVE_EVERY).await;
        keeper.act(Instant::now());
        keeper.moved_to(Position::at(11));
        keeper.saved().await.unwrap();
        assert_eq!(saved(), Some(10));
        keeper.finish().await.unwrap();
        assert_eq!(saved(), Some(11));
    }
}
