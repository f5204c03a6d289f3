//! `outrider import`: Galileo's JSON as the TOML that means the same, without its secrets.

use std::io::{self, IsTerminal, Read as _};
use std::path::{Path, PathBuf};

use super::check::world;
use super::{Exit, output, terminal};
use crate::config::{self, Definition, Environment, Imported, Place, Problem, Problems, Severity};
use crate::names::IntegrationName;

/// The longest definition that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The JSON of a Galileo custom integration, as it is pasted into its console or exported; `-` reads it from stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The integration's name; default: what the JSON calls itself, else what the file is called
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<IntegrationName>,
}

/// Prints the TOML on stdout, and what is to be done about it on stderr.
pub(super) fn run(args: &Import) -> Exit {
    let here = std::env::current_dir().unwrap_or_default();
    let (exit, toml, notes) = match pages(args, &here, &Environment::process(), io::stderr().is_terminal()) {
        Ok((toml, notes)) => (Exit::Done, toml, notes),
        Err((exit, why)) => (exit, String::new(), why),
    };
    output::print(exit, &toml, &notes)
}

/// The TOML of all files and the notes, or how it ends and why. Nothing is printed of the good ones if one is bad.
fn pages(
    args: &Import,
    here: &Path,
    env: &Environment,
    colour: bool,
) -> Result<(String, String), (Exit, String)> {
    let usage = |why: String| (Exit::Usage, why);
    let is_stdin = |file: &&PathBuf| file.as_os_str() == "-";
    if args.files.iter().filter(is_stdin).count() > 1 {
        return Err(usage("stdin holds one definition: give `-` once\n".to_owned()));
    }
    if args.name.is_some() && args.files.len() > 1 {
        return Err(usage("--name names one integration: import the files one by one\n".to_owned()));
    }
    let (mut toml, mut notes, mut problems) = (String::new(), String::new(), Problems::default());
    let mut names: Vec<(IntegrationName, &Path)> = Vec::new();
    for file in &args.files {
        let definition = match definition(file, here).map_err(usage)? {
            Ok(definition) => definition,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let (name, note) = name_of(args, file, &definition).map_err(usage)?;
        if let Some((_, other)) = names.iter().find(|(before, _)| *before == name) {
            let (one, two) = (other.display(), file.display());
            return Err(usage(format!(
                "{one} and {two} are both called `{name}`: import one by itself, with --name\n"
            )));
        }
        match config::import(&definition, &name, env) {
            Ok(imported) => {
                let between = if toml.is_empty() { "" } else { "\n" };
                toml += &format!("{between}# From {}.\n{}", terminal::line(&definition.shown), imported.toml);
                notes += &format!("{}: [integrations.{name}]\n{note}", terminal::line(&definition.shown));
                notes += &told(&imported, colour);
            }
            Err(wrong) => problems.extend(wrong),
        }
        names.push((name, file));
    }
    if problems.is_empty() { Ok((toml, notes)) } else { Err((Exit::Config, problems.render(colour))) }
}

/// What to know about one definition.
fn told(imported: &Imported, colour: bool) -> String {
    let mut notes = imported.warnings.render(colour);
    for reference in &imported.references {
        notes += &format!("secret: `{}`: {}\n", terminal::line(&reference.key), reference.what);
    }
    if !imported.missing.is_empty() {
        let missing = imported.missing.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        notes += &format!(
            "note: the JSON came without {missing}, as exports do: what you put there is what is used\n"
        );
    }
    let simple =
        |key: &&String| key.len() < 64 && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let ignored: Vec<_> = imported.ignored.iter().filter(simple).map(|key| format!("`{key}`")).collect();
    if !ignored.is_empty() {
        notes += &format!("ignored, for it has no effect here: {}\n", ignored.join(", "));
    }
    for loss in &imported.losses {
        notes +=
            &format!("lost: {}. With the JSON in integrations_dir it would count\n", terminal::line(loss));
    }
    let handlers =
        |problem: &&Problem| problem.key.as_deref().is_some_and(|key| key.contains(".custom_llm_config"));
    for problem in world::problems(&imported.loaded).iter().filter(|problem| !handlers(problem)) {
        notes += &format!("note: here `check` would say: {}\n", terminal::line(&problem.message));
    }
    notes
}

/// Reads `file`. The outer error is one of usage: there is no such file.
fn definition(file: &Path, here: &Path) -> Result<Result<Definition, Problem>, String> {
    let mut bytes = Vec::new();
    let is_stdin = file.as_os_str() == "-";
    let read = if is_stdin {
        io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(here.join(file)).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
    };
    let shown = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
    read.map_err(|error| format!("cannot read {}: {}\n", terminal::line(&shown), config::plain(&error)))?;
    if bytes.len() as u64 > LONGEST {
        return Ok(Err(broken(shown, None, "it is longer than 16 MiB")));
    }
    let dir = if is_stdin { here.to_owned() } else { here.join(file).parent().unwrap_or(here).to_owned() };
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Ok(Definition { shown, dir, text }),
        Err(error) if config::is_utf16(error.as_bytes()) => {
            Err(broken(shown, None, config::UTF_16).with_help(config::UTF_16_HELP))
        }
        Err(error) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(broken(shown, Some(line), "it is not UTF-8"))
        }
    })
}

