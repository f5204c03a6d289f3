//! An upstream's refusal, reduced to what an OpenAI error can say.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::unmarked;

/// What an upstream said when it refused: its own status and words. The reply room turns it into an OpenAI error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The upstream's HTTP status, 400 to 599; for an error inside a 200 or a stream, the nearest one.
    pub status: u16,
    /// Whether it stood inside an answer with a status of success.
    pub in_success: bool,
    /// The upstream's own words, never empty, and as many as it sent: [`Fault::shorten`] cuts them.
    pub message: String,
    /// Whether they are no error of a known shape but a page, a text, or what makes no sense: less is told of those.
    pub is_page: bool,
    /// OpenAI's `type`, when the upstream's word for it is known.
    pub kind: Option<String>,
    /// OpenAI's `param`.
    pub param: Option<String>,
    /// OpenAI's `code`.
    pub code: Option<String>,
    /// What stands in `innererror`, where Microsoft's services tell more (which filter, how severe), as JSON.
    pub innererror: Option<String>,
    /// `retry-after` and its like (`retry-after-ms`, `x-should-retry`), to be handed on as they are.
    pub headers: Vec<(&'static str, String)>,
}

/// What an upstream sent, as words to tell of it: its first 64 KiB, of which [`Fault::shorten`] leaves far less. It is not
/// cut to that here, since a credential may stand in it, and must be found there whole.
pub fn excerpt(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&data[..data.len().min(64 << 10)])
}

/// OpenAI's error body: `{"error":{"message","type","param","code"}}`, all four keys always there.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// The only member.
    pub error: ErrorFields<'a>,
}

/// What stands inside an OpenAI error body.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorFields<'a> {
    /// What happened and what to do.
    pub message: &'a str,
    /// The family of the error.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The path of the field that caused it.
    pub param: Option<&'a str>,
    /// The word that programs look at.
    pub code: Option<&'a str>,
    /// What the upstream said beyond that, as it said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub innererror: Option<&'a RawValue>,
}

