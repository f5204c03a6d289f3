//! `aws`: the region and the service that a signature names, and where its keys come from.

use std::path::PathBuf;

use http::Uri;

use super::{Authorization, Aws, AwsKeys, SecretSource, WebIdentity, egress};
use crate::config::environment::Environment;
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Reading};
use crate::secret::Secret;

/// What a session is called where nobody says it.
const SESSION: &str = "outrider";

/// Where regions have endpoints: what their names begin with, and the suffix of their hosts.
const PARTITIONS: [(&str, &str); 4] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eusc-", "amazonaws.eu"),
];

/// The hosts below which a label is the region.
const SUFFIXES: [&str; 5] = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws", ".on.aws"];

/// Notes what is wrong in the table itself, whether or not it is used.
pub(super) fn check(aws: &Field<raw::Aws>, at: &At, r: &mut Reading<'_>) {
    let Some(aws) = aws.get() else { return };
    for (given, missing, key, other) in [
        (&aws.access_key_id, &aws.secret_access_key, "access_key_id", "secret_access_key"),
        (&aws.secret_access_key, &aws.access_key_id, "secret_access_key", "access_key_id"),
    ] {
        if given.is_given() && missing.is_absent() {
            r.error(&at.key(key), format!("`{key}` needs `{other}`")).help("the two make one credential");
        }
    }
    if aws.session_token.is_given() && aws.access_key_id.is_absent() {
        r.error(&at.key("session_token"), "`session_token` needs `access_key_id` and `secret_access_key`");
    }
    if aws.access_key_id.is_given() {
        for (key, given) in [
            ("role_arn", aws.role_arn.is_given()),
            ("web_identity_token_file", aws.web_identity_token_file.is_given()),
        ] {
            if given {
                r.error(&at.key(key), format!("both `access_key_id` and `{key}` are given"))
                    .help("keep the keys, or the role that is assumed with a web identity");
            }
        }
    }
    for (key, field, may_hold) in [
        ("region", &aws.region, "-"),
        ("service", &aws.service, "-._"),
        ("role_session_name", &aws.role_session_name, "_+=,.@-"),
    ] {
        if field.get().is_some_and(|text| !is_word(text, may_hold)) {
            let message = format!("`{at}.{key}` must be letters and digits, and may hold {may_hold}");
            r.error(&at.key(key), message).help("leave it out, or write it as AWS does");
        }
    }
    if aws.role_arn.get().is_some_and(|arn| !is_role(arn)) {
        r.error(&at.key("role_arn"), format!("`{at}.role_arn` is not the ARN of a role"))
            .help("write it like arn:aws:iam::123456789012:role/NAME");
    }
}

/// The authorization by `aws`, whose endpoint is `endpoint`.
pub(super) fn settings(
    aws: Field<raw::Aws>,
    endpoint: &Uri,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<Authorization> {
    let mut raw = match aws {
        Field::Given(raw) => raw,
        Field::Absent => raw::Aws::default(),
        Field::Bad => return None,
    };
    let region = region(&raw.region, endpoint, &at.key("region"), r);
    let service = std::mem::replace(&mut raw.service, Field::Absent).or("bedrock".to_owned());
    let keys = keys(raw, region.as_deref(), at, r);
    Some(Authorization::SigV4(Box::new(Aws { region: region?, service, keys: keys? })))
}

/// What is given, else what the endpoint's host says, else what the environment does.
fn region(given: &Field<String>, endpoint: &Uri, at: &At, r: &mut Reading<'_>) -> Option<String> {
    match given {
        Field::Given(region) => return Some(region.clone()),
        Field::Bad => return None,
        Field::Absent => {}
    }
    if let Some(region) = region_of(endpoint.host().unwrap_or_default()) {
        return Some(region);
    }
    let env = r.env;
    match env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        Some((_, region)) if is_word(region, "-") => return Some(region.to_owned()),
        Some((name, _)) => {
            let message = format!("the environment variable {name} is not a region");
            r.error(at, message).of_variable(name).help(REGION);
        }
        None => {
            r.error(at, format!("`{at}` is not given, and neither the endpoint nor the environment says it"))
                .help(REGION);
        }
    }
    None
}

const REGION: &str = "set aws = { region = \"us-east-1\" }, or AWS_REGION";

/// The region in a host of AWS's.
fn region_of(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let name = SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix))?;
    name.rsplit('.').find(|label| is_region(label)).map(str::to_owned)
}

/// Whether it is like `us-east-1` or `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let mut parts = label.split('-').rev();
    let number = parts.next().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    let is_letters = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = matches!(number.len(), 1 | 2) && number.bytes().all(|b| b.is_ascii_digit());
    is_number && words.len() >= 2 && words.iter().all(is_letters)
}

/// Where the keys come from: what `aws` says, else the environment's keys, else its web identity.
fn keys(raw: raw::Aws, region: Option<&str>, at: &At, r: &mut Reading<'_>) -> Option<AwsKeys> {
    let given = [&raw.access_key_id, &raw.secret_access_key, &raw.session_token];
    let is_fixed = given.iter().any(|field| !field.is_absent());
    if is_fixed {
        let (id, secret) = (raw.access_key_id.given(), raw.secret_access_key.given());
        warn_unused(&raw.sts_endpoint, &raw.role_session_name, at, r);
        return Some(AwsKeys::Fixed { id: id?, secret: secret?, session: raw.session_token.given() });
    }
    let is_role = !(raw.role_arn.is_absent() && raw.web_identity_token_file.is_absent());
    if !is_role {
        match environment_keys(r.env) {
            Ok(Some(keys)) => {
                warn_unused(&raw.sts_endpoint, &raw.role_session_name, at, r);
                return Some(keys);
            }
            Ok(None) => {}
            Err(missing) => {
                let message = format!("half of a credential is in the environment: {missing} is not set");
                r.error(at, message).help("set both, or none");
                return None;
            }
        }
    }
    web_identity(raw, region, at, r).map(AwsKeys::WebIdentity)
}

