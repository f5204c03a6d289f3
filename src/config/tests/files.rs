//! Files that are not what they should be: of another kind or name.

use super::House;

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
