//! What the models on Bedrock take beyond Converse's common ground, by family: the one place to touch for a new one.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html>. A family is found by what its
//! models' names hold, with or without a region before them and inside of an ARN. Whatever the table gets wrong for a
//! model behind another name can be overridden with `defaults`, `rename` and `drop`, which act before it.

use super::cache::{self, Caching};
use crate::dialect::claude::{self, Rules, Sampling};

/// What one family takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Which of `temperature` and `top_p`.
    pub(super) sampling: Sampling,
    /// How it is told an effort.
    pub(super) effort: Effort,
    /// Where `top_k` stands in its own fields.
    pub(super) top_k: TopK,
    /// Which other parameters of OpenAI's it knows as its own, by the same names.
    pub(super) own: &'static [&'static str],
    /// How its answer is held to a schema.
    pub(super) schema: Schema,
    /// Where it takes cache points.
    pub(super) caching: Caching,
}

/// How a family is told an effort.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effort {
    /// Not at all, or we do not know.
    Untold,
    /// As Claude is.
    Claude(Rules),
    /// In OpenAI's own words: low, medium, high.
    Word,
    /// As Nova is: low, medium, high, and off by default.
    Nova,
}

/// Where `top_k` stands among a family's own fields.
#[derive(Clone, Copy, Debug)]
pub(super) enum TopK {
    /// Nowhere.
    Nowhere,
    /// Under this name.
    Named(&'static str),
    /// As `topK` inside of its own `inferenceConfig`.
    Inference,
}

/// How a family's answer is held to a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// By Converse's own field, and its calls by the tools' `strict`.
    Native,
    /// By a tool that it is made to call.
    Tool,
    /// Not at all.
    Never,
}

impl Family {
    /// Whether it is Claude.
    pub(super) fn is_claude(&self) -> bool {
        matches!(self.effort, Effort::Claude(_))
    }
}

/// The family of `model`.
pub(super) fn family(model: &str) -> Family {
    if model.contains("claude") {
        let rules = claude::rules(model);
        return Family {
            sampling: rules.sampling,
            effort: Effort::Claude(rules),
            top_k: TopK::Named("top_k"),
            own: &[],
            schema: if rules.structured { Schema::Native } else { Schema::Tool },
            caching: cache::of_claude(model),
        };
    }
    match TABLE.iter().find(|(sign, _)| model.contains(sign)) {
        Some((_, family)) => *family,
        // An application's own profile may be one of a model that caches; other names tell a vendor whose models do not.
        None if model.starts_with("arn:") => Family { caching: Caching::All { hour: true }, ..UNKNOWN },
        None => UNKNOWN,
    }
}

/// The first line whose sign a name holds counts.
const TABLE: [(&str, Family); 14] = [
    ("nova-2", Family { effort: Effort::Nova, ..NOVA }),
    ("amazon.nova", NOVA),
    ("titan", plain(Schema::Never)),
    ("openai.", Family { effort: Effort::Word, ..plain(Schema::Native) }),
    ("cohere.command-r", Family { top_k: TopK::Named("k"), own: &COMMAND, ..plain(Schema::Never) }),
    ("cohere.", plain(Schema::Never)),
    ("ai21.jamba", Family { own: &PENALTIES, ..plain(Schema::Never) }),
    ("ai21.", plain(Schema::Never)),
    ("meta.llama", plain(Schema::Never)),
    ("mistral-7b", Family { top_k: TopK::Named("top_k"), ..plain(Schema::Never) }),
    ("mixtral", Family { top_k: TopK::Named("top_k"), ..plain(Schema::Never) }),
    ("mistral-large-24", plain(Schema::Never)),
    ("mistral-small-24", plain(Schema::Never)),
    ("deepseek.r1", plain(Schema::Never)),
];

/// A name that does not tell, such as an application's own profile: nothing is held back but what cannot be guessed.
const UNKNOWN: Family = plain(Schema::Native);

const NOVA: Family = Family { top_k: TopK::Inference, caching: Caching::Messages, ..plain(Schema::Tool) };

const PENALTIES: [&str; 2] = ["presence_penalty", "frequency_penalty"];
const COMMAND: [&str; 3] = ["presence_penalty", "frequency_penalty", "seed"];

const fn plain(schema: Schema) -> Family {
    Family {
        sampling: Sampling::All,
        effort: Effort::Untold,
        top_k: TopK::Nowhere,
        own: &[],
        schema,
        caching: Caching::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_in_every_form_of_a_name() {
        for (name, wanted) in [
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", Schema::Tool),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Schema::Native),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.amazon.nova-pro-v1:0", Schema::Tool),
            ("meta.llama3-1-70b-instruct-v1:0", Schema::Never),
            ("mistral.mistral-large-3-675b-instruct", Schema::Native),
            ("mistral.mistral-large-2407-v1:0", Schema::Never),
            ("qwen.qwen3-32b-v1:0", Schema::Native),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123", Schema::Native),
        ] {
            assert_eq!(family(name).schema, wanted, "{name}");
        }
    }

    #[test]
    fn a_familys_own_parameters_are_known() {
        assert!(family("eu.anthropic.claude-3-haiku-20240307-v1:0").is_claude());
        assert!(matches!(family("us.amazon.nova-2-lite-v1:0").effort, Effort::Nova));
        assert!(matches!(family("us.amazon.nova-lite-v1:0").effort, Effort::Untold));
        assert!(matches!(family("openai.gpt-oss-120b-1:0").effort, Effort::Word));
        assert!(matches!(family("cohere.command-r-plus-v1:0").top_k, TopK::Named("k")));
        assert_eq!(family("ai21.jamba-1-5-large-v1:0").own, PENALTIES);
    }
}
