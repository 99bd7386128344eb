//! Python for tests that need an independent reader.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A virtual environment with the packages that a file in `tests/python` pins. It stays below `target` across runs.
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Like [`Self::with`], with the packages that read exports.
    pub fn find() -> Result<Self, String> {
        Self::with("requirements")
    }

    /// Makes the environment of `tests/python/<name>.txt`, unless it exists.
    ///
    /// # Errors
    /// The missing part: Python, its module `venv`, or the packages.
    pub fn with(name: &str) -> Result<Self, String> {
        // Tests that run at the same time must not make the same environment.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let requirements =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(format!("{name}.txt"));
        let wanted = std::fs::read_to_string(&requirements).expect("the requirements of the tests");
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(name);
        let (ready, interpreter) = (venv.join("ready"), venv.join("bin/python"));
        let python = Self { interpreter };
        if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
            return Ok(python);
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(&python.interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        run(pip.arg(&requirements))?;
        std::fs::write(&ready, wanted).expect("the environment cannot be written");
        Ok(python)
    }

    /// A program from the packages.
    pub fn tool(&self, name: &str) -> Command {
        Command::new(self.interpreter.with_file_name(name))
    }

    /// Runs the script `name` of `tests/python`, which must succeed. Returns its stdout.
    pub fn script(&self, name: &str, argument: &Path) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
        run(Command::new(&self.interpreter).arg(script).arg(argument))
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let ran = command.output().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
    if !ran.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&ran.stderr).trim()));
    }
    String::from_utf8(ran.stdout).map_err(|_| format!("the output of {command:?} is not UTF-8"))
}
