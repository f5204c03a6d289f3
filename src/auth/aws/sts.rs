//! AWS's Security Token Service: temporary keys for the token of another platform (AssumeRoleWithWebIdentity).

use std::path::PathBuf;

use form_urlencoded::Serializer;
use http::header::ACCEPT;
use http::{HeaderValue, Uri};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::Keys;
use crate::auth::answer::{self, Granted, Trouble};
use crate::auth::credential::{self, Credential, Issuer, Proof};
use crate::auth::fetch::{self, Flight};
use crate::config::valid;
use crate::observe::clock;
use crate::outbound::Unsigned;
use crate::secret::Secret;
use crate::tls;

const PROOF: Proof = Proof {
    name: "web identity token",
    check: "aws.role_arn, what the role trusts, and aws.web_identity_token_file of this integration",
};

/// Refusals that will pass by themselves.
const PASSING: [&str; 5] = [
    "IDPCommunicationError",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
];

/// A role that is assumed with the token in a file.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::auth) struct WebIdentity {
    url: Uri,
    role: String,
    session: String,
    file: PathBuf,
    tls: tls::Profile,
}

impl WebIdentity {
    /// The role of `settings`; `tls` is what is spoken to the service.
    pub(in crate::auth) fn new(settings: &valid::WebIdentity, tls: &tls::Profile) -> Self {
        Self {
            url: settings.sts_endpoint.clone(),
            role: settings.role_arn.clone(),
            session: settings.session_name.clone(),
            file: settings.token_file.clone(),
            tls: tls.clone(),
        }
    }

    /// Where the keys are asked for.
    pub(in crate::auth) fn url(&self) -> &Uri {
        &self.url
    }

    fn request(&self, token: &Secret) -> Box<Unsigned> {
        let form = Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.role)
            .append_pair("RoleSessionName", &self.session)
            .append_pair("WebIdentityToken", token.expose())
            .finish();
        let mut request = fetch::post(&self.url, form);
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
        request
    }
}

impl Credential for WebIdentity {
    type Pass = Keys;

    fn issuer(&self) -> Issuer {
        Issuer { host: credential::host_of(&self.url), proof: &PROOF }
    }

    async fn ask(&self, flight: &Flight<'_>) -> Result<Granted<Keys>, Trouble> {
        let token = credential::secret_in("aws.web_identity_token_file", &self.file).await?;
        let (status, body) = flight.exchange(0, self.request(&token)).await?;
        read(status, &body, &token, clock::unix_seconds())
    }
}

/// Reads a whole answer that came at `now`, in seconds since the epoch.
fn read(status: u16, body: &[u8], token: &Secret, now: u64) -> Result<Granted<Keys>, Trouble> {
    if (300..400).contains(&status) {
        let words =
            format!("it answered with a redirect ({status}), which is not followed; check aws.sts_endpoint");
        return Err(Trouble::unavailable(words));
    }
    let answer = Answer::parse(body);
    if !(200..300).contains(&status) {
        return Err(refusal(status, &answer.unwrap_or_default(), token));
    }
    let Some(answer) = answer else {
        return Err(Trouble::unavailable("its answer is not XML; check aws.sts_endpoint"));
    };
    let secret = |name: &str| {
        let text =
            answer.leaf(name).ok_or_else(|| Trouble::unavailable(format!("its answer has no {name}")))?;
        Ok(Secret::new(text))
    };
    let (id, key, session) = (secret("AccessKeyId")?, secret("SecretAccessKey")?, secret("SessionToken")?);
    let keys = Keys::new(&id, &key, Some(&session));
    let pass = keys.map_err(|what| Trouble::unavailable(format!("its answer's {what}")))?;
    let ends = answer.leaf("Expiration").and_then(clock::parse);
    let lifetime = ends.map_or(answer::DEFAULT_LIFETIME, |at| answer::within(at.saturating_sub(now) as f64));
    Ok(Granted { pass, lifetime })
}

fn refusal(status: u16, answer: &Answer, token: &Secret) -> Trouble {
    let words = |name: &str| {
        let text = answer::clean(&answer.leaf(name)?.replace(token.expose(), "***"));
        Some(text).filter(|text| !text.is_empty())
    };
    let (error, description) = (words("Code"), words("Message"));
    let passes = error.as_deref().is_some_and(|code| PASSING.contains(&code));
    if matches!(status, 400 | 401 | 403) && !passes {
        return Trouble::Refused { status, error, description };
    }
    answer::outage(status, [error, description], "aws.sts_endpoint")
}

