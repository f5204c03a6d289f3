//! Files that are not what they should be: of another kind, name or encoding.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{House, acme};

#[test]
fn a_file_in_the_directorys_place_is_told_as_one() {
    let house = House::new("integrations_dir = \"a.json\"\n").with("a.json", "{}");
    insta::assert_snapshot!(house.report(), @r#"
    error: `integrations_dir` must be a directory, and a.json is a file
     --> config.toml:1:1
      |
    1 | integrations_dir = "a.json"
      | ^^^^^^^^^^^^^^^^
      = help: name the directory that it lies in: each *.json there is one integration

    1 error
    "#);
}

#[test]
fn a_file_whose_name_ends_in_capitals_is_not_read_in_silence() {
    let acme =
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"none\"}";
    let house = House::new("integrations_dir = \"d\"\n").with("d/acme.JSON", acme).with("d/b.json", acme);
    insta::assert_snapshot!(house.report(), @r#"
    warning: d/acme.JSON is not read: its name must end in .json
     --> config.toml:1:1
      |
    1 | integrations_dir = "d"
      | ^^^^^^^^^^^^^^^^
      = help: rename it: the end of its name must be in small letters

    1 warning
    "#);
    assert_eq!(house.loaded().settings.integrations.len(), 1);
}

#[test]
fn a_pipe_in_a_files_place_is_told_and_never_waited_for() {
    let good =
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"none\"}";
    let house = House::new("integrations_dir = \"d\"\n").with("d/c.json", good);
    let pipe = |name: &str| {
        let _ = std::fs::remove_file(house.path().join(name));
        mknodat(CWD, house.path().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    };
    pipe("d/a.json");
    std::os::unix::fs::symlink("a.json", house.path().join("d/b.json")).unwrap();
    insta::assert_snapshot!(house.report(), @r#"
    warning: d/a.json is not read: it is a pipe, a socket or a device
     --> config.toml:1:1
      |
    1 | integrations_dir = "d"
      | ^^^^^^^^^^^^^^^^
      = help: put the JSON itself there, or a link to its file

    warning: d/b.json is not read: it is a pipe, a socket or a device
     --> config.toml:1:1
      |
    1 | integrations_dir = "d"
      | ^^^^^^^^^^^^^^^^
      = help: put the JSON itself there, or a link to its file

    2 warnings
    "#);
    pipe("config.toml");
    let Err(problems) = house.load_unchecked() else { panic!("a pipe is no configuration") };
    assert!(problems.to_string().contains("config.toml: it is a pipe, and must be a file"), "{problems}");
    pipe("key");
    let keyed =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"${file:key}\"";
    let lines = acme("").replace("authentication_type = \"none\"", keyed);
    std::fs::remove_file(house.path().join("config.toml")).unwrap();
    std::fs::write(house.path().join("config.toml"), lines).unwrap();
    let world = house.loaded().settings.integrations.into_values().next().unwrap().world;
    assert!(world[0].contains("it is a pipe, and must be a file"), "{world:?}");
}

#[test]
fn an_empty_file_is_no_value_of_a_form_and_fails_its_integration_alone() {
    let keyed = |value: &str| {
        format!("authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"{value}\"")
    };
    for value in ["${file:key}", "Bearer ${file:key}"] {
        for text in ["", " \n"] {
            let lines = acme("").replace("authentication_type = \"none\"", &keyed(value));
            let loaded = House::new(&lines).with("key", text).loaded();
            let world = loaded.settings.integrations.into_values().next().unwrap().world;
            assert!(world.len() == 1 && world[0].ends_with("key is empty"), "{value} {text:?}: {world:?}");
        }
    }
}

#[test]
fn a_definition_whose_name_is_not_utf_8_is_refused_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt as _;

    let house = House::new("integrations_dir = \"d\"\n").with("d/a.json", "{}");
    let odd = std::ffi::OsStr::from_bytes(b"d/\xff.json");
    std::fs::rename(house.path().join("d/a.json"), house.path().join(odd)).unwrap();
    let report = house.report();
    assert!(report.contains("cannot name an integration: a name holds only letters"), "{report}");
}

#[test]
fn a_text_in_utf_16_is_told_as_that_and_a_mark_before_utf_8_is_passed_over() {
    let wide = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(order).collect()
    };
    let house = House::new("integrations_dir = \"d\"\n").with("d/a.json", "");
    std::fs::write(house.path().join("d/a.json"), wide("{}", u16::to_be_bytes)).unwrap();
    std::fs::write(house.path().join("d/b.json"), b"{\"endpoint\": \"\xe9\"}").unwrap();
    insta::assert_snapshot!(house.report(), @r#"
    error: cannot read d/a.json: it is UTF-16, and must be UTF-8
     --> d/a.json
      = help: save it as UTF-8; `iconv -f UTF-16 -t UTF-8 FILE` writes it so

    error: cannot read d/b.json: it is not UTF-8
     --> d/b.json

    2 errors
    "#);
    std::fs::write(house.path().join("config.toml"), wide("[server]", u16::to_le_bytes)).unwrap();
    insta::assert_snapshot!(house.report(), @r#"
    error: cannot read config.toml: it is UTF-16, and must be UTF-8
     --> config.toml
      = help: save it as UTF-8; `iconv -f UTF-16 -t UTF-8 FILE` writes it so

    1 error
    "#);
    let marked = House::new(&format!("\u{feff}{}", acme(""))).loaded();
    assert_eq!(marked.settings.integrations.len(), 1);
}
