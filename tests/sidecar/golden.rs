//! Golden tables: each folder below `tests/golden/<dialect>` is a case, and its files say what it checks.
//!
//! | file | what must come of it |
//! | --- | --- |
//! | `openai.json` | `wire.json` and `report.json`, or `refused.json` |
//! | `reply.json` (or `reply.raw`) | `reply.openai.json` |
//! | `stream.raw`, or `stream.frames` for AWS frames (`support/frames.rs`) | `stream.openai`, however it is cut |
//! | `fault.json` | `fault.openai.json` |
//!
//! `context.json` may set `provider_model`, `strict`, `operation` (`"embeddings"`), `api_version` and `declared` (its tables
//! as an object). To add a case, write its inputs only and run the tests: what is
//! missing is written and the test fails once, so that you look at it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "this whole file is a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use outrider::dialect::{
    Broken, Context, Decoder, Dialect, End, Fed, Format, Head, Prepared, Recipe, Untranslatable, build,
};
use outrider::openai::{Envelope, Fault, Operation};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::frames;

#[test]
fn every_request_is_translated_as_the_table_says() {
    each_case("openai.json", |case| {
        let (first, second) = match case.prepare() {
            Ok(prepared) => {
                let changes =
                    prepared.report.changes.iter().map(|c| json!([format!("{:?}", c.what), c.field, c.why]));
                let wire: Value = serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap();
                (("wire.json", wire), ("report.json", Value::Array(changes.collect())))
            }
            Err(refused) => {
                let Untranslatable { param, message, malformed, failed } = refused;
                let mut refused = json!({ "param": param, "message": message, "malformed": malformed });
                if failed {
                    refused["failed"] = true.into();
                }
                (("refused.json", refused.clone()), ("refused.json", refused))
            }
        };
        case.expect_json(first.0, &first.1) & case.expect_json(second.0, &second.1)
    });
}

#[test]
fn every_whole_answer_is_translated_as_the_table_says() {
    each_case("reply.", |case| {
        let body = case.read("reply.json").or_else(|| case.read("reply.raw")).unwrap();
        let headers = HeaderMap::new();
        let mut decoder = case.decoder();
        let found = match decoder.whole(Head { status: 200, headers: &headers }, body.as_bytes()) {
            Ok(completion) => serde_json::to_value(&completion).unwrap(),
            Err(broken) => {
                let fault = fault_of(broken);
                json!({ "status": fault.status, "body": fault.body() })
            }
        };
        case.expect_json("reply.openai.json", &found)
    });
}

#[test]
fn every_stream_is_translated_as_the_table_says_however_it_is_cut() {
    each_case("stream.", |case| {
        let stream = case.stream_bytes().unwrap();
        let whole = case.stream(&[&stream]);
        for step in [1, 2, 3, 7, 64, 333] {
            let pieces: Vec<_> = stream.chunks(step).collect();
            assert_eq!(case.stream(&pieces), whole, "{} in steps of {step}", case.folder.display());
        }
        case.expect_text("stream.openai", &whole)
    });
}

