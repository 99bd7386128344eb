//! A library in C that the daemon preloads: its wall clock can step, and its disk can stall and fail.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::NamedTempFile;

use crate::support::wait_until;

/// A field of the control file, in the order of `shim.c`.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// Nanoseconds that are added to the wall clock.
    ClockOffsetNs,
    /// While not 0, no sync of a segment ends.
    HoldSyncs,
    /// Microseconds that each sync of a segment takes longer.
    SyncDelayUs,
    /// While not 0, each sync of a segment fails with this error.
    SyncErrno,
    /// While not 0, each write to a segment fails with this error.
    WriteErrno,
    /// While not 0, no write to a segment ends.
    HoldWrites,
    /// While not 0, the journal records writes and syncs.
    Journal,
    /// While not 0, syncs of segments succeed and do nothing.
    Lie,
    /// Syncs and writes that were held or delayed so far.
    Held,
    /// Syncs and writes that failed so far.
    Failed,
}

const FIELDS: usize = Field::Failed as usize + 1;

/// The control file of one scene.
pub struct Shim {
    library: &'static Path,
    control: NamedTempFile,
    /// The writes to the log with the bytes that they replace, and the syncs.
    pub journal: NamedTempFile,
}

impl Shim {
    /// Builds the library if that has not been done.
    ///
    /// # Errors
    /// The reason why it cannot be built on this machine.
    pub fn build() -> Result<Self, String> {
        static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let library = LIBRARY.get_or_init(compile).as_ref().map_err(Clone::clone)?;
        let control = NamedTempFile::new().expect("no control file");
        control.as_file().set_len(FIELDS as u64 * 8).expect("a control file");
        // Not in memory: under full load it grows fast.
        let journal = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("no journal");
        Ok(Self { library, control, journal })
    }

    /// Makes `command` load the library.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library);
        command.env("CHAOS_CONTROL", self.control.path()).env("CHAOS_JOURNAL", self.journal.path());
    }

    pub fn set(&self, field: Field, value: i64) {
        let bytes = value.to_ne_bytes();
        self.file().write_all_at(&bytes, field as u64 * 8).expect("the control file is there");
    }

    pub fn get(&self, field: Field) -> i64 {
        let mut bytes = [0; 8];
        self.file().read_exact_at(&mut bytes, field as u64 * 8).expect("the control file is there");
        i64::from_ne_bytes(bytes)
    }

    /// Waits until the count in `field` is above `before`.
    pub fn wait_above(&self, field: Field, before: i64) {
        wait_until(&format!("{field:?} above {before}"), || match self.get(field) {
            count if count > before => Ok(()),
            count => Err(count.to_string()),
        });
    }

    fn file(&self) -> &File {
        self.control.as_file()
    }
}

/// Compiles the library, unless another run of these tests has.
fn compile() -> Result<PathBuf, String> {
    let source = include_str!("shim.c");
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let library =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-shim-{:016x}.so", hasher.finish()));
    if library.exists() {
        return Ok(library);
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let (file, built) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
    std::fs::write(&file, source).map_err(|error| error.to_string())?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&built).arg(&file).arg("-ldl");
    let ran = cc.output().map_err(|error| format!("cc: {error}"))?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
    }
    std::fs::rename(&built, &library).map_err(|error| error.to_string())?;
    Ok(library)
}
