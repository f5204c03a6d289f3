//! The configured edits of an OpenAI body, made before translation and spliced into the bytes as they came.

use crate::config::valid;
use crate::openai::Envelope;
use crate::outbound::{Done, Report};

/// Galileo's list of parameters, as they stand on OpenAI's wire: `supported_parameters` filters these and no others.
const GALILEO: [&str; 16] = [
    "temperature",
    "max_tokens",
    "stop",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "echo",
    "logprobs",
    "top_logprobs",
    "n",
    "tools",
    "tool_choice",
    "response_format",
    "reasoning_effort",
    "verbosity",
];

/// What providers refuse where it stands without `tools`.
const OF_TOOLS: [&str; 2] = ["tool_choice", "parallel_tool_calls"];

/// A field that this integration does not take: a 400 that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The path of the field.
    pub param: String,
    /// What is wrong, for the client.
    pub message: String,
    /// Whether the integration lacks it (rather than the body being malformed).
    pub unsupported: bool,
}

pub(super) fn apply(
    settings: &valid::Integration,
    model: &valid::Model,
    request: &mut Envelope,
    report: &mut Report,
) -> Result<(), Refused> {
    request.set_model(model.name.as_str());
    if let Some(supported) = &model.supported {
        filter(settings, supported, request, report)?;
    }
    let edits = &settings.edits;
    for (field, json) in &edits.defaults {
        if !is_given(field, edits, request) {
            request.set_default(field, json.clone());
            report.note(Done::Defaulted, field.clone(), "`defaults` of the integration");
        }
    }
    for (from, to) in &edits.rename {
        rename(settings, (from, to), request, report)?;
    }
    for field in &edits.drop {
        let is_default = request.is_default(field);
        if request.drop_field(field) && !is_default {
            report.dropped(field.clone(), "`drop` of the integration");
        }
    }
    Ok(())
}

/// OpenAI's names for the limit of tokens, which stand for each other: the old one and the newer one, which wins.
const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Whether the client gave `field`, by its name, by one that it is renamed from or to, or by OpenAI's other one.
fn is_given(field: &str, edits: &valid::Edits, request: &Envelope) -> bool {
    let gave = |name: &str| request.has(name) && !request.is_default(name);
    let is_limit = LIMITS.contains(&field);
    gave(field)
        || (is_limit && LIMITS.iter().any(|name| gave(name)))
        || edits.rename.iter().any(|(from, to)| (to == field && gave(from)) || (from == field && gave(to)))
}

/// Renames a field. Where both names were given, what `to` says counts, or of OpenAI's two limits the newer one.
fn rename(
    settings: &valid::Integration,
    (from, to): (&str, &str),
    request: &mut Envelope,
    report: &mut Report,
) -> Result<(), Refused> {
    if from == to {
        return Ok(());
    }
    if !request.has(from) {
        // A `null` says nothing, and would say it under a name that the model does not know.
        request.drop_field(from);
        return Ok(());
    }
    if request.has(to) {
        let [old, new] = LIMITS;
        let (kept, lost) = if (from, to) == (new, old) { (from, to) } else { (to, from) };
        if request.raw(kept) != request.raw(lost) && !request.is_default(lost) {
            let why = format!("`rename` of the integration makes it one with `{kept}`, which was given too");
            if settings.strict {
                let message = format!("{why}, and strict = true: leave one of them out");
                return Err(Refused { param: lost.to_owned(), message, unsupported: true });
            }
            report.dropped(lost.to_owned(), why);
        }
        request.drop_field(lost);
    }
    if request.rename(from, to) {
        report.note(Done::Renamed, from.to_owned(), format!("`rename` of the integration: to {to}"));
    }
    Ok(())
}