#[test]
fn every_refusal_keeps_what_the_table_says() {
    each_case("fault.json", |case| {
        let given: Value = serde_json::from_str(&case.read("fault.json").unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in given["headers"].as_object().into_iter().flatten() {
            headers.insert(HeaderName::try_from(name).unwrap(), value.as_str().unwrap().parse().unwrap());
        }
        let status = u16::try_from(given["status"].as_u64().unwrap()).unwrap();
        let fault = case
            .decoder()
            .fault(Head { status, headers: &headers }, given["body"].as_str().unwrap().as_bytes());
        let found = json!({ "status": fault.status, "headers": fault.headers, "body": fault.body() });
        case.expect_json("fault.openai.json", &found)
    });
}

proptest! {
    #[test]
    fn any_cut_of_any_stream_gives_the_same(cuts in proptest::collection::vec(0_usize..4000, 1..6)) {
        for (case, stream) in &*STREAMS {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(case.stream(&pieces), case.stream(&[stream]), "{}", case.folder.display());
        }
    }

    #[test]
    fn no_damage_to_a_stream_makes_a_decoder_panic(at in 0_usize..4000, byte in any::<u8>()) {
        for (case, stream) in &*STREAMS {
            let mut stream = stream.clone();
            let at = at % stream.len().max(1);
            stream.iter_mut().skip(at).take(1).for_each(|place| *place = byte);
            case.stream(&[&stream]);
        }
    }
}

/// Every case with a stream, and that: read once, since they are fed hundreds of times.
static STREAMS: LazyLock<Vec<(Case, Vec<u8>)>> = LazyLock::new(|| {
    let stream = |case: Case| case.stream_bytes().map(|stream| (case, stream));
    cases().into_iter().filter_map(stream).collect()
});

/// One folder of the table.
struct Case {
    format: Format,
    folder: PathBuf,
    /// Built when it is first needed.
    dialect: OnceLock<Arc<dyn Dialect>>,
}

impl Case {
    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }

    /// The provider's stream as it comes over the wire.
    fn stream_bytes(&self) -> Option<Vec<u8>> {
        let raw = self.read("stream.raw").map(String::into_bytes);
        raw.or_else(|| self.read("stream.frames").map(|lines| frames(&lines)))
    }

    fn prepare(&self) -> Result<Prepared, Untranslatable> {
        let body = self.read("openai.json").unwrap_or_else(|| PLAIN.to_owned());
        let settings: Value =
            self.read("context.json").map_or(Value::Null, |t| serde_json::from_str(&t).unwrap());
        let provider_model = settings["provider_model"].as_str().unwrap_or("claude-sonnet-4-5");
        let mut envelope = Envelope::read(Bytes::from(body)).unwrap();
        envelope.set_model(provider_model);
        let context = Context {
            operation: match settings["operation"].as_str() {
                Some("embeddings") => Operation::Embeddings,
                _ => Operation::Chat,
            },
            provider_model,
            client_model: "alias",
            id: "chatcmpl-1",
            created: 1_750_000_000,
            strict: settings["strict"] == true,
            max_event: 1 << 16,
        };
        let recipe = Recipe {
            format: self.format,
            api_version: settings["api_version"].as_str(),
            declared: Some(&settings["declared"]),
            name: Some("acme"),
        };
        self.dialect.get_or_init(|| build(recipe).unwrap()).prepare(&envelope, &context)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        self.prepare().unwrap().decoder
    }

    /// What the client sees of a stream that comes in `pieces` and then closes.
    fn stream(&self, pieces: &[&[u8]]) -> String {
        let (mut decoder, mut out, mut broken) = (self.decoder(), BytesMut::new(), None);
        for piece in pieces {
            match decoder.feed(piece, &mut out) {
                Ok(Fed::Through) => out.extend_from_slice(piece),
                Ok(Fed::Rewritten) => {}
                Err(error) => {
                    broken = Some(fault_of(error));
                    break;
                }
            }
        }
        let end = broken.as_ref().map_or(End::Clean, End::Broken);
        if let outrider::dialect::Outcome::Unfinished(fault) = decoder.finish(end, &mut out) {
            decoder.finish(End::Broken(&fault), &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn expect_json(&self, file: &str, found: &Value) -> bool {
        let Some(wanted) = self.read(file) else {
            return self.write(file, &(serde_json::to_string_pretty(found).unwrap() + "\n"));
        };
        let wanted: Value = serde_json::from_str(&wanted).unwrap();
        self.compare(file, &wanted.to_string(), &found.to_string())
    }

    fn expect_text(&self, file: &str, found: &str) -> bool {
        match self.read(file) {
            Some(wanted) => self.compare(file, &wanted, found),
            None => self.write(file, found),
        }
    }

    fn compare(&self, file: &str, wanted: &str, found: &str) -> bool {
        if wanted != found {
            println!("{}\n wanted {wanted}\n found  {found}", self.folder.join(file).display());
        }
        wanted == found
    }

    fn write(&self, file: &str, text: &str) -> bool {
        println!("{} was missing: written now, look at it", self.folder.join(file).display());
        fs::write(self.folder.join(file), text).unwrap();
        false
    }
}

/// Runs `check` on every case that has a file whose name begins with `file`; fails if one fails, or if there is none.
fn each_case(file: &str, check: impl Fn(&Case) -> bool) {
    let has = |case: &Case| entries(&case.folder).iter().any(|path| name(path).starts_with(file));
    let cases: Vec<_> = cases().into_iter().filter(has).collect();
    assert!(!cases.is_empty());
    let failed: Vec<_> = cases.iter().filter(|case| !check(case)).map(|case| case.folder.clone()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let format = |folder: &Path| Format::ALL.iter().find(|(word, _)| *word == name(folder)).unwrap().1;
    let of = |dialect: PathBuf| {
        let format = format(&dialect);
        entries(&dialect).into_iter().map(move |folder| Case { format, folder, dialect: OnceLock::new() })
    };
    entries(&root).into_iter().flat_map(of).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn fault_of(broken: Broken) -> Fault {
    match broken {
        Broken::Upstream(fault) => *fault,
        Broken::Garbled(words) => Fault::garbled(words),
    }
}

const PLAIN: &str = r#"{"model":"alias","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
