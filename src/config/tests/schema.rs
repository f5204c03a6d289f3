//! The schema holds what the reader holds: every configuration of these tests is held against it as it is loaded, and
//! every key is tried with values of every kind.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::House;
use crate::config::{Loaded, Problem, Problems, schema, text};

static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft7::new(&SCHEMA).unwrap());

/// Fails if the schema says other than the loader did of the configuration `toml`: it takes what was loaded, and
/// refuses unknown keys.
pub(super) fn agrees(toml: &str, result: &Result<Loaded, Problems>) {
    let Ok((dict, _)) = text::toml(toml.strip_prefix('\u{feff}').unwrap_or(toml)) else { return };
    let document = text::to_json(&figment::value::Value::from(dict));
    let words: Vec<_> =
        VALIDATOR.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    match result {
        Ok(_) => assert!(words.is_empty(), "the schema refuses what loads: {words:#?}\n{toml}"),
        Err(problems) => {
            let is_here = |problem: &Problem| {
                let place = problem.place.as_ref().and_then(|place| place.file.as_deref());
                problem.message.contains("unknown key") && place.is_some_and(|file| file.ends_with(".toml"))
            };
            let is_unknown = problems.iter().any(is_here);
            assert!(
                !is_unknown || !words.is_empty(),
                "the schema takes what is unknown:\n{problems}\n{toml}"
            );
        }
    }
}

/// One step from the root to a value.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Item,
}

/// Every place where a value may stand, with what the schema says of it.
fn places<'s>(schema: &'s Value, at: &[Step], found: &mut Vec<(Vec<Step>, &'s Value)>) {
    found.push((at.to_vec(), schema));
    let deeper = |step: Step| [at, &[step]].concat();
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        places(below, &deeper(Step::Key(key.clone())), found);
    }
    if schema["additionalProperties"].is_object() {
        places(&schema["additionalProperties"], &deeper(Step::Key("acme".to_owned())), found);
    }
    if schema["items"].is_object() {
        places(&schema["items"], &deeper(Step::Item), found);
    }
}

fn all_places() -> Vec<(Vec<Step>, &'static Value)> {
    let mut found = Vec::new();
    places(&SCHEMA, &[], &mut found);
    assert!(found.len() > 200, "only {} places were found", found.len());
    found
}

/// A good configuration with `value` at `at`.
fn document(at: &[Step], value: &Value) -> Value {
    let declared = ["request", "response", "stream"]
        .iter()
        .any(|word| at.get(2) == Some(&Step::Key((*word).to_owned())));
    let mut root = json!({ "integrations": { "acme": {
        "endpoint": "https://acme.example/v1", "models": ["m"], "authentication_type": "none",
    }}});
    if declared {
        let acme = root["integrations"]["acme"].as_object_mut().unwrap();
        acme.insert("format".to_owned(), json!("declared"));
        acme.insert("request".to_owned(), json!({ "m": "{{ messages }}" }));
        acme.insert("response".to_owned(), json!({ "content": "{{ a }}" }));
        acme.insert("stream".to_owned(), json!({ "framing": "sse", "delta": "{{ a }}" }));
    }
    let mut place = &mut root;
    for step in at {
        place = match step {
            Step::Key(key) => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null)
            }
            Step::Item => {
                *place = json!([null]);
                &mut place[0]
            }
        };
    }
    *place = value.clone();
    root
}

fn load(document: &Value) -> (String, Result<Loaded, Problems>) {
    let toml = toml::to_string(document).unwrap();
    let house = House::new(&toml).env([("FORM", "x")]);
    (toml, house.load_unchecked())
}

