//! A Python with litellm for `outrider demo --handlers`: the one that is named or at hand, else an environment of the
//! demo's own, made once in the user's cache directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;

use crate::config::Environment;
use crate::workers::{REQUIREMENTS, pinned};

/// Tells on one line: version, whether all is there that handlers need (looked for, not imported: that takes seconds),
/// and its own path.
const PROBE: &str = "import sys, importlib.util as u
print('%d.%d' % sys.version_info[:2], all(u.find_spec(n) for n in ('litellm', 'aiohttp', 'httpx')), sys.executable)";

/// The path of an interpreter that has litellm: `named` if given, else `python3` if it has it, else one that is made,
/// which `progress` is told of.
///
/// # Errors
///
/// In one sentence, with the remedy.
pub(super) fn interpreter(
    named: Option<&str>,
    env: &Environment,
    progress: &mut impl Write,
) -> Result<PathBuf, String> {
    if let Some(named) = named {
        let found = Found::probe(named)?;
        let missing = || {
            format!(
                "{named} lacks litellm: `{} -m pip install {}` installs it",
                found.path.display(),
                pinned()
            )
        };
        return if found.is_fit { Ok(found.path) } else { Err(missing()) };
    }
    let found = Found::probe("python3").map_err(|why| {
        format!(
            "{why}: install Python 3.10 or later, or name an interpreter with --python or OUTRIDER_PYTHON"
        )
    })?;
    if found.is_fit { Ok(found.path) } else { made(&found, env, progress) }
}

/// What an interpreter says of itself.
struct Found {
    version: String,
    is_fit: bool,
    path: PathBuf,
}

impl Found {
    fn probe(python: &str) -> Result<Self, String> {
        let said = process::Command::new(python).args(["-c", PROBE]).stdin(process::Stdio::null()).output();
        let said = said.map_err(|error| format!("`{python}` cannot be run ({error})"))?;
        let text = String::from_utf8_lossy(&said.stdout);
        let mut words = text.trim().splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(version), Some(fit), Some(path)) if said.status.success() => {
                Ok(Self { version: version.to_owned(), is_fit: fit == "True", path: path.into() })
            }
            _ => Err(format!("`{python}` is no Python that works: {}", last_words(&said.stderr))),
        }
    }
}

/// The interpreter of the demo's own environment; makes it if it is not there.
fn made(base: &Found, env: &Environment, progress: &mut impl Write) -> Result<PathBuf, String> {
    let shelf = shelf(env)?;
    let name = format!("python-{}-{:08x}", base.version, crc32fast::hash(REQUIREMENTS.as_bytes()));
    let home = shelf.join(&name);
    let (python, ready) = (home.join("bin/python"), home.join("ready"));
    let writing = |path: &Path, error| format!("cannot write {}: {error}", path.display());
    fs::create_dir_all(&shelf).map_err(|error| writing(&shelf, error))?;
    // Another demo may be installing right now: the lock ends with its holder, however that ends.
    let lock = shelf.join(format!("{name}.lock"));
    let lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| writing(&lock, error))?;
    if !ready.exists() {
        // Nobody is left to tell if it cannot be written.
        _ = writeln!(
            progress,
            "Installing {} and what it needs into {}, once: this takes a minute or two.",
            pinned(),
            home.display()
        );
        // What an interrupted run has left is not to be trusted.
        _ = fs::remove_dir_all(&home);
        install(&base.path, &home, &python)?;
        File::create(&ready).map_err(|error| writing(&ready, error))?;
    }
    drop(lock);
    Ok(python)
}

/// Where a user's programs keep what can be made again (XDG Base Directory Specification).
fn shelf(env: &Environment) -> Result<PathBuf, String> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let given = env.get("XDG_CACHE_HOME").map(PathBuf::from).and_then(absolute);
    let cache = given.or_else(|| absolute(Path::new(env.get("HOME")?).join(".cache")));
    cache.map(|cache| cache.join("outrider")).ok_or_else(|| {
        "there is no place for a Python with litellm: set HOME or XDG_CACHE_HOME, or name an interpreter with --python"
            .to_owned()
    })
}

/// pip reads the user's own configuration: its index, its proxy, its certificates.
fn install(base: &Path, home: &Path, python: &Path) -> Result<(), String> {
    tell(process::Command::new(base).args(["-m", "venv"]).arg(home)).map_err(|words| {
        format!("`python3 -m venv` failed; Debian and Ubuntu have it in the package python3-venv ({words})")
    })?;
    let list = home.join("requirements.txt");
    fs::write(&list, REQUIREMENTS).map_err(|error| format!("cannot write {}: {error}", list.display()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"];
    tell(process::Command::new(python).args(pip).arg(&list)).map_err(|words| {
        format!(
            "{} could not be installed: go online, point PIP_INDEX_URL at a mirror, or name an interpreter that has it \
             with --python (pip said: {words})",
            pinned()
        )
    })
}

/// Runs a command to its end; its last complaint if it failed.
fn tell(command: &mut process::Command) -> Result<(), String> {
    let said = command.stdin(process::Stdio::null()).output().map_err(|error| error.to_string())?;
    if said.status.success() { Ok(()) } else { Err(last_words(&[said.stdout, said.stderr].concat())) }
}

fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_as_the_specification_says() {
        let shelf = |pairs: &[(&str, &str)]| shelf(&Environment::of(pairs.iter().copied()));
        assert_eq!(shelf(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]).unwrap(), Path::new("/c/outrider"));
        assert_eq!(
            shelf(&[("HOME", "/h"), ("XDG_CACHE_HOME", "c")]).unwrap(),
            Path::new("/h/.cache/outrider")
        );
        assert!(shelf(&[]).unwrap_err().contains("--python"));
    }

    #[test]
    fn an_interpreter_that_is_none_is_told_in_one_sentence() {
        let named = |python| interpreter(Some(python), &Environment::default(), &mut Vec::new()).unwrap_err();
        assert!(named("/no/such/python").contains("`/no/such/python` cannot be run"));
        assert!(named("false").contains("is no Python that works"));
        assert!(!named("false").contains('\n'));
    }

    #[test]
    fn what_is_installed_is_pinned() {
        assert!(
            pinned().strip_prefix("litellm==").is_some_and(|version| version.split('.').count() == 3),
            "{}",
            pinned()
        );
    }
}
