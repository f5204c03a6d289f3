//! (scaffold stub; replaced by w-egress)
use crate::{
    config::valid,
    outbound::Signed,
    tasks::{Seat, Tasks},
    tls,
};
use std::time::Duration;
/// Response body.
pub type Body = hyper::body::Incoming;
/// One destination.
#[derive(Debug)]
pub struct Egress;
/// Sent.
#[derive(Debug)]
pub struct Sent {
    #[expect(missing_docs)]
    pub response: http::Response<Body>,
    #[expect(missing_docs)]
    pub connected: Option<Duration>,
}
#[expect(missing_docs)]
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    #[error("x")]
    Resolve(String),
    #[error("x")]
    Connect(String),
    #[error("x")]
    ConnectTimeout(String),
    #[error("x")]
    Tls(String),
    #[error("x")]
    Proxy(String),
    #[error("x")]
    FirstByteTimeout(String),
    #[error("x")]
    Closed(String),
    #[error("x")]
    Garbled(String),
}
#[expect(missing_docs)]
#[derive(Debug, Clone, Copy)]
pub struct EgressLimits {
    pub connect: Duration,
    pub first_byte: Duration,
    pub pool_idle: Duration,
    pub max_connection_age: Duration,
}
#[expect(missing_docs)]
#[derive(Debug)]
pub struct Clients;
#[expect(missing_docs)]
impl Clients {
    pub fn new(_seats: usize, _tasks: Tasks) -> Self {
        Self
    }
    pub fn egress(
        &self,
        _d: &http::Uri,
        _p: &tls::Profile,
        _x: &valid::Proxy,
        _l: &EgressLimits,
    ) -> Result<Egress, String> {
        Ok(Egress)
    }
}
#[expect(missing_docs)]
impl Egress {
    pub async fn send(&self, _seat: Seat, _request: Signed) -> Result<Sent, SendError> {
        Err(SendError::Closed(String::new()))
    }
}