#[test]
fn it_is_a_schema_of_draft_7_without_references() {
    jsonschema::draft7::meta::validate(&SCHEMA).unwrap();
    assert_eq!(SCHEMA["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(!SCHEMA.to_string().contains("$ref"), "editors show no description beside one");
}

#[test]
fn every_key_is_described_in_one_sentence() {
    for (at, schema) in all_places() {
        let Some(Step::Key(key)) = at.last() else { continue };
        if key == "acme" {
            continue;
        }
        let words = schema["description"].as_str().unwrap_or_default();
        assert!(words.ends_with('.') && !words.contains("See docs"), "{at:?}: {words:?}");
        assert!(!words.contains(". "), "{at:?} takes more than one sentence: {words}");
    }
}

#[test]
fn the_example_and_each_of_its_examples_hold() {
    for block in super::example::blocks() {
        let toml = super::example::switched_on(&block);
        agrees(&toml, &House::new(&toml).load_unchecked());
    }
}

#[test]
fn an_unknown_key_is_refused_in_every_table_in_which_the_loader_refuses_it() {
    let mut tables = 0;
    for (at, schema) in all_places() {
        let is_open = schema["properties"].is_null() || at.last() == Some(&Step::Key("request".to_owned()));
        if is_open {
            continue;
        }
        let unknown = document(&[at.as_slice(), &[Step::Key("no_such_key".to_owned())]].concat(), &json!(1));
        let (toml, result) = load(&unknown);
        let problems = result.err().unwrap_or_else(|| panic!("{toml}"));
        assert!(problems.iter().any(|p| p.message.contains("unknown key")), "{problems}{toml}");
        assert!(!VALIDATOR.is_valid(&unknown), "the schema takes it:\n{toml}");
        tables += 1;
    }
    assert!(tables >= 20, "only {tables} tables were found");
}

/// How the reader says that a value is of another type than the field.
const MISMATCHES: [&str; 8] = [
    "must be a string",
    "must be true or false",
    "must be a whole number",
    "must be a duration such",
    "must be a size such",
    "must be a list",
    "must be a table",
    "must be one of \"",
];

#[test]
fn every_key_takes_the_kinds_of_values_that_the_loader_takes() {
    let values = [
        json!(5),
        json!(-5),
        json!(true),
        json!("word"),
        json!("5s"),
        json!("64KiB"),
        json!(["word"]),
        json!([5]),
        json!({}),
        json!({ "acme": 5 }),
    ];
    // Other tables are of the same types as these.
    let twins = ["token_tls", "limits"].map(|table| Step::Key(table.to_owned()));
    let is_again = |at: &[Step]| at.len() > 3 && twins.contains(&at[2]);
    for (at, _) in all_places().into_iter().filter(|(at, _)| !at.is_empty() && !is_again(at)) {
        for value in &values {
            let document = document(&at, value);
            let (toml, result) = load(&document);
            let taken = VALIDATOR.is_valid(&document);
            match result {
                Ok(_) => assert!(taken, "{at:?} = {value} loads, and the schema refuses it:\n{toml}"),
                Err(problems) => {
                    let is_mismatch = |p: &Problem| MISMATCHES.iter().any(|words| p.message.contains(words));
                    let refused =
                        problems.iter().any(|p| is_mismatch(p) || p.message.contains("unknown key"));
                    assert!(
                        !(taken && refused),
                        "{at:?} = {value} is of the wrong type, and the schema takes it: {problems}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_form_may_stand_wherever_the_loader_fills_it_in() {
    for (at, schema) in all_places().into_iter().filter(|(at, _)| !at.is_empty()) {
        let document = document(&at, &json!("${FORM:-x}"));
        assert!(VALIDATOR.is_valid(&document), "{at:?}: {schema}");
    }
}

#[test]
fn the_defaults_are_those_of_the_program() {
    let mut written = json!({});
    let mut count = 0;
    for (at, schema) in all_places() {
        let keys: Option<Vec<_>> =
            at.iter().map(|step| matches!(step, Step::Key(_)).then_some(step)).collect();
        if schema["default"].is_null() || keys.is_none() || at[0] == Step::Key("integrations".to_owned()) {
            continue;
        }
        let [Step::Key(table), Step::Key(key)] = at.as_slice() else { panic!("{at:?}") };
        written[table][key] = schema["default"].clone();
        count += 1;
    }
    assert!(count > 40, "only {count} defaults were found");
    let settings = |toml: &str| House::new(toml).loaded().settings;
    assert_eq!(settings(&toml::to_string(&written).unwrap()), settings(""));
}

#[test]
fn the_defaults_of_an_integration_are_those_of_the_program() {
    let base = "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\nmodels = [\"m\"]\n\
                oauth2.client_id = \"i\"\noauth2.client_secret = \"s\"\n";
    let mut written = text::to_json(&figment::value::Value::from(text::toml(base).unwrap().0));
    for (at, schema) in all_places() {
        let is_own = at.first() == Some(&Step::Key("integrations".to_owned())) && at.len() < 5;
        if schema["default"].is_null() || !is_own {
            continue;
        }
        let mut place = &mut written;
        for step in &at {
            let Step::Key(key) = step else { panic!("{at:?}") };
            place = &mut place[key];
        }
        *place = schema["default"].clone();
    }
    // What stands there is another authorization's.
    written["integrations"]["acme"].as_object_mut().unwrap().remove("aws");
    let settings = |toml: &str| House::new(toml).loaded().settings;
    // Where nothing of it is written, `tls` is in its place.
    let base = format!("{base}token_tls = {{}}\n");
    assert_eq!(settings(&toml::to_string(&written).unwrap()), settings(&base));
}