fn broken(shown: String, line: Option<usize>, why: &str) -> Problem {
    let place = Place { file: Some(shown), variable: None, line, column: None, snippet: None };
    let message = format!("not valid JSON: {why}");
    Problem { place: Some(place), ..Problem::nowhere(Severity::Error, message) }
}

/// The integration's name, and what to say about it: `--name`, what the JSON calls itself, what the file is called.
fn name_of(args: &Import, file: &Path, definition: &Definition) -> Result<(IntegrationName, String), String> {
    if let Some(name) = &args.name {
        return Ok((name.clone(), String::new()));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|_| file.as_os_str() != "-");
    let said = [definition.name(), stem.map(str::to_owned)];
    let Some((written, name)) = said.into_iter().flatten().find_map(|text| Some((usable(&text)?, text)))
    else {
        let shown = terminal::line(&definition.shown);
        return Err(format!("{shown} gives no name that an integration may have: give one with --name\n"));
    };
    let note = if written.as_str() == name {
        String::new()
    } else {
        format!(
            "note: `{}` cannot stand in a path, so it is called `{written}`; --name gives it another\n",
            terminal::line(&name)
        )
    };
    Ok((written, note))
}

/// `text` as the name of an integration: what a path cannot hold is a dash.
fn usable(text: &str) -> Option<IntegrationName> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let words: Vec<_> = text.split(|c| !is_good(c)).filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    name.trim_start_matches(['.', '_', '-']).parse().ok()
}

fn name(text: &str) -> Result<IntegrationName, String> {
    text.parse().map_err(|bad: crate::names::BadName| bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: impl AsRef<[u8]>, name: &str) -> Result<(String, String), (Exit, String)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        let args = Import { files: vec![name.into()], name: None };
        pages(&args, dir.path(), &Environment::default(), false)
    }

    const OPEN: &str =
        r#"{"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"]"#;

    #[test]
    fn a_key_that_is_not_in_the_export_is_told_with_where_it_goes_and_nothing_of_its_form() {
        for value in ["null", "\"****\""] {
            let json = OPEN.replace("\"none\"", "\"api_key\"");
            let json = format!("{json}, \"api_key_header\": \"Authorization\", \"api_key_value\": {value}}}");
            let (_, notes) = import(json, "acme.json").unwrap();
            assert!(notes.contains("came without `api_key_value`, as exports do"), "{notes}");
            assert!(notes.contains("put it into the file `acme-api-key` beside config.toml"), "{notes}");
            assert!(!notes.contains("warning") && !notes.contains("scheme"), "{notes}");
        }
    }

    #[test]
    fn what_powershell_writes_is_told_as_utf_16() {
        let bytes: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (exit, why) = import(bytes, "a.json").unwrap_err();
        assert_eq!(exit, Exit::Config);
        assert!(why.contains("it is UTF-16, and must be UTF-8") && why.contains("iconv"), "{why}");
    }

    #[test]
    fn the_name_is_what_the_json_says_or_what_the_file_is_called() {
        let heading = |text: &str, file: &str| {
            let (toml, _) = import(text, file).unwrap();
            toml.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(heading(&format!("{OPEN}}}"), "acme.json"), "[integrations.acme]");
        assert_eq!(heading(&format!("{OPEN}, \"name\": \"own\"}}"), "acme.json"), "[integrations.own]");
        assert_eq!(
            heading(&format!("{OPEN}, \"name\": \" My ünï/Gateway\"}}"), "a.json"),
            "[integrations.My-n-Gateway]"
        );
        assert_eq!(heading(&format!("{OPEN}, \"name\": \"v1\"}}"), "a.b.json"), "[integrations.\"a.b\"]");
        assert_eq!(import(format!("{OPEN}}}"), "…").unwrap_err().0, Exit::Usage);
    }

    #[test]
    fn all_files_are_one_text_and_one_mistake_keeps_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.json", &format!("{OPEN}}}"));
        write("b.json", &format!("{OPEN}, \"name\": \"c\"}}"));
        write("c.json", "{\"models\": 5}");
        write("d.json", "{");
        let import = |files: &[&str], named: Option<&str>| {
            let args = Import {
                files: files.iter().map(PathBuf::from).collect(),
                name: named.map(|text| text.parse().unwrap()),
            };
            pages(&args, dir.path(), &Environment::default(), false)
        };
        let (toml, notes) = import(&["a.json", "b.json"], None).unwrap();
        assert!(
            toml.contains("[integrations.a]") && toml.contains("\n\n# From b.json.\n[integrations.c]"),
            "{toml}"
        );
        assert_eq!(notes, "a.json: [integrations.a]\nb.json: [integrations.c]\n");
        let (exit, why) = import(&["a.json", "c.json", "d.json"], None).unwrap_err();
        assert_eq!(exit, Exit::Config);
        assert!(why.contains("c.json:1:2") && why.contains("d.json:1:1"), "{why}");
        for (files, named) in [
            (&["b.json", "c.json"][..], None),
            (&["a.json", "b.json"], Some("x")),
            (&["none.json"], None),
            (&["-", "-"], None),
        ] {
            assert_eq!(import(files, named).unwrap_err().0, Exit::Usage, "{files:?}");
        }
        assert!(
            import(&["b.json"], Some("x")).unwrap().0.contains("[integrations.x]"),
            "what was asked for wins"
        );
    }
}
