//! What a family of models takes beyond Converse's common ground: `additionalModelRequestFields`, and how an effort is
//! told.

use serde_json::Value;

use super::models::{Effort, Family, TopK};
use crate::dialect::Untranslatable;
use crate::dialect::claude::thinking::{self, Plan, Setting};
use crate::dialect::loss::Losses;
use crate::openai::ChatRequest;
use crate::openai::json::{Object, Writer};

/// How the client's effort is told to the model.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'a> {
    /// Not at all.
    Nothing,
    /// As Claude's thinking.
    Claude {
        /// What is said.
        plan: Plan<'a>,
        /// The limit of tokens that it was made for.
        max_tokens: u64,
    },
    /// As a word.
    Word(&'static str),
    /// As Nova's reasoning.
    Nova(&'static str),
}

impl<'a> Told<'a> {
    /// Decides how the effort of `request` is told to a model of `family`.
    pub(super) fn of(
        request: &ChatRequest<'a>,
        family: &Family,
        setting: Setting,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        if let Effort::Claude(rules) = family.effort {
            let max_tokens = request.token_limit().unwrap_or(rules.default_max_tokens);
            let plan = thinking::plan(request, setting, rules, max_tokens, losses)?;
            return Ok(Self::Claude { plan, max_tokens });
        }
        if request.other(THINKING).is_some() {
            losses.dropped(THINKING, "only Claude's models know it")?;
        }
        let Some(effort) = request.reasoning_effort else { return Ok(Self::Nothing) };
        let effort = effort.decode().unwrap_or_default();
        match family.effort {
            Effort::Word => Ok(degree(&effort, losses)?.map_or(Self::Nothing, Self::Word)),
            // It does not reason unless it is told to.
            Effort::Nova if effort == "none" => Ok(Self::Nothing),
            Effort::Nova => match degree(&effort, losses)? {
                Some("high") if has_limits(request) => {
                    let why = "`medium` is the most that goes with max_tokens, temperature, top_p or top_k";
                    losses.changed(FIELD, why)?;
                    Ok(Self::Nova("medium"))
                }
                degree => Ok(degree.map_or(Self::Nothing, Self::Nova)),
            },
            Effort::Untold | Effort::Claude(_) => {
                losses.dropped(FIELD, "this model is not known to take an effort")?;
                Ok(Self::Nothing)
            }
        }
    }

    /// The limit of tokens that must be sent for it although the client gave none.
    pub(super) fn needs_limit(self) -> Option<u64> {
        match self {
            Self::Claude { plan: Plan::Budget(_), max_tokens } => Some(max_tokens),
            _ => None,
        }
    }

    /// Converse's own word for it.
    pub(super) fn effort(self) -> Option<&'static str> {
        if let Self::Claude { plan, .. } = self { plan.effort() } else { None }
    }
}

const FIELD: &str = "reasoning_effort";
const THINKING: &str = "thinking";

/// The client's own members for a model, in Converse's words.
pub(super) const OWN: &str = "additionalModelRequestFields";

fn has_limits(request: &ChatRequest<'_>) -> bool {
    let sampled = request.temperature.is_some() || request.top_p.is_some() || request.top_k.is_some();
    sampled || request.token_limit().is_some()
}

/// The nearest of low, medium and high.
fn degree(effort: &str, losses: &mut Losses) -> Result<Option<&'static str>, Untranslatable> {
    let word = match effort {
        "low" => return Ok(Some("low")),
        "medium" => return Ok(Some("medium")),
        "high" => return Ok(Some("high")),
        "minimal" => "low",
        "xhigh" | "max" => "high",
        _ => {
            losses.dropped(FIELD, "this model knows no such degree of effort")?;
            return Ok(None);
        }
    };
    losses.changed(FIELD, format!("`{word}` is the nearest that this model knows"))?;
    Ok(Some(word))
}

