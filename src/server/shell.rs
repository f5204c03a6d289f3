//! The shell around each request: it catches panics and keeps the connection's clock.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};

use super::clock::{Clock, Wait};
use super::connection::Timed;
use crate::proxy::{self, House};
use crate::tasks::Seat;

/// The service of one connection: it marks the connection as busy while a request is answered, and a panic costs its
/// own request a 500 and nobody else anything.
pub(super) fn service(
    house: Arc<House>,
    seat: Seat,
    clock: Arc<Clock>,
) -> impl Service<Request<Incoming>, Response = Response<Timed>, Error = Infallible, Future: Send> {
    service_fn(move |request| {
        clock.set(Wait::Answer);
        let (house, clock) = (Arc::clone(&house), Arc::clone(&clock));
        async move {
            let answered = AssertUnwindSafe(proxy::answer(request, house, seat)).catch_unwind().await;
            // The panic hook has logged where; what it says may hold a client's words.
            let response = answered.unwrap_or_else(|_| proxy::crashed());
            Ok(response.map(|answer| Timed::new(answer, clock)))
        }
    })
}
