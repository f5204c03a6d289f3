//! What a translation could not carry over: noted for the answer's headers, or refused where the integration is strict.

use std::borrow::Cow;

use super::{Context, Untranslatable};
use crate::openai::Envelope;
use crate::openai::tool::Tool;
use crate::outbound::{Done, Report};

/// Collects the changes of one translation.
#[derive(Debug)]
pub(super) struct Losses {
    report: Report,
    strict: bool,
    /// The fields that the client did not give: `defaults` set them.
    ours: Vec<String>,
}

impl Losses {
    /// An empty collection; with `strict` every loss is a refusal.
    pub(super) fn new(strict: bool) -> Self {
        Self { report: Report::default(), strict, ours: Vec::new() }
    }

    /// An empty collection for `request`: what `defaults` set is noted, but is neither the client's loss nor a refusal.
    pub(super) fn of(request: &Envelope, context: &Context<'_>) -> Self {
        Self { ours: request.defaults().to_vec(), ..Self::new(context.strict) }
    }

    /// `field` is left out.
    pub(super) fn dropped(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Result<(), Untranslatable> {
        self.lost(Done::Dropped, field.into(), why.into())
    }

    /// `field` is sent with another value.
    pub(super) fn changed(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Result<(), Untranslatable> {
        self.lost(Done::Changed, field.into(), why.into())
    }

    /// `field` is set because the client gave none, which is no loss.
    pub(super) fn defaulted(&mut self, field: &'static str, why: impl Into<Cow<'static, str>>) {
        self.report.note(Done::Defaulted, field, why);
    }

    /// The fields of `tool` that the format does not know, but for `known`; `place` is where the function stands.
    pub(super) fn beyond_tool(
        &mut self,
        tool: &Tool<'_>,
        known: Option<&str>,
        place: &str,
        why: &'static str,
    ) -> Result<(), Untranslatable> {
        for (name, _) in tool.others.iter().filter(|(name, _)| known != Some(&**name)) {
            let item = place.strip_suffix(".function").unwrap_or(place);
            self.dropped(format!("{item}.{name}"), why)?;
        }
        Ok(())
    }

    /// All that was noted.
    pub(super) fn into_report(self) -> Report {
        self.report
    }

    fn lost(
        &mut self,
        what: Done,
        field: Cow<'static, str>,
        why: Cow<'static, str>,
    ) -> Result<(), Untranslatable> {
        if self.ours.iter().any(|name| is_within(&field, name)) {
            self.report.note(Done::Defaulted, field, format!("{why}; `defaults` had set it"));
            return Ok(());
        }
        if self.strict {
            let message = format!("{why}; this integration is strict, so leave the field out");
            return Err(Untranslatable::unsupported(field, message));
        }
        self.report.note(what, field, why);
        Ok(())
    }
}

/// Whether the path `field` leads to the top-level field `name` or into it.
fn is_within(field: &str, name: &str) -> bool {
    field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_defaults_set_is_nobodys_loss() {
        let mut losses = Losses { ours: vec!["seed".to_owned()], ..Losses::new(true) };
        assert!(losses.dropped("seed", "no seed").is_ok() && losses.changed("seed[0].x", "no").is_ok());
        assert!(losses.dropped("seeds", "no seeds").is_err());
        let report = losses.into_report();
        assert_eq!((report.changes.len(), report.lost().count()), (2, 0));
    }

    #[test]
    fn a_strict_integration_refuses_what_would_be_lost_but_not_what_is_set_by_default() {
        let mut losses = Losses::new(true);
        losses.defaulted("max_tokens", "x");
        assert_eq!(losses.dropped("seed", "no seed").unwrap_err().param, "seed");
        assert!(losses.changed("temperature", "x").is_err());
        assert_eq!(losses.into_report().changes.len(), 1);
    }
}
