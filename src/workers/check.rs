//! Whether a handler's file may be loaded: where it lies, what it is, and who may write to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

/// The path behind all links of the handler `file_name` in `directory`, if it may be loaded.
///
/// Links are fine as long as they stay in the directory: a Kubernetes ConfigMap is made of them. Blocks.
///
/// # Errors
///
/// In words for the log, with the remedy: a name that is no bare `.py` name, a missing or unreadable file, one outside
/// of the directory, something that is no file, a file that anyone may write to.
pub fn check_file(directory: &Path, file_name: &str) -> Result<PathBuf, String> {
    check_name(file_name)?;
    let at = directory.join(file_name);
    let inside = fs::canonicalize(directory).map_err(|error| {
        format!(
            "the directory of handlers {} cannot be read: {error} (handlers.directory)",
            directory.display()
        )
    })?;
    let file = fs::canonicalize(&at).map_err(|error| {
        format!("the handler {} cannot be read: {error} (custom_llm_config.file_name)", at.display())
    })?;
    if !file.starts_with(&inside) {
        return Err(format!(
            "the handler {} is a link to {}, outside of {}: put the file itself into the directory",
            at.display(),
            file.display(),
            inside.display()
        ));
    }
    let found = fs::metadata(&file)
        .map_err(|error| format!("the handler {} cannot be read: {error}", at.display()))?;
    if !found.is_file() {
        return Err(format!("the handler {} is not a file", at.display()));
    }
    if found.permissions().mode() & 0o002 != 0 {
        return Err(format!(
            "the handler {} may be written to by anyone: it is not loaded; `chmod o-w {}`",
            at.display(),
            file.display()
        ));
    }
    // Root may read what is nobody's to read: what counts is whether it opens.
    fs::File::open(&file).map_err(|error| format!("the handler {} cannot be read: {error}", at.display()))?;
    Ok(file)
}

fn check_name(file_name: &str) -> Result<(), String> {
    let mut parts = Path::new(file_name).components();
    let is_bare = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let is_clean = !file_name.contains(['/', '\\', '\0']) && !file_name.starts_with('.');
    if !is_bare || !is_clean || !file_name.ends_with(".py") {
        return Err(format!(
            "custom_llm_config.file_name {file_name:?} must be the bare name of a .py file in the handlers' directory"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(directory: &Path, name: &str) -> String {
        check_file(directory, name).unwrap_err()
    }

    #[test]
    fn a_file_in_the_directory_is_taken_by_its_bare_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("h.py"), "x").unwrap();
        fs::create_dir(dir.path().join("d.py")).unwrap();
        assert_eq!(check_file(dir.path(), "h.py").unwrap(), dir.path().canonicalize().unwrap().join("h.py"));
        for name in
            ["../h.py", "./h.py", "/etc/h.py", ".h.py", "h", "", "..", "a/h.py", "a\\h.py", "h.py/", "h\0.py"]
        {
            assert!(refusal(dir.path(), name).contains("bare name"), "{name:?}");
        }
        assert!(refusal(dir.path(), "gone.py").contains("cannot be read"));
        assert!(refusal(dir.path(), "d.py").contains("is not a file"));
        assert!(refusal(&dir.path().join("none"), "h.py").contains("handlers.directory"));
    }

    #[test]
    fn links_may_not_leave_the_directory() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("h.py"), "x").unwrap();
        symlink(other.path().join("h.py"), dir.path().join("h.py")).unwrap();
        assert!(refusal(dir.path(), "h.py").contains("is a link to"));
    }

    #[test]
    fn a_config_map_in_a_directory_that_anyone_may_write_to_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let data = dir.path().join("..2026");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("h.py"), "x").unwrap();
        symlink("..2026", dir.path().join("..data")).unwrap();
        symlink("..data/h.py", dir.path().join("h.py")).unwrap();
        assert!(check_file(dir.path(), "h.py").unwrap().ends_with("..2026/h.py"));
    }

    #[test]
    fn a_file_that_anyone_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("h.py"), "x").unwrap();
        fs::set_permissions(dir.path().join("h.py"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refusal(dir.path(), "h.py").contains("chmod o-w"));
    }
}
