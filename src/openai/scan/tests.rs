//! The grammar beside serde_json, the spans, and the faults with their places.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

fn text_of<'a>(body: &'a str, span: &Range<u32>) -> &'a str {
    &body[span.start as usize..span.end as usize]
}

#[test]
fn a_body_of_more_fields_than_any_request_has_is_refused() {
    let body = |count: usize| format!("{{{}}}", vec!["\"\":0"; count].join(","));
    assert_eq!(scan(body(MAX_MEMBERS).as_bytes()).unwrap().members.len(), MAX_MEMBERS);
    let at = 1 + MAX_MEMBERS * "\"\":0,".len();
    assert_eq!(scan(body(MAX_MEMBERS + 1).as_bytes()), Err(ScanError::TooManyMembers { at }));
}

/// What a careful reader says, by serde_json; it counts no levels here and takes any repeated key.
fn is_sound(body: &[u8]) -> bool {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    is_object && std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// The scan agrees with `serde_json` on whether `body` is sound, and its spans hold what `serde_json` reads.
fn agrees(body: &[u8]) {
    let found = scan(body);
    let is_value = std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok();
    assert_eq!(check(body).is_ok(), is_value, "{}", String::from_utf8_lossy(body));
    if matches!(found, Err(ScanError::Duplicate { .. })) {
        return;
    }
    assert_eq!(found.is_ok(), is_sound(body), "{found:?} of {}", String::from_utf8_lossy(body));
    if let (Ok(found), Ok(Value::Object(whole))) = (found, serde_json::from_slice(body)) {
        let read = |span: &Range<u32>| {
            serde_json::from_slice::<Value>(bytes(body, span)).expect("a span is a value")
        };
        let member =
            |member: &Member| (text(bytes(body, &member.key)).expect("a key is text"), read(&member.value));
        assert_eq!(found.members.iter().map(member).collect::<serde_json::Map<_, _>>(), whole);
        assert_eq!(Value::Object(whole), read(&found.object));
        let is_tight =
            |member: &Member| bytes(body, &member.value).trim_ascii() == bytes(body, &member.value);
        assert!(found.members.iter().all(is_tight));
    }
}

#[test]
fn tells_where_members_stand() {
    let body = "\n {\"model\" : \"gpt-é\" ,\"stream\":true,\t\"n\":[ {} ] } ";
    let found = scan(body.as_bytes()).expect("a sound body");
    let spans =
        |member: &Member| (text_of(body, &member.key).to_owned(), text_of(body, &member.value).to_owned());
    let members: Vec<_> = found.members.iter().map(spans).collect();
    let expected = [("\"model\"", "\"gpt-é\""), ("\"stream\"", "true"), ("\"n\"", "[ {} ]")];
    assert_eq!(members, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(text_of(body, &found.object), body.trim());
    assert_eq!((found.model, found.stream), (Model::Text(13..21, "gpt-é".to_owned()), Some(true)));
}

#[test]
fn reads_a_model_behind_escapes() {
    let body = br#"{"n":1,"mod\u0065l":"a\/\u00e9\ud83d\ude00"}"#;
    let found = scan(body).expect("a sound body");
    assert!(matches!(&found.model, Model::Text(_, name) if name == "a/é😀"), "{:?}", found.model);
    assert_eq!(found.find(body, "model"), found.members.get(1));
    assert_eq!(found.find(body, "mod"), None);
}

#[test]
fn tells_a_model_that_is_no_text_from_none() {
    for (body, model) in [
        ("{}", Model::Absent),
        (r#"{"model":null}"#, Model::Other(9..13)),
        (r#"{"model":["a"]}"#, Model::Other(9..14)),
        (r#"{"model":"\ud800"}"#, Model::Other(9..17)),
        (r#"{"model":"\udc00\ud800"}"#, Model::Other(9..23)),
        (r#"{"model":""}"#, Model::Text(9..11, String::new())),
    ] {
        assert_eq!(scan(body.as_bytes()).map(|found| found.model), Ok(model), "{body}");
    }
}

#[test]
fn knows_a_stream_by_its_boolean_only() {
    for (value, stream) in
        [("true", Some(true)), ("false", Some(false)), ("null", None), ("1", None), ("\"true\"", None)]
    {
        assert_eq!(
            scan(format!(r#"{{"stream":{value}}}"#).as_bytes()).map(|found| found.stream),
            Ok(stream),
            "{value}"
        );
    }
}

#[test]
fn a_byte_that_is_no_text_is_found_wherever_in_a_string_it_stands() {
    for (length, blanks) in (1..80).flat_map(|length| [(length, 0), (length, 70)]) {
        let (text, rest) = ("x".repeat(length), " ".repeat(blanks));
        let sound = format!("{{\"{text}\":\"{text}\\n\"{rest}}}").into_bytes();
        for at in (2..2 + length).chain(5 + length..5 + 2 * length) {
            let mut body = sound.clone();
            body[at] = b'\xff';
            let found = (scan(&body).err(), check(&body).err());
            assert_eq!(found, (Some(ScanError::NotUtf8 { at }), Some(ScanError::NotUtf8 { at })));
        }
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    for (body, fault) in [
        ("", "not JSON at byte 0: expected an object"),
        ("\u{feff}{}", "not JSON at byte 0: expected an object"),
        (" [1]", "not a JSON object: another kind of value starts at byte 1"),
        ("{} {}", "not JSON at byte 3: expected nothing after the object"),
        ("{\"a\":1,}", "not JSON at byte 7: expected a key in double quotes"),
        ("{\"a\"}", "not JSON at byte 4: expected `:` after a key"),
        ("{\"a\":}", "not JSON at byte 5: expected a value"),
        ("{\"a\":tru}", "not JSON at byte 8: expected the rest of `true`, `false` or `null`"),
        ("{\"a\":01}", "not JSON at byte 6: expected `,` or `}`"),
        ("{\"a\":[1 2]}", "not JSON at byte 8: expected `,` or `]`"),
        ("{\"a\":{\"b\":1]}", "not JSON at byte 11: expected `,` or `}`"),
        ("{\"a\":-}", "not JSON at byte 6: expected a digit"),
        ("{\"a\":\"b", "not JSON at byte 7: expected the closing quote of a string"),
        ("{\"a\":\"\n\"}", "not JSON at byte 6: expected an escape in place of a control character"),
        (r#"{"a":"\x"}"#, "not JSON at byte 7: expected an escape such as `\\n` or `\\u00e9`"),
        (r#"{"a":"\u12g4"}"#, "not JSON at byte 10: expected four hexadecimal digits after `\\u`"),
        (r#"{"model":1,"mod\u0065l":"a"}"#, "`model` stands a second time at byte 11"),
        (r#"{"stream":null,"model":"a","stream":true}"#, "`stream` stands a second time at byte 27"),
    ] {
        assert_eq!(scan(body.as_bytes()).map_err(|error| error.to_string()), Err(fault.to_owned()), "{body}");
    }
    assert_eq!(scan(b"{\"a\":\"\xc3\"}"), Err(ScanError::NotUtf8 { at: 6 }));
    assert_eq!(scan(b"no JSON\xff"), Err(ScanError::NotUtf8 { at: 7 }));
}

#[test]
fn goes_128_levels_deep_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"b\":", "}]")] {
        let levels = open.matches(['[', '{']).count();
        let nested = |depth: usize| {
            let inner = format!("{}1{}", open.repeat(depth / levels), close.repeat(depth / levels));
            if depth.is_multiple_of(levels) { inner } else { format!("[{inner}]") }
        };
        let body = |depth: usize| format!("{{\"a\":{},\"b\":[]}}", nested(depth - 1));
        assert_eq!(scan(body(128).as_bytes()).map(|found| found.members.len()), Ok(2));
        assert!(matches!(scan(body(129).as_bytes()), Err(ScanError::TooDeep { .. })), "{open}");
    }
    assert_eq!(scan(&b"{\"a\":".repeat(1 << 20)), Err(ScanError::TooDeep { at: 5 * 128 }));
}

#[test]
fn agrees_with_serde_json_on_the_corners_of_the_grammar() {
    let values = "0 -0 -0.0e-0 1E+9 1e999 10 1. .1 -01 +1 1e 1e+ 0x1 NaN nul null nulll truefalse [] [,] [1,] [[],{}] {} {\"\":0} \
        {\"a\":1,\"a\":2} {1:2} {,} 'a' \"\\u0000\" \"\\ud800\" \"\\uD83D\\uDE00\" \"\\u12\" \"\\\" \"\\/\\b\\f\\n\\r\\t\" \"\x7f\u{80}\u{2028}\" \"\x1f\" /**/1";
    for value in values.split(' ') {
        agrees(format!("{{\"a\":{value}}}").as_bytes());
        agrees(format!("\t{{ \"a\" :\r\n{value} , \"b\":[{value},{{\"c\":{value}}}]}}\n").as_bytes());
    }
}

#[test]
fn agrees_with_serde_json_on_every_byte_in_a_string() {
    for byte in 0..=u8::MAX {
        for (before, after) in [("", ""), ("\\", ""), ("", "x"), ("\\", "x"), ("\\u00", "a")] {
            for room in [0, 70] {
                let room = " ".repeat(room);
                let start = format!("{{\"a\":\"{room}{before}");
                agrees(&[start.as_bytes(), &[byte], after.as_bytes(), room.as_bytes(), b"\"}"].concat());
            }
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        "[ -~\\n\\u{1}é世😀\"\\\\]{0,90}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let object = prop::collection::vec(("model|stream|[a-z\"\\\\é]{0,40}", inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            object.prop_map(|all| all.into_iter().collect())
        ]
    })
}

#[test]
fn numbers_are_read_from_an_object_that_more_may_follow() {
    let read = |json: &str| numbers(json.as_bytes(), ["a", "b"]);
    for json in
        ["{\"a\":1,\"b\":20}", " {\"x\":[{\"a\":9}],\"b\": 20 , \"a\" :1 } , \"z\":", "{\"b\":20,\"a\":1}}"]
    {
        assert_eq!(read(json), Some([1, 20]), "{json}");
    }
    assert_eq!(read("{}"), Some([0, 0]));
    assert_eq!(read("{\"b\":18446744073709551615}"), Some([0, u64::MAX]));
    for json in [
        "",
        "[]",
        "null",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":-1}",
        "{\"a\":1.0}",
        "{\"a\":1e2}",
        "{\"a\":null}",
        "{\"a\":\"1\"}",
        "{\"a\":18446744073709551616}",
        "{\"x\":tru}",
        "{\"x\":1 \"a\":2}",
    ] {
        assert_eq!(read(json), None, "{json}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_serde_json_on_spoilt_bodies(
        value in values(), pretty: bool, spoils in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 0..3),
    ) {
        let whole = serde_json::json!({ "model": value, "stream": true });
        let mut body = if pretty { serde_json::to_vec_pretty(&whole) } else { serde_json::to_vec(&whole) }.expect("JSON");
        agrees(&body);
        for (index, kind, byte) in spoils {
            let at = index.index(body.len());
            let byte = *b"\"\\{}[]:, \nu0-.e\x01\x80".get(usize::from(byte % 24)).unwrap_or(&byte);
            body.splice(at..at + usize::from(kind != 0), (kind != 1).then_some(byte));
            agrees(&body);
        }
    }

    #[test]
    fn agrees_with_serde_json_on_heaps_of_tokens(tokens in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u006dodel\":", "\"a long string, \\\"longer\\\" than a block of bytes\"", "1", "-", "0", ".5", "e7", "true", "null", " ", "\"", "\\",
    ]), 0..9)) {
        agrees(format!("{{\"k\":{}}}", tokens.concat()).as_bytes());
        agrees(format!("{{{}}}", tokens.concat()).as_bytes());
    }
}
