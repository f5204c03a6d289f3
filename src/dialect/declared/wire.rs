//! What an expression gave, written as JSON.

use bytes::{BufMut, BytesMut};
use minijinja::Value;
use minijinja::value::{DynObject, ObjectRepr, ValueKind};

use super::messages::{Messages, Turn};
use super::tree::{Members, Nested};
use crate::openai::json;

/// Writes `value`, the same as serde_json would, but that what stands in a message, or deep, stays as it came.
///
/// # Errors
/// `out` would become longer than `most` bytes, or something has no form in JSON; in words.
pub(super) fn write(value: &Value, most: usize, out: &mut BytesMut) -> Result<(), String> {
    match (value.as_object(), value.kind(), value.as_str()) {
        (Some(object), ..) => write_object(object, value, most, out)?,
        (None, ValueKind::String, Some(text)) => json::quote(text, out),
        _ => by_serde(value, out)?,
    }
    bound(most, out)
}

/// Refuses what is longer than `most` bytes; in words.
pub(super) fn bound(most: usize, out: &BytesMut) -> Result<(), String> {
    if out.len() > most { Err(format!("it makes more than {most} bytes")) } else { Ok(()) }
}

fn write_object(object: &DynObject, value: &Value, most: usize, out: &mut BytesMut) -> Result<(), String> {
    if let Some(members) = object.downcast_ref::<Members>() {
        let mut open = b'{';
        for (name, value) in members.each() {
            out.put_u8(std::mem::replace(&mut open, b','));
            json::quote(name, out);
            out.put_u8(b':');
            write(value, most, out)?;
        }
        out.extend_from_slice(if open == b'{' { b"{}" } else { b"}" });
        return Ok(());
    }
    if let Some(nested) = object.downcast_ref::<Nested>() {
        out.extend_from_slice(nested.json().as_bytes());
        return Ok(());
    }
    if let Some(turn) = object.downcast_ref::<Turn>() {
        turn.write(out);
        return Ok(());
    }
    if let Some(messages) = object.downcast_ref::<Messages>() {
        messages.write(out);
        return Ok(());
    }
    match object.repr() {
        ObjectRepr::Seq | ObjectRepr::Iterable => {
            let mut open = b'[';
            for item in object.try_iter().into_iter().flatten() {
                out.put_u8(std::mem::replace(&mut open, b','));
                write(&item, most, out)?;
            }
            out.extend_from_slice(if open == b'[' { b"[]" } else { b"]" });
            Ok(())
        }
        ObjectRepr::Map if has_text_keys(object) => {
            let mut open = b'{';
            for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                out.put_u8(std::mem::replace(&mut open, b','));
                json::quote(key.as_str().unwrap_or_default(), out);
                out.put_u8(b':');
                write(&value, most, out)?;
            }
            out.extend_from_slice(if open == b'{' { b"{}" } else { b"}" });
            Ok(())
        }
        _ => by_serde(value, out),
    }
}

fn has_text_keys(object: &DynObject) -> bool {
    object.try_iter().into_iter().flatten().all(|key| key.kind() == ValueKind::String)
}

fn by_serde(value: &Value, out: &mut BytesMut) -> Result<(), String> {
    serde_json::to_writer(out.writer(), value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::declared::engine::Code;
    use crate::dialect::declared::messages::Messages;
    use crate::dialect::declared::tree;

    #[test]
    fn a_value_is_written_as_serde_json_writes_it() {
        let json = br#"{"a":[1,2.5,"x\n\u0001\"\\"],"b":{"c":null},"e":[],"n":18446744073709551615}"#;
        let scope = tree::parse(json).unwrap();
        for source in [
            "a",
            "b",
            "a + [b]",
            "a[2]",
            "{'k': a, 'l': b.c, 'm': none}",
            "{1: 2, true: 3}",
            "[]",
            "{}",
            "a | map('string')",
            "n",
            "-1.5",
            "e",
            "b | items",
            "true",
            "none",
            "x",
            "a | reverse",
            "(1, 2)",
        ] {
            let value = Code::compile(source).unwrap().run(&scope).unwrap();
            let mut out = BytesMut::new();
            write(&value, 1000, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), serde_json::to_string(&value).unwrap(), "{source}");
        }
        let refused = Code::compile("{none: 1}").unwrap().run(&scope).unwrap();
        assert!(write(&refused, 1000, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn what_stands_in_a_message_stays_as_it_came() {
        let json = r#"[{"role":"user","content":[ {"type":"text", "text":"\u00e9"} ],"n":1.0}, {}]"#;
        let scope = Value::from_iter([("m", Value::from_object(Messages::read(json).unwrap()))]);
        for (source, expected) in [("m", json), ("m[:]", &*json.replace("}, {", "},{"))] {
            let mut out = BytesMut::new();
            write(&Code::compile(source).unwrap().run(&scope).unwrap(), 1000, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), expected, "{source}");
        }
    }

    #[test]
    fn what_grows_without_end_is_given_up() {
        let value = Code::compile("[[0] * 1000] * 1000").unwrap().run(&Value::UNDEFINED).unwrap();
        let mut out = BytesMut::new();
        assert!(write(&value, 5000, &mut out).is_err());
        assert!(out.len() < 6000);
    }
}
