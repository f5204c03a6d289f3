//! Format, authorization and transport are three independent settings: every cell of their table works.
//!
//! An endpoint cannot be a Unix socket (`endpoint` is an http or https URL); the transport over one is the client's, whom the
//! sidecar listens for there.

use std::sync::Arc;

use outrider::dialect::Format;
use serde_json::{Value, json};

use crate::support::provider::{answer, needs, tail};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::Request;
use crate::support::{Call, Connection, Setup, Sidecar, TokenServer, Turn, Upstream, integration};

/// How a request gets its right to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authorization {
    None,
    ApiKey,
    OAuth2,
    SigV4,
    Gcp,
}

/// How it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    MutualTls,
    /// The client comes over a Unix socket.
    Unix,
}

/// What proves us, each a text that is found nowhere else.
const KEY: &str = "Bearer key-CREDENTIAL";
const ACCESS_KEY: &str = "AKIDCREDENTIAL";
const SECRETS: [&str; 3] = ["key-CREDENTIAL", "client-CREDENTIAL", "aws-CREDENTIAL"];
/// What the caller says of itself, in every way that a provider might take.
const CALLER: [(&str, &str); 4] = [
    ("authorization", "Bearer caller-SENTINEL"),
    ("x-api-key", "caller-SENTINEL"),
    ("api-key", "caller-SENTINEL"),
    ("x-goog-api-key", "caller-SENTINEL"),
];

impl Authorization {
    const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("key", Self::ApiKey),
        ("oauth2", Self::OAuth2),
        ("sigv4", Self::SigV4),
        ("gcp", Self::Gcp),
    ];

    fn lines(self, tokens: &TokenServer) -> String {
        let url = tokens.url();
        match self {
            Self::None => "authentication_type = \"none\"\n".to_owned(),
            Self::ApiKey => format!(
                "authentication_type = \"api_key\"\napi_key_header = \"X-Corp-Key\"\napi_key_value = \"{KEY}\"\n"
            ),
            Self::OAuth2 => format!(
                "authentication_type = \"oauth2\"\noauth2_token_url = \"{url}\"\n\
                 oauth2 = {{ client_id = \"me\", client_secret = \"client-CREDENTIAL\" }}\n"
            ),
            Self::SigV4 => format!(
                "authentication_type = \"aws_sigv4\"\n\
                 aws = {{ region = \"eu-west-1\", service = \"bedrock\", access_key_id = \"{ACCESS_KEY}\", secret_access_key = \"aws-CREDENTIAL\" }}\n"
            ),
            Self::Gcp => "authentication_type = \"gcp\"\n".to_owned(),
        }
    }

    /// The header that carries the credential, what its value begins with, and a text that only the credential has.
    fn credential(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::ApiKey => Some(("x-corp-key", KEY, "key-CREDENTIAL")),
            Self::OAuth2 => Some(("authorization", "Bearer token-", "token-")),
            Self::SigV4 => Some(("authorization", "AWS4-HMAC-SHA256 Credential=AKIDCREDENTIAL/", ACCESS_KEY)),
            Self::Gcp => Some(("authorization", "Bearer machine-", "machine-")),
        }
    }
}

