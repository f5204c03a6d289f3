//! What a translation could not carry over: noted for the answer's headers, or refused where the integration is strict.

use std::borrow::Cow;

use super::Untranslatable;
use crate::outbound::{Done, Report};

/// Collects the changes of one translation.
#[derive(Debug)]
pub(super) struct Losses {
    report: Report,
    strict: bool,
}

impl Losses {
    /// An empty collection; with `strict` every loss is a refusal.
    pub(super) fn new(strict: bool) -> Self {
        Self { report: Report::default(), strict }
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
        if self.strict {
            let message = format!("{why}; this integration is strict, so leave the field out");
            return Err(Untranslatable::unsupported(field, message));
        }
        self.report.note(what, field, why);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_integration_refuses_what_would_be_lost_but_not_what_is_set_by_default() {
        let mut losses = Losses::new(true);
        losses.defaulted("max_tokens", "x");
        assert_eq!(losses.dropped("seed", "no seed").unwrap_err().param, "seed");
        assert!(losses.changed("temperature", "x").is_err());
        assert_eq!(losses.into_report().changes.len(), 1);
    }
}
