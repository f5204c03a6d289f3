//! Cache points: how a client's marks reach Converse, and which models take them where.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>. A model that keeps no cache refuses
//! a request that has a cache point, so there the mark is dropped and the request goes on.

use super::block::{Block, Conversation};
use super::models::Family;
use crate::dialect::Untranslatable;
use crate::dialect::claude;
use crate::dialect::loss::Losses;
use crate::dialect::marks;
use crate::openai::json::{Raw, Text, Writer};

/// Where a family takes cache points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// Nowhere.
    Never,
    /// Among system texts and messages, but not among tools.
    Messages,
    /// Among tools too; whether what is kept may live for an hour.
    All { hour: bool },
}

/// Where a Claude takes cache points.
pub(super) fn of_claude(model: &str) -> Caching {
    let version = claude::version(model);
    if version >= Some((3, 7)) || model.contains("claude-3-5-haiku") {
        Caching::All { hour: version >= Some((4, 5)) }
    } else {
        Caching::Never
    }
}

/// Makes the marks of a conversation cache points as a model of `family` takes them, or takes them out, and says so.
pub(super) fn fit(
    conversation: &mut Conversation<'_>,
    family: &Family,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mut told = Ok(());
    let mut stays = |block: &mut Block<'_>| {
        let Block::Mark(mark) = block else { return true };
        if family.caching == Caching::Never {
            let why = "this model is not known to keep a cache";
            told = told.clone().and_then(|()| losses.dropped(mark.path(), why));
            return false;
        }
        match lives_long(mark.raw, family, || mark.path(), losses) {
            Ok(long) => mark.long = long,
            Err(refused) => told = told.clone().and(Err(refused)),
        }
        true
    };
    conversation.system.retain_mut(&mut stays);
    for turn in &mut conversation.turns {
        turn.results.retain_mut(&mut stays);
        turn.blocks.retain_mut(&mut stays);
    }
    told
}

/// Whether the mark at `path` makes an hour of the usual five minutes; notes a life that the model cannot give.
pub(super) fn lives_long(
    mark: Raw<'_>,
    family: &Family,
    path: impl Fn() -> String,
    losses: &mut Losses,
) -> Result<bool, Untranslatable> {
    match marks::life(mark).and_then(Text::decode).as_deref() {
        None | Some("5m") => Ok(false),
        Some("1h") if family.caching == (Caching::All { hour: true }) => Ok(true),
        Some(_) => {
            let why = "this model is not known to keep its cache for any other time than five minutes";
            losses.dropped(format!("{}.ttl", path()), why).map(|()| false)
        }
    }
}

/// Writes the member that is a cache point.
pub(super) fn write(long: bool, json: &mut Writer<'_>) {
    json.key("cachePoint");
    json.object();
    json.tag("type", "default");
    if long {
        json.tag("ttl", "1h");
    }
    json.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::bedrock::models::family;

    #[test]
    fn where_a_model_takes_cache_points_is_told_by_its_name() {
        for (name, wanted) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Caching::All { hour: true }),
            ("anthropic.claude-opus-4-20250514-v1:0", Caching::All { hour: false }),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Caching::All { hour: false }),
            ("anthropic.claude-3-5-haiku-20241022-v1:0", Caching::All { hour: false }),
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", Caching::Never),
            ("us.amazon.nova-pro-v1:0", Caching::Messages),
            ("meta.llama3-1-70b-instruct-v1:0", Caching::Never),
            ("nvidia.nemotron-super-3-120b", Caching::Never),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123", Caching::All { hour: true }),
        ] {
            assert_eq!(family(name).caching, wanted, "{name}");
        }
    }
}