/// The texts of the elements that hold nothing else, by name.
#[derive(Default)]
struct Answer(Vec<(String, String)>);

impl Answer {
    /// `None` if it is not XML to its end.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(body);
        let (mut leaves, mut open, mut text) = (Vec::new(), 0_usize, String::new());
        loop {
            match reader.read_event().ok()? {
                Event::Start(_) => {
                    open += 1;
                    text.clear();
                }
                Event::Text(piece) => text.push_str(&piece.decode().ok()?),
                Event::CData(piece) => text.push_str(&piece.decode().ok()?),
                Event::GeneralRef(reference) => {
                    let name = reference.decode().ok()?;
                    match reference.resolve_char_ref().ok()? {
                        Some(c) => text.push(c),
                        None => text.push_str(quick_xml::escape::resolve_predefined_entity(&name)?),
                    }
                }
                Event::End(end) => {
                    open = open.checked_sub(1)?;
                    let name = std::str::from_utf8(end.local_name().into_inner()).ok()?.to_owned();
                    leaves.push((name, std::mem::take(&mut text).trim().to_owned()));
                }
                Event::Eof => return (open == 0 && !leaves.is_empty()).then_some(Self(leaves)),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    /// The text of the first element of this name, if there is any.
    fn leaf(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(leaf, text)| leaf == name && !text.is_empty());
        found.map(|(_, text)| text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: u64 = 1_700_000_000; // 2023-11-14T22:13:20Z

    fn granted(expiration: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult>\n  <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>\
             <Credentials>\n <SessionToken>AQo/D+&#x3D;&amp;=</SessionToken> <SecretAccessKey>wJalr/K</SecretAccessKey>\
             <Expiration>{expiration}</Expiration><AccessKeyId>ASIA1</AccessKeyId></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    }

    fn ask(status: u16, body: &str) -> Result<(Keys, u64), Trouble> {
        let token = Secret::new("the.jwt");
        read(status, body.as_bytes(), &token, NOON).map(|granted| (granted.pass, granted.lifetime.as_secs()))
    }

    #[test]
    fn keys_are_read_with_their_entities_and_live_until_their_expiration() {
        let (keys, lifetime) = ask(200, &granted("2023-11-14T23:13:20Z")).ok().unwrap();
        let keys = keys.0.data::<aws_credential_types::Credentials>().unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("ASIA1", "wJalr/K"));
        assert_eq!((keys.session_token(), lifetime), (Some("AQo/D+=&="), 3600));
        for (expiration, want) in
            [("2023-11-14T22:13:19Z", 0), ("soon", 300), ("2033-11-14T22:13:20.5Z", 86_400)]
        {
            assert_eq!(ask(200, &granted(expiration)).ok().unwrap().1, want, "{expiration}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_services_words_without_the_token() {
        let error = |code: &str| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no: the.jwt\n!</Message></Error></ErrorResponse>"
            )
        };
        let want = Trouble::Refused {
            status: 400,
            error: Some("InvalidIdentityToken".into()),
            description: Some("no: *** !".into()),
        };
        assert_eq!(ask(400, &error("InvalidIdentityToken")).err(), Some(want));
        let Some(Trouble::Unavailable { words, .. }) = ask(400, &error("IDPCommunicationError")).err() else {
            panic!("it was refused")
        };
        assert_eq!(words, "it answered 400 (IDPCommunicationError: no: *** !)");
    }

    #[test]
    fn what_is_no_answer_of_the_service_is_an_outage() {
        let good = granted("2023-11-14T23:13:20Z");
        for (status, body, want) in [
            (200, "", "not XML"),
            (200, "{\"a\": 1}", "not XML"),
            (200, &good[..good.len() - 9], "not XML"),
            (200, &good.replace("SessionToken", "X"), "has no SessionToken"),
            (200, &good.replace("ASIA1", "&evil;"), "not XML"),
            (200, &good.replace("ASIA1", "a&#10;b"), "cannot stand in a header"),
            (302, "", "redirect (302)"),
            (404, "<html>", "it answered 404; check aws.sts_endpoint"),
            (503, "down", "it answered 503"),
        ] {
            match ask(status, body).err() {
                Some(Trouble::Unavailable { words, .. }) => assert!(words.contains(want), "{words}"),
                other => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..600) {
            let _ = read(200, &body, &Secret::new("t"), NOON);
            let whole = granted("2023-11-14T23:13:20Z");
            let _ = read(200, &whole.as_bytes()[..cut.min(whole.len())], &Secret::new("t"), NOON);
        }
    }
}