impl Fault {
    /// Reads an answer of status 400 or above in any shape: OpenAI's error, other vendors' JSON, HTML, text, nothing.
    pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut fault = match serde_json::from_slice::<Value>(unmarked(body)).map(lone) {
            Ok(Value::Object(object)) => {
                from_object(&object).unwrap_or_else(|| wrapped(status, headers, body))
            }
            Ok(Value::String(text)) if !text.trim().is_empty() => Self::saying(text),
            _ => wrapped(status, headers, body),
        };
        // Others are no status of HTTP (RFC 9110 §15).
        fault.status = if status < 600 { status } else { 502 };
        fault.advised(headers)
    }

    /// The same as one that came inside an answer of success with `headers`.
    #[must_use]
    pub fn within_success(mut self, headers: &HeaderMap) -> Self {
        self.in_success = true;
        self.advised(headers)
    }

    /// The same with what the `headers` that it came with say of coming again, which counts more than what it says itself.
    fn advised(mut self, headers: &HeaderMap) -> Self {
        let told = PASSED_ON.iter().filter_map(|name| Some((*name, text_of(headers, name)?)));
        let inside = std::mem::replace(&mut self.headers, told.collect());
        self.headers.extend(inside.into_iter().filter(|(name, _)| !headers.contains_key(*name)));
        self
    }

    /// Reads an error that came as JSON inside a stream or a 200; `None` if it does not look like one.
    pub fn inside(json: &[u8]) -> Option<Self> {
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(unmarked(json)).map(lone) else {
            return None;
        };
        let mut fault = from_object(&object)?;
        if fault.status == 0 {
            fault.status = status_of(fault.kind.as_deref(), fault.code.as_deref());
        }
        Some(fault)
    }

    /// A fault of our own finding in what the upstream sent: 502 `upstream_garbled`.
    pub fn garbled(message: impl Into<String>) -> Self {
        Self {
            status: 502,
            kind: Some("upstream_error".to_owned()),
            code: Some("upstream_garbled".to_owned()),
            is_page: true,
            ..Self::saying(message.into())
        }
    }

    /// The same fault in other words.
    #[must_use]
    pub fn reworded(self, message: &str) -> Self {
        Self { message: message.to_owned(), is_page: false, ..self }
    }

    /// Cuts the words to what a client is told: 2,000 characters of a message, 600 of a page, 200 of any other. Only for
    /// words that our own credentials have been taken out of: what is left of one that is cut would be found no more.
    pub fn shorten(&mut self) {
        cut(&mut self.message, if self.is_page { 600 } else { 2000 });
        for word in [&mut self.kind, &mut self.param, &mut self.code].into_iter().flatten() {
            cut(word, 200);
        }
    }

    /// The OpenAI error body that tells a client of this fault.
    pub fn body(&self) -> ErrorBody<'_> {
        let kind = self.kind.as_deref().unwrap_or_else(|| kind_of(self.status));
        let (param, code) = (self.param.as_deref(), self.code.as_deref());
        let innererror = self.innererror.as_deref().and_then(|json| serde_json::from_str(json).ok());
        ErrorBody { error: ErrorFields { message: &self.message, kind, param, code, innererror } }
    }

    fn saying(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

/// The headers of a refusal that tell a client when to come again.
const PASSED_ON: [&str; 3] = ["retry-after", "retry-after-ms", "x-should-retry"];

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The shapes that public providers use: an `error` object or text, or the same fields on top.
fn from_object(object: &serde_json::Map<String, Value>) -> Option<Fault> {
    let inner = match object.get("error") {
        Some(Value::Object(inner)) => inner,
        Some(Value::String(text)) if !text.trim().is_empty() => {
            // `{"error":"invalid_token","error_description":"…"}` is how OAuth2-guarded gateways answer.
            let description =
                object.get("error_description").or_else(|| object.get("message")).and_then(Value::as_str);
            let code = description.map(|_| text.clone());
            return Some(Fault { code, ..Fault::saying(description.unwrap_or(text).to_owned()) });
        }
        _ => object,
    };
    let message = MESSAGES.iter().find_map(|key| words(inner.get(*key)?))?;
    let message = with_cause(message, inner);
    if let Some(fault) = from_google(inner, &message) {
        return Some(fault);
    }
    let word = |key: &str| match inner.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let more = inner.get("innererror").filter(|more| more.is_object()).map(Value::to_string);
    let innererror = more.filter(|json| json.len() <= LONGEST_INNER);
    let (kind, param, code) = (word("type"), word("param"), word("code"));
    Some(Fault { kind, param, code, innererror, ..Fault::saying(message) })
}

/// `message` with the words behind it that a gateway of many providers had from the one that failed, and put into
/// `metadata.raw` as they came: its own say only that one did.
fn with_cause(message: String, inner: &serde_json::Map<String, Value>) -> String {
    let raw = inner.get("metadata").and_then(|more| more.get("raw")).and_then(Value::as_str);
    let raw = raw.unwrap_or_default().trim();
    let told = match serde_json::from_str(raw).map(lone) {
        Ok(Value::Object(object)) => from_object(&object).map(|fault| fault.message),
        _ => None,
    };
    match told.as_deref().unwrap_or(raw) {
        cause if message.contains(cause) => message,
        cause => format!("{message}: {cause}"),
    }
}

/// The longest `innererror` that is passed on, in bytes.
const LONGEST_INNER: usize = 8 << 10;

/// Google's errors (`google.rpc.Status`): the HTTP status as `code`, a word for it as `status`, and in `details` perhaps
/// how long to wait.
fn from_google(inner: &serde_json::Map<String, Value>, message: &str) -> Option<Fault> {
    let status = inner.get("code")?.as_u64().and_then(|code| u16::try_from(code).ok())?;
    let word = inner.get("status")?.as_str().filter(|word| !word.is_empty())?;
    let delay = |detail: &Value| {
        let seconds = detail.get("retryDelay")?.as_str()?.strip_suffix('s')?.parse::<f64>().ok()?;
        (0.0..1e6).contains(&seconds).then(|| format!("{:.0}", seconds.ceil()))
    };
    let details = inner.get("details").and_then(Value::as_array);
    let wait = details.into_iter().flatten().find_map(delay);
    Some(Fault {
        status: if (400..600).contains(&status) { status } else { 0 },
        code: Some(word.to_owned()),
        headers: wait.map(|seconds| ("retry-after", seconds)).into_iter().collect(),
        ..Fault::saying(message.to_owned())
    })
}

/// The only item of a list: Google's streams that are no event streams put even an error into one.
fn lone(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.len() == 1 => items.remove(0),
        value => value,
    }
}