fn filter(
    settings: &valid::Integration,
    supported: &[String],
    request: &mut Envelope,
    report: &mut Report,
) -> Result<(), Refused> {
    let had_tools = request.has("tools");
    for field in GALILEO {
        if supported.iter().any(|s| s == field) || request.raw(field).is_none() {
            continue;
        }
        if settings.strict && request.has(field) {
            return Err(Refused {
                param: field.to_owned(),
                message: format!(
                    "`{field}` is not in supported_parameters of integration `{}`, and strict = true",
                    settings.name
                ),
                unsupported: true,
            });
        }
        request.drop_field(field);
        report.dropped(field, "not in `supported_parameters`");
    }
    if had_tools && !request.has("tools") {
        for field in OF_TOOLS.into_iter().filter(|field| request.drop_field(field)) {
            report.dropped(field, "`tools` is not in `supported_parameters`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integration::registry::tests::integration;
    use bytes::Bytes;

    fn edited(settings: &valid::Integration, body: &str) -> Result<(String, Report), Refused> {
        let mut envelope = Envelope::read(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let mut report = Report::default();
        apply(settings, &settings.models[0], &mut envelope, &mut report)?;
        Ok((String::from_utf8(envelope.body().joined().to_vec()).unwrap(), report))
    }

    #[test]
    fn defaults_come_before_rename_and_rename_before_drop() {
        let mut settings = integration("acme", &["m"]);
        settings.edits = valid::Edits {
            defaults: vec![("max_tokens".into(), "1024".into()), ("temperature".into(), "0".into())],
            rename: vec![("max_tokens".into(), "max_completion_tokens".into())],
            drop: vec!["user".into()],
        };
        let (body, report) = edited(&settings, r#"{"model":"m","user":"u","temperature":null}"#).unwrap();
        assert_eq!(body, r#"{"model":"m","temperature":0,"max_completion_tokens":1024}"#);
        assert_eq!(report.changes.len(), 4);
    }

    fn limited(rename: Option<(&str, &str)>) -> valid::Integration {
        let mut settings = integration("acme", &["m"]);
        settings.edits = valid::Edits {
            defaults: vec![("max_tokens".into(), "1024".into())],
            rename: rename.into_iter().map(|(from, to)| (from.into(), to.into())).collect(),
            drop: vec![],
        };
        settings
    }

    fn lost(report: &Report) -> Vec<&str> {
        report.lost().map(|change| change.field.as_ref()).collect()
    }

    #[test]
    fn a_default_for_one_limit_is_given_by_the_other() {
        for rename in [
            None,
            Some(("max_tokens", "max_completion_tokens")),
            Some(("max_completion_tokens", "max_tokens")),
        ] {
            let (settings, to) = (limited(rename), rename.map_or("max_completion_tokens", |(_, to)| to));
            let (body, report) = edited(&settings, r#"{"model":"m","max_completion_tokens":50}"#).unwrap();
            assert_eq!(body, format!(r#"{{"model":"m","{to}":50}}"#));
            assert_eq!(lost(&report), [""; 0]);
        }
        let body = r#"{"model":"m","max_completion_tokens":null}"#;
        assert!(edited(&limited(None), body).unwrap().0.contains(r#""max_tokens":1024"#));
    }

    #[test]
    fn a_default_is_given_by_any_name_that_it_is_renamed_from_or_to() {
        let settings = limited(Some(("max_tokens", "limit")));
        assert_eq!(edited(&settings, r#"{"model":"m","limit":5}"#).unwrap().0, r#"{"model":"m","limit":5}"#);
        let mut settings = limited(Some(("limit", "max_tokens")));
        settings.strict = true;
        assert_eq!(
            edited(&settings, r#"{"model":"m","limit":5}"#).unwrap().0,
            r#"{"model":"m","max_tokens":5}"#
        );
        assert_eq!(edited(&settings, r#"{"model":"m"}"#).unwrap().0, r#"{"model":"m","max_tokens":1024}"#);
    }

    #[test]
    fn of_two_fields_that_become_one_the_other_is_told() {
        let both = r#"{"model":"m","max_tokens":60,"max_completion_tokens":50}"#;
        for (from, to, lose) in [
            ("max_tokens", "max_completion_tokens", "max_tokens"),
            ("max_completion_tokens", "max_tokens", "max_tokens"),
        ] {
            let mut settings = limited(Some((from, to)));
            let (body, report) = edited(&settings, both).unwrap();
            assert_eq!(body, format!(r#"{{"model":"m","{to}":50}}"#));
            assert_eq!(lost(&report), [lose]);
            settings.strict = true;
            assert_eq!(edited(&settings, both).unwrap_err().param, lose);
            let alike = both.replace("60", "50");
            assert_eq!(edited(&settings, &alike).unwrap().0, format!(r#"{{"model":"m","{to}":50}}"#));
        }
        let (body, report) =
            edited(&limited(Some(("a", "b"))), r#"{"model":"m","a":1,"b":2,"max_tokens":3}"#).unwrap();
        assert_eq!((&*body, &*lost(&report)), (r#"{"model":"m","b":2,"max_tokens":3}"#, &["a"][..]));
    }

    #[test]
    fn a_null_counts_as_absent_under_the_old_name_and_the_new_one() {
        for (strict, body, want) in [
            (true, r#"{"max_tokens":60,"max_completion_tokens":null}"#, r#"{"max_completion_tokens":60}"#),
            (true, r#"{"max_completion_tokens":null,"max_tokens":60}"#, r#"{"max_completion_tokens":60}"#),
            (true, r#"{"max_tokens":null,"max_completion_tokens":60}"#, r#"{"max_completion_tokens":60}"#),
            (false, r#"{"max_tokens":null,"max_completion_tokens":60}"#, r#"{"max_completion_tokens":60}"#),
            (false, r#"{"max_tokens":null}"#, "{}"),
        ] {
            let mut settings = limited(Some(("max_tokens", "max_completion_tokens")));
            settings.edits.defaults.clear();
            settings.strict = strict;
            let (edited, report) = edited(&settings, body).unwrap();
            let mut sent: serde_json::Value = serde_json::from_str(&edited).unwrap();
            sent.as_object_mut().unwrap().remove("model");
            assert_eq!(sent.to_string(), want, "{body}");
            assert_eq!(lost(&report), [""; 0], "{body}");
        }
    }

    #[test]
    fn a_default_that_is_left_out_again_is_not_told_as_the_clients() {
        let mut settings = limited(None);
        settings.edits.drop = vec!["max_tokens".into()];
        let (body, report) = edited(&settings, r#"{"model":"m"}"#).unwrap();
        assert_eq!((&*body, &*lost(&report)), (r#"{"model":"m"}"#, &[][..] as &[&str]));
    }

    #[test]
    fn only_galileos_parameters_are_filtered_and_only_where_a_list_is_given() {
        let mut settings = integration("acme", &["m"]);
        let body = r#"{"model":"m","messages":[],"stream":true,"top_k":1,"temperature":1,"seed":3}"#;
        assert_eq!(edited(&settings, body).unwrap().0, body);
        settings.models[0].supported = Some(vec!["temperature".into()]);
        let (filtered, report) = edited(&settings, body).unwrap();
        assert_eq!(filtered, r#"{"model":"m","messages":[],"stream":true,"temperature":1,"seed":3}"#);
        assert_eq!(report.lost().map(|c| c.field.as_ref()).collect::<Vec<_>>(), ["top_k"]);
    }

    #[test]
    fn what_belongs_to_tools_goes_with_them() {
        let mut settings = integration("acme", &["m"]);
        let body = r#"{"model":"m","tools":[{}],"tool_choice":"none","parallel_tool_calls":false,"seed":3}"#;
        settings.models[0].supported = Some(vec!["tool_choice".into()]);
        let (filtered, report) = edited(&settings, body).unwrap();
        assert_eq!(filtered, r#"{"model":"m","seed":3}"#);
        assert_eq!(lost(&report), ["tools", "tool_choice", "parallel_tool_calls"]);
        let alone = r#"{"model":"m","parallel_tool_calls":false}"#;
        assert_eq!(
            edited(&settings, alone).unwrap().0,
            alone,
            "only what the list takes away is ours to mend"
        );
        settings.models[0].supported = Some(vec!["tools".into(), "tool_choice".into()]);
        assert_eq!(edited(&settings, body).unwrap().0, body);
    }

    #[test]
    fn strict_refuses_what_would_be_filtered() {
        let mut settings = integration("acme", &["m"]);
        settings.strict = true;
        settings.models[0].supported = Some(vec![]);
        assert_eq!(edited(&settings, r#"{"model":"m","top_p":1}"#).unwrap_err().param, "top_p");
        assert!(edited(&settings, r#"{"model":"m","top_p":null}"#).is_ok());
    }
}
