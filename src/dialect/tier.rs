//! The tier of service that a client asks for, by the names that a provider has for its own.

use super::Untranslatable;
use super::loss::Losses;
use crate::openai::ChatRequest;
use crate::openai::json::Text;

/// The provider's name of the `service_tier` that `request` asks for: `names` has what a client may say, and then that.
/// Nothing for `auto`, which all do unasked, and for what is not among them: that is dropped, and `why` told.
pub(super) fn asked(
    request: &ChatRequest<'_>,
    names: &[(&str, &'static str)],
    why: &'static str,
    losses: &mut Losses,
) -> Result<Option<&'static str>, Untranslatable> {
    let Some(raw) = request.other("service_tier") else { return Ok(None) };
    let tier = Text::read(raw).and_then(Text::decode);
    let known = names.iter().find(|(said, _)| tier.as_deref() == Some(said)).map(|(_, name)| *name);
    if known.is_none() && tier.as_deref() != Some("auto") {
        losses.dropped("service_tier", why)?;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_told_by_the_providers_name_or_as_left_out() {
        let names = [("default", "standard"), ("flex", "flex")];
        for (given, name, is_lost) in [
            (r#""default""#, Some("standard"), false),
            (r#""\u0066lex""#, Some("flex"), false),
            (r#""auto""#, None, false),
            (r#""scale""#, None, true),
            ("3", None, true),
            ("null", None, false),
        ] {
            let body = format!(r#"{{"messages":[],"service_tier":{given}}}"#);
            let mut losses = Losses::new(false);
            let request = ChatRequest::read(body.as_bytes()).unwrap();
            let asked = asked(&request, &names, "it has no such tier", &mut losses).unwrap();
            assert_eq!(asked, name, "{given}");
            assert_eq!(losses.into_report().lost().count(), usize::from(is_lost), "{given}");
        }
    }
}
