//! (scaffold stub; replaced by w-auth)
use crate::{
    config::valid,
    egress::Egress,
    outbound::*,
    tasks::{Seat, Tasks},
};
use std::{sync::Arc, time::Duration};
#[expect(missing_docs)]
#[derive(Debug)]
pub enum Authorizer {
    None,
}
#[expect(missing_docs)]
#[derive(Debug, serde::Serialize)]
pub struct AuthStatus;
#[expect(missing_docs)]
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    #[error("x")]
    Refused { status: u16, error: String, description: String },
    #[error("x")]
    Unavailable { words: String, retry_after: Duration },
}
#[expect(missing_docs)]
impl Authorizer {
    pub async fn sign(&self, _seat: Seat, unsigned: Unsigned) -> Result<Signed, AuthError> {
        Ok(unsigned.seal(Stamp(0)))
    }
    pub async fn refused(&self, _seat: Seat, _stamp: Stamp) -> Result<bool, AuthError> {
        Ok(false)
    }
    pub fn status(&self) -> AuthStatus {
        AuthStatus
    }
}
#[expect(missing_docs)]
#[derive(Debug)]
pub struct Tokens;
#[expect(missing_docs)]
impl Tokens {
    pub fn new(_t: Tasks) -> Self {
        Self
    }
    pub fn authorizer(
        &self,
        _s: &valid::Authorization,
        _e: Option<Arc<Egress>>,
        _l: Duration,
    ) -> Result<Authorizer, String> {
        Ok(Authorizer::None)
    }
}
