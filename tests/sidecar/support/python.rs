//! A Python that has the real `openai` and `litellm` packages: installed once under `target/`, used by all who test.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::launch::{Ended, run_to_end};

const REQUIREMENTS: &str = include_str!("../../requirements.txt");

/// Runs `script` with `arguments`; fails loudly where Python or the package cannot be had.
pub(crate) fn run(script: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(interpreter());
    command.arg("-c").arg(script).args(arguments);
    // Proxies, an address for the SDK, another PYTHONPATH: whoever runs the tests may have set any of them.
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    run_to_end(command, "the Python script")
}

/// The interpreter, for `handlers.python` too; fails loudly where it cannot be had.
pub(crate) fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = PYTHON.get_or_init(prepared);
    assert!(python.is_ok(), "{}", python.as_ref().err().map_or("", String::as_str));
    python.as_deref().unwrap_or_else(|_| Path::new("python3"))
}

/// The interpreter of a virtual environment that has what `requirements.txt` says; makes it where it is missing.
fn prepared() -> Result<PathBuf, String> {
    let version = python_version()?;
    let mut hash = DefaultHasher::new();
    (REQUIREMENTS, &version).hash(&mut hash);
    let shelf = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python");
    let home = shelf.join(format!("{:016x}", hash.finish()));
    let (python, ready) = (home.join("bin/python"), home.join("ready"));

    std::fs::create_dir_all(&shelf).map_err(|e| format!("{} cannot be made: {e}", shelf.display()))?;
    // Another test run may be installing right now: the lock ends with its holder, however that ends.
    let lock = File::create(home.with_extension("lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|e| format!("{} cannot be locked: {e}", home.display()))?;
    if ready.exists() {
        return Ok(python);
    }
    // What an interrupted run left behind is not to be trusted.
    let _ = std::fs::remove_dir_all(&home);
    install(&home, &python)?;
    File::create(&ready).map_err(|e| format!("{} cannot be written: {e}", ready.display()))?;
    Ok(python)
}

fn python_version() -> Result<String, String> {
    let asked = Command::new("python3").arg("--version").output();
    let missing = "`python3` cannot be run: the tests need the real `openai` and `litellm` packages. \
                   Install Python 3.10 or later so that `python3` is in PATH, and run `cargo test` again";
    match asked {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => Err(missing.to_owned()),
    }
}

/// Makes the environment and installs into it; pip reads the ambient configuration (`PIP_INDEX_URL`, pip.conf).
fn install(home: &Path, python: &Path) -> Result<(), String> {
    let made = tell(Command::new("python3").args(["-m", "venv"]).arg(home));
    made.map_err(|words| {
        format!("`python3 -m venv` failed: on Debian and Ubuntu it needs the package python3-venv. It said: {words}")
    })?;
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"];
    let installed = tell(Command::new(python).args(pip).arg(list));
    installed.map_err(|words| {
        format!(
            "the packages of tests/requirements.txt could not be installed: this needs a Python package index. \
             Go online, or point PIP_INDEX_URL at a mirror (or PIP_FIND_LINKS at a folder of wheels), and run \
             `cargo test` again. pip said: {words}"
        )
    })
}

/// Runs a command to its end; its last complaint if it failed.
fn tell(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned())
}
