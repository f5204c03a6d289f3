//! A scripted token endpoint on a real socket, and what the tests of this room need around it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::fetch::Way;
use super::{AuthError, Authorizer, Site, Tokens};
use crate::config::valid::{Authorization, ClientAuth, OAuth2, Proxy, SecretSource};
use crate::egress::{Clients, Egress, EgressLimits};
use crate::outbound::{Segments, Stamp, Unsigned};
use crate::secret::Secret;
use crate::tasks::{Seat, Tasks};
use crate::tls::Profile;

/// The seat of every test.
pub(super) const SEAT: Seat = Seat(0);
/// A limit that no test reaches.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// What the endpoint says to its `n`th call (from 1): bytes for the wire, or nothing and a closed connection.
type Script = Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>;

/// A token endpoint that counts its calls and answers when its gate is open.
pub(super) struct Endpoint {
    port: u16,
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<String>>,
    called: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Endpoint {
    /// One that grants `tok-1`, `tok-2` … for an hour.
    pub(super) async fn granting() -> Self {
        Self::saying(|n| grant(n, 3600)).await
    }

    pub(super) async fn saying(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            called: watch::Sender::new(0),
            open: watch::Sender::new(true),
        });
        let (port, tasks) = (listener.local_addr().unwrap().port(), Tasks::new());
        let (accepting, inner) = (Arc::clone(&shared), tasks.clone());
        drop(tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                drop(inner.spawn(async move { shared.serve(stream).await }));
            }
        }));
        Self { port, shared, tasks }
    }

    pub(super) fn say(&self, script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Holds every answer back until `open`.
    pub(super) fn close(&self) {
        self.shared.open.send_replace(false);
    }

    pub(super) fn open(&self) {
        self.shared.open.send_replace(true);
    }

    pub(super) fn calls(&self) -> usize {
        *self.shared.called.borrow()
    }

    /// Returns when call `n` has come in.
    pub(super) async fn called(&self, n: usize) {
        self.shared.called.subscribe().wait_for(|calls| *calls >= n).await.unwrap();
    }

    /// The requests as they came, heads and bodies.
    pub(super) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token?tenant=t", self.port)
    }

    /// What a configuration says about this endpoint.
    pub(super) fn settings(&self) -> OAuth2 {
        settings(&self.url())
    }

    /// The way here, with connections of its own.
    pub(super) fn egress(&self) -> Egress {
        let limits = EgressLimits {
            connect: LIMIT,
            first_byte: LIMIT,
            pool_idle: Duration::ZERO,
            max_connection_age: LIMIT,
        };
        let clients = Clients::new(4, self.tasks.clone());
        let url = self.url().parse().unwrap();
        clients.egress(&url, &Profile::default(), &Proxy::Direct, &limits).unwrap()
    }

    /// An authorizer of `tokens` for this endpoint.
    pub(super) fn authorizer(&self, tokens: &Tokens) -> Authorizer {
        authorizer(tokens, &self.settings(), &self.egress(), LIMIT)
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) {
        while let Some(request) = read(&mut stream).await {
            self.requests.lock().unwrap().push(request);
            let mut n = 0;
            self.called.send_modify(|calls| {
                *calls += 1;
                n = *calls;
            });
            let mut open = self.open.subscribe();
            drop(open.wait_for(|open| *open).await.unwrap());
            let answer = self.script.lock().unwrap()(n);
            let last = answer.is_empty() || String::from_utf8_lossy(&answer).contains("connection: close");
            if stream.write_all(&answer).await.is_err() || last {
                return;
            }
        }
    }
}

/// One request; its body is as long as its `content-length` says.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length = length.map_or(Some(0), |length| length.parse::<usize>().ok())?;
            if body.len() >= length {
                return Some(String::from_utf8(bytes).unwrap());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A whole answer.
pub(super) fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

/// An answer that grants `tok-{n}`.
pub(super) fn grant(n: usize, seconds: u64) -> Vec<u8> {
    let body = format!("{{\"access_token\":\"tok-{n}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}}}");
    answer(200, &body)
}

/// OAuth2 settings with everything optional left out.
pub(super) fn settings(url: &str) -> OAuth2 {
    OAuth2 {
        token_url: url.parse().unwrap(),
        is_endpoint: false,
        hidden_path: Vec::new(),
        client_id: "the id".into(),
        client_secret: SecretSource::Inline(Secret::new("s:e/c&r=t")),
        client_auth: ClientAuth::Post,
        scope: None,
        audience: None,
        resource: None,
        extra_params: Vec::new(),
        extra_headers: Vec::new(),
        header: AUTHORIZATION,
        prefix: "Bearer ".into(),
        token_field: "access_token".into(),
        expires_field: "expires_in".into(),
    }
}

pub(super) fn authorizer(tokens: &Tokens, settings: &OAuth2, egress: &Egress, limit: Duration) -> Authorizer {
    let settings = Authorization::OAuth2(Box::new(settings.clone()));
    build_with(tokens, &settings, &|_| Ok(egress.clone()), limit).unwrap()
}

/// The way of an integration to a token endpoint.
pub(super) fn way(egress: Egress, limit: Duration) -> Way {
    Way { integration: "mine".into(), stops: [egress].into(), limit }
}

/// An authorizer that needs no token endpoint.
pub(super) fn build(tokens: &Tokens, settings: &Authorization) -> Result<Authorizer, String> {
    build_with(tokens, settings, &|_| Err("nobody should ask".to_owned()), LIMIT)
}

/// An authorizer whose ways to token endpoints `way` makes.
pub(super) fn build_with(
    tokens: &Tokens,
    settings: &Authorization,
    way: &dyn Fn(&Uri) -> Result<Egress, String>,
    limit: Duration,
) -> Result<Authorizer, String> {
    let (host, tls) = (HeaderValue::from_static("gateway.test"), Profile::default());
    let (integration, proxy) = ("mine", &|_: &Uri| Proxy::Direct);
    tokens.authorizer(settings, &Site { integration, host: &host, tls: &tls, proxy, limit, way })
}

pub(super) fn request() -> Box<Unsigned> {
    Unsigned::new(Method::POST, "/x", HeaderMap::new(), Segments::default())
}

/// What one request gets: the value of `header`, and its stamp.
pub(super) async fn sign_as(
    authorizer: &Authorizer,
    header: &HeaderName,
) -> Result<(Option<HeaderValue>, Stamp), AuthError> {
    let signed = authorizer.sign(SEAT, request()).await?;
    Ok((signed.request.headers.get(header).cloned(), signed.stamp))
}

/// The bearer that one request gets, and its stamp.
pub(super) async fn sign(authorizer: &Authorizer) -> Result<(String, Stamp), AuthError> {
    let (value, stamp) = sign_as(authorizer, &AUTHORIZATION).await?;
    Ok((value.unwrap().to_str().unwrap().to_owned(), stamp))
}