/// Where vendors put their words, in the order of trust.
const MESSAGES: [&str; 9] =
    ["message", "Message", "detail", "details", "error_message", "errorMessage", "msg", "errors", "reason"];

/// A message, or the messages of a list (FastAPI's `detail`, GraphQL's `errors`), each with its place.
fn words(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(items) => items.iter().filter_map(words).collect::<Vec<_>>().join("; "),
        Value::Object(object) => {
            let text =
                ["msg", "message", "detail", "error"].iter().find_map(|key| words(object.get(*key)?))?;
            match object.get("loc").and_then(Value::as_array) {
                Some(place) => format!("{}: {text}", dotted(place)),
                None => text,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn dotted(place: &[Value]) -> String {
    let part = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    place.iter().map(part).collect::<Vec<_>>().join(".")
}

/// What is no error that we know: all of it, or words of ours when there is nothing.
fn wrapped(status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0');
    if text.is_empty() {
        return Fault::saying(format!("the upstream answered {status}{} with an empty body", reason(status)));
    }
    let kind = text_of(headers, "content-type").map_or(Cow::Borrowed("a body"), |kind| kind.into());
    let kind = kind.split(';').next().unwrap_or_default();
    let message = format!("the upstream answered {status}{} with {kind}: {text}", reason(status));
    Fault { message, is_page: true, ..Fault::default() }
}

fn reason(status: u16) -> String {
    let known = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    known.map_or_else(String::new, |words| format!(" ({words})"))
}

fn cut(text: &mut String, characters: usize) {
    if let Some((at, _)) = text.char_indices().nth(characters) {
        text.truncate(at);
        text.push('…');
    }
}

/// OpenAI's word for a status, where the upstream gave none.
fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "upstream_error",
    }
}

/// The nearest status for an error that came without one.
fn status_of(kind: Option<&str>, code: Option<&str>) -> u16 {
    if let Some(status) = code.and_then(|c| c.parse().ok()).filter(|s| (400..600).contains(s)) {
        return status;
    }
    match kind.or(code).unwrap_or_default() {
        "invalid_request_error" | "BadRequestError" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "api_error" | "server_error" => 500,
        "overloaded_error" => 503,
        "timeout_error" => 504,
        _ => 502,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Fault {
        Fault::read(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn a_status_that_http_does_not_know_is_no_clients() {
        assert_eq!([400, 599, 600, 999].map(|status| read(status, "{}").status), [400, 599, 502, 502]);
    }

    #[test]
    fn openai_errors_keep_all_four_fields() {
        let fault = read(
            401,
            r#"{"error":{"message":"bad key","type":"auth","param":"p","code":"invalid_api_key"}}"#,
        );
        let text = serde_json::to_string(&fault.body()).unwrap();
        assert_eq!(
            text,
            r#"{"error":{"message":"bad key","type":"auth","param":"p","code":"invalid_api_key"}}"#
        );
        assert_eq!(fault.status, 401);
    }

    #[test]
    fn what_microsoft_says_inside_is_kept() {
        let body = r#"{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true}}}}}"#;
        let text = serde_json::to_string(&read(400, body).body()).unwrap();
        let wanted = r#"{"error":{"message":"filtered","type":"invalid_request_error","param":"prompt","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true}}}}}"#;
        assert_eq!(text, wanted);
        let long = format!(r#"{{"error":{{"message":"m","innererror":{{"a":"{}"}}}}}}"#, "x".repeat(9000));
        assert_eq!(read(400, &long).innererror, None);
    }

    #[test]
    fn every_public_shape_gives_its_message() {
        for (body, wanted) in [
            (r#"{"message":"m"}"#, "m"),
            (r#"{"Message":"m"}"#, "m"),
            (r#"{"error":"m"}"#, "m"),
            (r#"{"detail":"m"}"#, "m"),
            (r#"{"error":{"message":"m","code":429}}"#, "m"),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, "m"),
            (r#"{"object":"error","message":"m","code":400}"#, "m"),
            (r#"{"detail":[{"loc":["body","n",0],"msg":"x","type":"t"},{"msg":"y"}]}"#, "body.n.0: x; y"),
            (r#"{"errors":[{"message":"x"},"y"]}"#, "x; y"),
            (r#"{"error":"invalid_token","error_description":"m"}"#, "m"),
            (r#""m""#, "m"),
            ("\u{feff}{\"message\":\"m\"}", "m"),
        ] {
            assert_eq!(read(400, body).message, wanted, "{body}");
        }
    }

    #[test]
    fn the_cause_that_a_gateway_had_from_its_provider_is_told_behind_its_own_words() {
        let told = |raw: Value| {
            let error = serde_json::json!({"message": "failed", "code": 400, "metadata": {"raw": raw}});
            read(400, &serde_json::json!({"error": error}).to_string()).message
        };
        for (raw, want) in [
            (" no such tool\n", "failed: no such tool"),
            (r#"{"error":{"message":"no such tool","type":"x"}}"#, "failed: no such tool"),
            (r#"[{"message":"no such tool"}]"#, "failed: no such tool"),
            (r#"{"x":1}"#, r#"failed: {"x":1}"#),
            ("", "failed"),
            ("failed", "failed"),
        ] {
            assert_eq!(told(raw.into()), want, "{raw}");
        }
        assert_eq!(told(serde_json::json!({"message": "no text"})), "failed");
        let mut long = read(
            400,
            &format!(r#"{{"error":{{"message":"m","metadata":{{"raw":"{}"}}}}}}"#, "x".repeat(5000)),
        );
        long.shorten();
        assert_eq!(long.message.chars().count(), 2001);
    }

    #[test]
    fn what_is_no_error_body_is_wrapped_and_told_in_600_characters() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "text/html; charset=utf-8".parse().unwrap());
        let mut fault = Fault::read(502, &headers, format!("<html>{}", "é".repeat(900)).as_bytes());
        assert!(fault.message.starts_with("the upstream answered 502 (Bad Gateway) with text/html: <html>é"));
        assert_eq!(fault.message.chars().filter(|c| *c == 'é').count(), 900, "it is cut before it is masked");
        fault.shorten();
        assert_eq!((fault.message.chars().count(), fault.message.chars().last()), (601, Some('…')));
        assert!(read(503, "").message.contains("503 (Service Unavailable) with an empty body"));
        assert!(read(500, "{}").message.contains("{}"));
        assert!(!read(599, "\u{0}\n").message.is_empty());
    }

    #[test]
    fn a_message_is_whole_until_it_is_shortened_to_2000_characters() {
        let mut fault = read(400, &format!(r#"{{"error":{{"message":"{}"}}}}"#, "é".repeat(5000)));
        assert_eq!(fault.message.chars().count(), 5000);
        fault.shorten();
        assert_eq!(fault.message, format!("{}…", "é".repeat(2000)));
        fault.code = Some("é".repeat(5000));
        fault.shorten();
        assert_eq!(fault.message, format!("{}…", "é".repeat(2000)));
        assert_eq!(fault.code, Some(format!("{}…", "é".repeat(200))));
    }

    #[test]
    fn when_to_come_again_is_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        headers.insert("x-should-retry", "false".parse().unwrap());
        headers.insert("server", "x".parse().unwrap());
        let fault = Fault::read(429, &headers, b"{}");
        assert_eq!(fault.headers, [("retry-after", "7".to_owned()), ("x-should-retry", "false".to_owned())]);
    }

    #[test]
    fn googles_errors_keep_their_word_and_tell_how_long_to_wait() {
        let body = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.Help"},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.07s"}]}}"#;
        for body in [body.to_owned(), format!("[{body}]")] {
            let fault = read(429, &body);
            assert_eq!(
                (fault.message.as_str(), fault.code.as_deref()),
                ("quota", Some("RESOURCE_EXHAUSTED"))
            );
            assert_eq!(fault.headers, [("retry-after", "35".to_owned())]);
            assert_eq!(Fault::inside(body.as_bytes()).map(|fault| fault.status), Some(429));
        }
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(Fault::read(429, &headers, body.as_bytes()).headers, [("retry-after", "7".to_owned())]);
    }

    #[test]
    fn an_error_inside_a_stream_gets_the_nearest_status() {
        let inside = |json: &str| Fault::inside(json.as_bytes()).map(|f| f.status);
        assert_eq!(
            inside(r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#),
            Some(503)
        );
        assert_eq!(inside(r#"{"error":{"message":"m","code":429}}"#), Some(429));
        assert_eq!(inside(r#"{"error":{"message":"m"}}"#), Some(502));
        assert_eq!(inside(r#"{"choices":[]}"#), None);
    }
}