/// Writes `additionalModelRequestFields`, if there is anything to say.
pub(super) fn write(
    request: &ChatRequest<'_>,
    family: &Family,
    (told, top_k): (Told<'_>, Option<u64>),
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mut fields = Fields::of(request)?;
    for name in family.own {
        if let Some(value) = value(request, name) {
            fields.add(name, (name, value), losses)?;
        }
    }
    if let Some(top_k) = top_k {
        match family.top_k {
            TopK::Nowhere => losses.dropped("top_k", "this model is not known to take it")?,
            TopK::Named(name) => fields.add("top_k", (name, top_k.into()), losses)?,
            TopK::Inference => {
                let inner = serde_json::json!({ "topK": top_k });
                fields.add("top_k", ("inferenceConfig", inner), losses)?;
            }
        }
    }
    match told {
        Told::Word(word) => fields.add(FIELD, (FIELD, word.into()), losses)?,
        Told::Nova(word) => {
            let inner = serde_json::json!({ "type": "enabled", "maxReasoningEffort": word });
            fields.add(FIELD, ("reasoningConfig", inner), losses)?;
        }
        Told::Nothing | Told::Claude { .. } => {}
    }
    let mut plan = if let Told::Claude { plan, .. } = told { plan } else { Plan::Nothing };
    if thinks(plan) && fields.has(THINKING) {
        let field = if matches!(plan, Plan::AsSent(_)) { THINKING } else { FIELD };
        losses.dropped(field, format!("{OWN} says `{THINKING}` already"))?;
        plan = Plan::Nothing;
    }
    fields.write(plan, json);
    Ok(())
}

/// Whether a plan has a word for the model's own fields.
fn thinks(plan: Plan<'_>) -> bool {
    !matches!(plan, Plan::Nothing | Plan::Effort { think: false, .. })
}

/// One of the parameters that some family knows by OpenAI's name.
fn value(request: &ChatRequest<'_>, name: &str) -> Option<Value> {
    match name {
        "presence_penalty" => request.presence_penalty.filter(|penalty| *penalty != 0.0).map(Value::from),
        "frequency_penalty" => request.frequency_penalty.filter(|penalty| *penalty != 0.0).map(Value::from),
        "seed" => request.seed.map(Value::from),
        _ => None,
    }
}

/// The members of `additionalModelRequestFields`: the client's own as they came, and ours.
#[derive(Debug)]
struct Fields<'a> {
    own: Option<Object<'a>>,
    ours: Vec<(&'static str, Value)>,
}

impl<'a> Fields<'a> {
    fn of(request: &ChatRequest<'a>) -> Result<Self, Untranslatable> {
        let own = request.other(OWN).map(|raw| {
            Object::read(raw.get()).map_err(|_| Untranslatable::malformed(OWN, "this must be an object"))
        });
        Ok(Self { own: own.transpose()?, ours: Vec::new() })
    }

    fn has(&self, name: &str) -> bool {
        self.own.as_ref().is_some_and(|own| own.members().any(|(own, _)| own == name))
    }

    /// Adds what stands for the client's `field`, unless the client has said it in the model's own words too.
    fn add(
        &mut self,
        field: &'static str,
        (name, value): (&'static str, Value),
        losses: &mut Losses,
    ) -> Result<(), Untranslatable> {
        if self.has(name) {
            return losses.dropped(field, format!("{OWN} says `{name}` already"));
        }
        self.ours.push((name, value));
        Ok(())
    }

    fn write(&self, plan: Plan<'_>, json: &mut Writer<'_>) {
        if self.ours.is_empty() && self.own.is_none() && !thinks(plan) {
            return;
        }
        json.key(OWN);
        json.object();
        for (name, value) in self.own.iter().flat_map(Object::members) {
            json.name(name);
            json.raw(value.get());
        }
        for (name, value) in &self.ours {
            json.key(name);
            json.value(value);
        }
        plan.write(json);
        json.end_object();
    }
}