fn warn_unused(sts: &Field<String>, session: &Field<String>, at: &At, r: &mut Reading<'_>) {
    for (key, field) in [("sts_endpoint", sts), ("role_session_name", session)] {
        if field.is_given() {
            r.warning(&at.key(key), format!("`{key}` is not used: the keys are given"))
                .help("it belongs to role_arn and web_identity_token_file");
        }
    }
}

/// The keys in the environment; the error is the variable that one of them lacks.
fn environment_keys(env: &Environment) -> Result<Option<AwsKeys>, &'static str> {
    const NAMES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let secret = |name| {
        let (_, text) = env.first(&[name])?;
        Some(SecretSource::Inline(Secret::new(text)))
    };
    match NAMES.map(secret) {
        [None, None, _] => Ok(None),
        [Some(id), Some(secret), session] => Ok(Some(AwsKeys::Fixed { id, secret, session })),
        [None, Some(_), _] => Err(NAMES[0]),
        [Some(_), None, _] => Err(NAMES[1]),
    }
}

/// The role and the file with which it is assumed; what `aws` does not say, the environment may.
fn web_identity(raw: raw::Aws, region: Option<&str>, at: &At, r: &mut Reading<'_>) -> Option<WebIdentity> {
    let sts_endpoint = match raw.sts_endpoint {
        Field::Given(text) => egress::url(&text, &at.key("sts_endpoint"), r),
        Field::Absent => sts_endpoint(region?),
        Field::Bad => None,
    };
    let env = r.env;
    let said = |name| env.first(&[name]).map(|(_, value)| value.to_owned());
    let nothing_is_given = raw.role_arn.is_absent() && raw.web_identity_token_file.is_absent();
    let role_arn = match raw.role_arn {
        Field::Absent => said("AWS_ROLE_ARN"),
        given => Some(given.given()?),
    };
    let token_file = match raw.web_identity_token_file {
        Field::Absent => said("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from),
        given => Some(given.given()?),
    };
    let session = raw.role_session_name.given().or_else(|| said("AWS_ROLE_SESSION_NAME"));
    match (role_arn, token_file) {
        (Some(role_arn), Some(token_file)) if is_role(&role_arn) => Some(WebIdentity {
            role_arn,
            token_file,
            session_name: session.unwrap_or_else(|| SESSION.to_owned()),
            sts_endpoint: sts_endpoint?,
        }),
        (Some(_), Some(_)) => {
            // What stands in the table has been complained about.
            if nothing_is_given {
                r.error(at, "the environment variable AWS_ROLE_ARN is not the ARN of a role")
                    .of_variable("AWS_ROLE_ARN");
            }
            None
        }
        (role_arn, token_file) => {
            no_keys(nothing_is_given, (role_arn.is_some(), token_file.is_some()), at, r);
            None
        }
    }
}

fn no_keys(nothing_is_given: bool, (role, file): (bool, bool), at: &At, r: &mut Reading<'_>) {
    let (key, other, variable) = match (nothing_is_given, role, file) {
        (false, true, _) => ("role_arn", "web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (false, _, true) => ("web_identity_token_file", "role_arn", "AWS_ROLE_ARN"),
        _ => {
            let help = "set access_key_id_file and secret_access_key_file in `aws`, or AWS_ACCESS_KEY_ID and \
                        AWS_SECRET_ACCESS_KEY, or for a web identity AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE";
            r.error(at, format!("`{at}`: aws_sigv4 needs keys, and none are given")).help(help);
            return;
        }
    };
    r.error(&at.key(key), format!("`{key}` needs `{other}`")).help(format!("set it in `aws`, or {variable}"));
}

/// The Security Token Service of a region.
fn sts_endpoint(region: &str) -> Option<Uri> {
    let suffix = PARTITIONS.iter().find(|(start, _)| region.starts_with(start));
    let suffix = suffix.map_or("amazonaws.com", |(_, suffix)| suffix);
    format!("https://sts.{region}.{suffix}").parse().ok()
}

fn is_word(text: &str, may_hold: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || may_hold.contains(c))
}

fn is_role(arn: &str) -> bool {
    let is_plain = arn.chars().all(|c| c.is_ascii_graphic());
    is_plain && arn.starts_with("arn:") && arn.contains(":role/") && arn.split(':').count() >= 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_label_of_the_host_that_looks_like_one() {
        for (host, want) in [
            ("bedrock-runtime.us-east-1.amazonaws.com", Some("us-east-1")),
            ("Bedrock-Runtime.EU-West-3.amazonaws.com", Some("eu-west-3")),
            ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("vpce-0a1-b2.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", Some("ap-southeast-2")),
            ("bedrock-runtime.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("bedrock-runtime.us-west-2.api.aws", Some("us-west-2")),
            ("abc.lambda-url.eu-central-1.on.aws", Some("eu-central-1")),
            ("bedrock-runtime.amazonaws.com", None),
            ("bedrock.us-east-1.corp.example", None),
            ("us-east-1.amazonaws.com.evil.example", None),
        ] {
            assert_eq!(region_of(host).as_deref(), want, "{host}");
        }
    }

    #[test]
    fn each_partition_has_its_own_token_service() {
        for (region, want) in [
            ("us-east-1", "https://sts.us-east-1.amazonaws.com/"),
            ("us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn/"),
            ("us-iso-east-1", "https://sts.us-iso-east-1.c2s.ic.gov/"),
        ] {
            assert_eq!(sts_endpoint(region).unwrap().to_string(), want);
        }
    }
}
