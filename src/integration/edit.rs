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
        if !request.has(field) {
            request.set(field, json.clone());
            report.note(Done::Defaulted, field.clone(), "`defaults` of the integration");
        }
    }
    for (from, to) in &edits.rename {
        if request.rename(from, to) {
            report.note(Done::Renamed, from.clone(), format!("`rename` of the integration: to {to}"));
        }
    }
    for field in &edits.drop {
        if request.drop_field(field) {
            report.dropped(field.clone(), "`drop` of the integration");
        }
    }
    Ok(())
}

fn filter(
    settings: &valid::Integration,
    supported: &[String],
    request: &mut Envelope,
    report: &mut Report,
) -> Result<(), Refused> {
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
    fn strict_refuses_what_would_be_filtered() {
        let mut settings = integration("acme", &["m"]);
        settings.strict = true;
        settings.models[0].supported = Some(vec![]);
        assert_eq!(edited(&settings, r#"{"model":"m","top_p":1}"#).unwrap_err().param, "top_p");
        assert!(edited(&settings, r#"{"model":"m","top_p":null}"#).is_ok());
    }
}
