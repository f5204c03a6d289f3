//! The Dockerfile, as far as that can be told without building it: what it copies is there, and versions agree.

use std::collections::BTreeSet;
use std::path::Path;

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const IGNORED: &str = include_str!("../../.dockerignore");
const CARGO: &str = include_str!("../../Cargo.toml");
const NEEDED: &str = include_str!("../../handlers/requirements.txt");
const TESTED: &str = include_str!("../requirements.txt");

/// The instructions `word`, continued lines joined, without the word.
fn instructions(word: &str) -> Vec<String> {
    let bare = DOCKERFILE.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = bare.replace("\\\n", " ");
    let all = joined.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    all.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// What each stage is called.
fn stages() -> BTreeSet<String> {
    instructions("FROM").iter().filter_map(|from| Some(from.split_once(" AS ")?.1.to_owned())).collect()
}

/// The lines of the stage `name`.
fn stage(name: &str) -> &'static str {
    let (_, rest) = DOCKERFILE.split_once(&format!(" AS {name}\n")).expect("the stage is there");
    rest.split_once("\nFROM ").map_or(rest, |(stage, _)| stage)
}

/// The default of a build argument.
fn base(name: &str) -> String {
    let given = instructions("ARG")
        .into_iter()
        .find_map(|arg| Some(arg.strip_prefix(&format!("{name}="))?.to_owned()));
    given.expect("the argument has a default")
}

/// The value of a line `key = "value"` of Cargo.toml.
fn cargo(key: &str) -> &'static str {
    let line = CARGO.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix("= \""));
    line.and_then(|rest| rest.split('"').next()).expect("Cargo.toml has it")
}

#[test]
fn everything_that_is_copied_is_there_and_reaches_the_build() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let let_through: BTreeSet<&str> = IGNORED.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = BTreeSet::new();
    for copy in instructions("COPY") {
        let words: Vec<&str> = copy.split(' ').collect();
        let sources = &words[..words.len() - 1];
        match sources {
            [from, path] if from.starts_with("--from=") => {
                let stage = from.trim_start_matches("--from=");
                assert!(stages().contains(stage), "no stage {stage}");
                assert!(["/opt/python", "/outrider"].contains(path), "{path}");
                assert!(self::stage(stage).contains(path), "{stage} does not make {path}");
            }
            paths => copied.extend(paths.iter().map(|path| (*path).to_owned())),
        }
    }
    for path in &copied {
        assert!(root.join(path).exists(), "{path} is not there");
        let top = path.split('/').next().unwrap_or_default();
        assert!(let_through.contains(top), "{path} is ignored");
    }
    // Cargo looks for every target that Cargo.toml names and for the build script, and the program holds the worker's script.
    for needed in [".cargo", "Cargo.toml", "Cargo.lock", "src", "benches", "tests", "handlers"] {
        assert!(copied.contains(needed), "{needed} is not copied");
    }
}

#[test]
fn the_toolchain_is_the_one_of_cargo_toml_and_all_stages_share_a_c_library() {
    assert!(base("RUST").starts_with(&format!("rust:{}-", cargo("rust-version"))), "{}", base("RUST"));
    for (name, debian) in [("RUST", "-bookworm"), ("PYTHON", "-bookworm"), ("RUNTIME", "-debian12:nonroot")] {
        assert!(base(name).ends_with(debian), "{}", base(name));
    }
    assert!(CARGO.contains("[profile.dist]") && stage("build").contains("--profile dist"));
}

#[test]
fn both_images_run_without_root_stop_by_sigterm_and_are_asked_by_outrider_itself() {
    let check = "HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD [\"/usr/local/bin/outrider\", \"healthcheck\"]";
    for name in ["handlers", "outrider"] {
        let stage = stage(name);
        for line in [
            "USER 65532:65532",
            "STOPSIGNAL SIGTERM",
            "EXPOSE 4010 4011 4012",
            "ENTRYPOINT [\"/usr/local/bin/outrider\"]",
            check,
        ] {
            assert!(stage.lines().any(|at| at == line), "{name} lacks `{line}`");
        }
        assert!(stage.contains("COPY --from=build /outrider /usr/local/bin/outrider"), "{name}");
    }
    assert!(DOCKERFILE.trim_end().ends_with(stage("outrider").trim_end()), "the default is without Python");
    assert_eq!(stages(), ["build", "packages", "handlers", "outrider"].map(str::to_owned).into());
}

#[test]
fn handlers_get_the_litellm_that_the_tests_run_with() {
    let pin = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("litellm==")).expect("litellm is pinned").to_owned();
        line.split(';').next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(pin(NEEDED), pin(TESTED));
    assert!(stage("packages").contains("COPY handlers/requirements.txt"));
}
