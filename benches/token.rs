//! What it costs to sign a request: with a live OAuth2 token, with AWS's signature, and with an API key for comparison.
//!
//! Benches are built with tokio's `test-util`, whose clock costs a few nanoseconds that the product does not pay.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use outrider::auth::{Authorizer, Site, Tokens};
use outrider::config::valid::{Authorization, Aws, AwsKeys, ClientAuth, OAuth2, Proxy, SecretSource};
use outrider::egress::{Clients, Egress, EgressLimits};
use outrider::outbound::{Segments, Unsigned};
use outrider::secret::Secret;
use outrider::tasks::{Seat, Tasks};
use outrider::tls;

const LIMIT: Duration = Duration::from_secs(10);
const GRANT: &str =
    r#"{"access_token":"eyJhbGciOiJSUzI1NiJ9.bench.bench","token_type":"Bearer","expires_in":36000}"#;

criterion_group!(benches, signing);
criterion_main!(benches);

fn signing(criterion: &mut Criterion) {
    let key = SecretSource::Inline(Secret::new("sk-bench"));
    let key = Authorization::ApiKey { header: HeaderName::from_static("api-key"), value: key };
    let tokens = Tokens::new(Tasks::new());
    let key = build(&tokens, &key, &|_| Err("nobody asks".to_owned()));
    let token = with_live_token(&tokens);
    let aws = build(&tokens, &aws_keys(), &|_| Err("nobody asks".to_owned()));
    for (name, authorizer) in
        [("sign with an API key", key), ("sign with a live token", token), ("sign as AWS does", aws)]
    {
        criterion.bench_function(name, |b| {
            let sign = |unsigned| {
                authorizer.sign(Seat(0), unsigned).now_or_never().expect("nothing to wait for").map(drop)
            };
            b.iter_batched(unsigned, sign, BatchSize::SmallInput);
        });
    }
}

fn unsigned() -> Box<Unsigned> {
    let body = Segments::one(Bytes::from_static(&[b'x'; 2048]));
    let mut unsigned = Unsigned::new(Method::POST, "", HeaderMap::with_capacity(8), body);
    unsigned.uri = Uri::from_static("https://bench.example/model/m%3A0/converse");
    unsigned
}

fn aws_keys() -> Authorization {
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    let keys =
        AwsKeys::Fixed { id: inline("bench"), secret: inline("bench"), session: Some(inline("bench")) };
    let (region, service) = ("us-east-1".to_owned(), "bedrock".to_owned());
    Authorization::SigV4(Box::new(Aws { region, service, keys }))
}

/// An authorizer that has fetched its token from an endpoint of ours.
fn with_live_token(tokens: &Tokens) -> Authorizer {
    let url = format!("http://{}/token", endpoint()).parse().expect("an address makes a URL");
    let limits =
        EgressLimits { connect: LIMIT, first_byte: LIMIT, pool_idle: LIMIT, max_connection_age: LIMIT };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let egress =
        Clients::new(1, Tasks::new()).egress(&url, &tls::Profile::default(), &Proxy::Direct, &limits);
    let egress = egress.expect("plain HTTP needs nothing of the world");
    let settings = Authorization::OAuth2(Box::new(OAuth2 {
        token_url: url,
        is_endpoint: false,
        hidden_path: Vec::new(),
        client_id: "bench".to_owned(),
        client_secret: SecretSource::Inline(Secret::new("bench")),
        client_auth: ClientAuth::Post,
        scope: None,
        audience: None,
        resource: None,
        extra_params: Vec::new(),
        extra_headers: Vec::new(),
        header: header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
        token_field: "access_token".to_owned(),
        expires_field: "expires_in".to_owned(),
    }));
    let authorizer = build(tokens, &settings, &|_| Ok(egress.clone()));
    runtime.block_on(authorizer.sign(Seat(0), unsigned())).expect("the endpoint grants a token");
    authorizer
}

fn build(
    tokens: &Tokens,
    settings: &Authorization,
    way: &dyn Fn(&Uri) -> Result<Egress, String>,
) -> Authorizer {
    let (host, tls) = (HeaderValue::from_static("bench.example"), tls::Profile::default());
    let (integration, proxy) = ("bench", &|_: &Uri| Proxy::Direct);
    let site = Site { integration, host: &host, tls: &tls, proxy, limit: LIMIT, way };
    tokens.authorizer(settings, &site).expect("sound settings")
}

/// Grants one token to whoever comes first.
fn endpoint() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the bench asks for a token");
        let mut request = Vec::new();
        let mut piece = [0; 1024];
        while !request.windows(10).any(|window| window == b"grant_type") {
            let read = stream.read(&mut piece).expect("a whole request comes");
            request.extend_from_slice(&piece[..read]);
        }
        let length = GRANT.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{GRANT}"
        )
        .expect("the answer is read");
    });
    address
}
