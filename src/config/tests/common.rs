//! What several integrations have in common, and a directory in a file's place.

use super::{House, acme};
use crate::config::{Options, load};

#[test]
fn names_that_integrations_have_in_common_are_one_warning_for_each_set_of_them() {
    let models =
        |range: std::ops::Range<u8>| range.map(|n| format!("\"m{n}\"")).collect::<Vec<_>>().join(", ");
    let of = |name: &str, models: &str| {
        let endpoint = "endpoint = \"https://a.example/v1\"\nauthentication_type = \"none\"";
        format!("[integrations.{name}]\n{endpoint}\nmodels = [{models}]\n")
    };
    let text = of("a", &models(0..9)) + &of("b", &models(0..9)) + &of("c", &models(8..9));
    let house = House::new(&text);
    assert_eq!(house.loaded().warnings.len(), 2, "{}", house.report());
    for words in [
        "8 models are also in the integration `a`: `m0`, `m1`, `m2`, `m3`, `m4` and 3 more",
        "a bare name will answer 400; clients use /b/v1 or b/MODEL",
        "the model `m8` is also in the integrations `a`, `b`",
        "the bare name will answer 400; clients use /c/v1 or c/m8",
    ] {
        assert!(house.report().contains(words), "{words}: {}", house.report());
    }
}

#[test]
fn a_wrong_common_limit_is_told_where_it_stands_and_not_for_those_who_inherit_it() {
    for key in ["connect", "max_concurrent", "max_answer", "max_event"] {
        let value = if key == "connect" { "\"0s\"" } else { "0" };
        let report = House::new(&format!("[limits]\n{key} = {value}\n{}", acme(""))).report();
        assert!(report.contains(&format!("`limits.{key}` must be")), "{report}");
        assert_eq!(report.matches("error: ").count(), 1, "{report}");
    }
}

#[test]
fn a_directory_in_the_files_place_is_named_and_told_as_one() {
    let house = House::new("");
    let options = |dir: &std::path::Path, file: &str| Options {
        file: Some(dir.join(file)),
        dir: dir.to_owned(),
        ..Options::default()
    };
    let report = load(&options(house.path(), "")).unwrap_err().render(false);
    assert!(report.contains("cannot read .: it is a directory"), "{report}");
    assert!(report.contains("name the file in it: config.toml"), "{report}");
}