impl Transport {
    const ALL: [(&'static str, Self); 4] =
        [("plain", Self::Plain), ("tls", Self::Tls), ("mtls", Self::MutualTls), ("unix", Self::Unix)];

    fn lines(self) -> &'static str {
        match self {
            Self::Plain | Self::Unix => "",
            Self::Tls => "tls = { ca_file = \"ca.pem\" }\n",
            Self::MutualTls => {
                "tls = { ca_file = \"ca.pem\", client_cert_file = \"client.pem\", client_key_file = \"client.key\" }\n"
            }
        }
    }
}

/// One cell of the table.
#[derive(Clone, Copy)]
struct Cell {
    format: (&'static str, Format),
    authorization: (&'static str, Authorization),
    transport: (&'static str, Transport),
}

impl Cell {
    fn all() -> impl Iterator<Item = Self> {
        Format::ALL.into_iter().flat_map(|format| {
            Authorization::ALL.into_iter().flat_map(move |authorization| {
                Transport::ALL.into_iter().map(move |transport| Self { format, authorization, transport })
            })
        })
    }

    /// The name of its integration, which is also the path of its endpoint.
    fn name(self) -> String {
        format!("{}-{}-{}", self.format.0, self.authorization.0, self.transport.0)
    }

    fn tables(self, house: &House) -> String {
        let name = self.name();
        let (lines, tables) = needs(self.format.1, &name);
        let lines = [
            format!("format = \"{}\"\n", self.format.0).as_str(),
            &self.authorization.1.lines(&house.tokens),
            self.transport.1.lines(),
            lines,
            // The keys of the table end before further tables begin.
            "",
        ]
        .concat();
        let upstream = house.upstream(self.transport.1);
        let (scheme, port) = match self.transport.1 {
            Transport::Plain | Transport::Unix => ("http", upstream.address().port()),
            Transport::Tls | Transport::MutualTls => ("https", upstream.address().port()),
        };
        let endpoint = format!("{scheme}://localhost:{port}/{name}");
        integration(&name, &endpoint, &format!("{lines}{tables}"))
    }

    /// A connection as its client comes.
    fn connect(self, sidecar: &Sidecar) -> Connection {
        match self.transport.1 {
            Transport::Unix => Connection::open_unix(&sidecar.dir().join("proxy.sock")),
            Transport::Plain | Transport::Tls | Transport::MutualTls => sidecar.connect(),
        }
    }

    /// What the provider must have got.
    fn check(self, request: &Request, stream: bool, house: &House) {
        let name = self.name();
        assert_eq!(request.method(), "POST", "{name}");
        assert_eq!(request.target(), format!("/{name}{}", tail(self.format.1, stream)));
        let shows = self.transport.1 == Transport::MutualTls;
        assert_eq!(request.client.as_deref(), shows.then_some(house.client.as_slice()), "{name}");

        let whole =
            [String::from_utf8_lossy(&request.head.raw), String::from_utf8_lossy(&request.body)].concat();
        assert!(!whole.contains("caller-SENTINEL"), "{name}: the caller's credential went on:\n{whole}");
        let credential = self.authorization.1.credential();
        for header in
            ["authorization", "x-corp-key", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"]
        {
            let is_ours = credential.is_some_and(|(carrier, ..)| carrier == header);
            assert_eq!(request.head.header(header).is_some(), is_ours, "{name}: {header}\n{whole}");
        }
        if let Some((header, begins, text)) = credential {
            let value = request.head.header(header).unwrap_or_default();
            assert!(value.starts_with(begins), "{name}: {value}");
            assert_eq!(
                whole.matches(text).count(),
                1,
                "{name}: the credential stands elsewhere too:\n{whole}"
            );
        }
        for secret in SECRETS {
            let is_sent = credential.is_some_and(|(_, begins, _)| begins.contains(secret));
            assert_eq!(whole.contains(secret), is_sent, "{name}: {secret}");
        }
    }
}

/// The providers, the token servers, and the authority that they trust.
struct House {
    authority: Authority,
    pair: (String, String),
    /// The client's certificate, DER.
    client: Vec<u8>,
    plain: Upstream,
    tls: Upstream,
    mutual: Upstream,
    tokens: TokenServer,
    machine: Upstream,
}

impl House {
    fn new() -> Self {
        let authority = Authority::new();
        let pair = authority.client();
        Self {
            client: Pair { certificate: pair.0.clone(), key: pair.1.clone() }.der(),
            plain: Upstream::start(serve),
            tls: Upstream::start_tls(authority.server("localhost"), serve),
            mutual: Upstream::start_tls(authority.strict_server("localhost"), serve),
            tokens: TokenServer::issuing(),
            machine: Upstream::start(|turn| {
                let token = json!({"access_token": "machine-1", "expires_in": 3599, "token_type": "Bearer"});
                turn.answer(200, token.to_string());
            }),
            authority,
            pair,
        }
    }

    fn upstream(&self, transport: Transport) -> &Upstream {
        match transport {
            Transport::Plain | Transport::Unix => &self.plain,
            Transport::Tls => &self.tls,
            Transport::MutualTls => &self.mutual,
        }
    }

    /// One sidecar that has all `cells` as integrations, and listens on a port and on a Unix socket.
    fn open(&self, cells: &[Cell]) -> Sidecar {
        let setup = Setup::new(cells.iter().map(|cell| cell.tables(self)).collect::<String>());
        let socket = setup.dir().join("proxy.sock");
        setup
            .server(&format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display()))
            .file("ca.pem", &self.authority.pem())
            .file("client.pem", &self.pair.0)
            .file("client.key", &self.pair.1)
            .env("GCE_METADATA_HOST", &self.machine.address().to_string())
            .start()
    }

    /// The request for `cell`, which is the last that its provider got.
    fn request(&self, cell: Cell) -> Arc<Request> {
        let upstream = self.upstream(cell.transport.1);
        let all = upstream.requests(upstream.count());
        all.last().cloned().expect("the provider was asked")
    }
}

/// Answers as a provider of the format that the path begins with.
fn serve(turn: &mut Turn) {
    let target = turn.request.target().to_owned();
    let word = target[1..].split('-').next().unwrap_or_default();
    let (_, format) =
        Format::ALL.into_iter().find(|(known, _)| *known == word).expect("the path names a format");
    answer(turn, format);
}

fn call(cell: Cell, stream: bool) -> Call {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "m", "messages": messages, "max_tokens": 50, "stream": stream});
    let call = Call::chat(body.to_string()).at(&format!("/{}/v1/chat/completions", cell.name()));
    CALLER.iter().fold(call, |call, (name, value)| call.header(name, value))
}

/// What a stream says, once it has ended as it should.
fn heard(connection: &mut Connection, name: &str) -> String {
    let mut data = connection.all_data();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"), "{name}: {data:?}");
    let mut text = String::new();
    for chunk in &data {
        let chunk: Value = serde_json::from_str(chunk).expect("a chunk is JSON");
        assert_eq!(chunk["object"], "chat.completion.chunk", "{name}: {chunk}");
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    text
}

#[test]
fn every_format_goes_with_every_authorization_over_every_transport() {
    let house = House::new();
    let cells: Vec<Cell> = Cell::all().collect();
    let sidecar = house.open(&cells);
    for cell in cells {
        let name = cell.name();
        let got = cell.connect(&sidecar).send(&call(cell, false)).answer();
        assert_eq!(got.status, 200, "{name}: {}", got.text());
        let body = got.json();
        assert_eq!(
            (got.content().as_str(), &body["object"]),
            ("hello", &json!("chat.completion")),
            "{name}: {body}"
        );
        assert_eq!(body["choices"][0]["finish_reason"], "stop", "{name}: {body}");
        cell.check(&house.request(cell), false, &house);

        let mut connection = cell.connect(&sidecar);
        assert_eq!(connection.send(&call(cell, true)).head().0, 200, "{name}");
        assert_eq!(heard(&mut connection, &name), "hello", "{name}");
        cell.check(&house.request(cell), true, &house);
    }
    // Tokens are shared by all that speak the same TLS to the token endpoint: none, with our authority, with our certificate.
    assert_eq!((house.machine.count(), house.tokens.calls()), (3, 3));
    let seen = sidecar.output();
    for secret in SECRETS.iter().chain(&["SENTINEL", "token-", "machine-1"]) {
        assert!(!seen.contains(secret), "the log shows {secret}");
    }
}
