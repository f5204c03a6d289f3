//! The shell around each request: it catches panics and keeps the connection's clock.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use tower::Service as _;

use super::clock::{Clock, Wait};
use super::connection::Timed;
use crate::proxy::{self, House};
use crate::tasks::Seat;

/// The service of one connection: it marks the connection as busy while a request is answered, and a panic costs its
/// own request a 500 and nobody else anything.
pub(super) fn service(
    host: Host,
    clock: Arc<Clock>,
) -> impl HyperService<Request<Incoming>, Response = Response<Timed>, Error = Infallible, Future: Send> {
    let shell = tower::service_fn(move |request| {
        clock.set(Wait::Answer);
        let (host, clock) = (host.clone(), Arc::clone(&clock));
        // Boxed: hyper keeps room for it as long as the connection lasts, and a stream needs none of it any more.
        Box::pin(async move {
            let Host { house, seat, guests } = host;
            let answered = match guests {
                Guests::Clients => contained(proxy::answer(request, house, seat)).await,
                // Boxed: it is rare, and would make room in every request's future.
                Guests::Handlers => Box::pin(contained(proxy::run_errand(request, house, seat))).await,
            };
            // The panic hook has logged where; what it says may hold a client's words.
            let response = answered.unwrap_or_else(|_| proxy::crashed());
            // Ours alone say so, and successes never do.
            if !response.status().is_success() && response.headers().contains_key(CONNECTION) {
                clock.answers_early();
            }
            Ok(response.map(|answer| Timed::new(answer, clock)))
        })
    });
    // Boxed: handed on by value it would be copied at each step, and make room for itself at each. Called at once, since
    // the shell is always ready: hyper-util's adapter keeps service and request until it has asked.
    hyper::service::service_fn(move |request| shell.clone().call(Box::new(request)))
}

fn contained<T>(work: impl Future<Output = T>) -> impl Future<Output = std::thread::Result<T>> {
    AssertUnwindSafe(work).catch_unwind()
}

/// Who answers on a connection.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) house: Arc<House>,
    pub(super) seat: Seat,
    pub(super) guests: Guests,
}

/// Whom a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guests {
    /// Clients.
    Clients,
    /// Our own handlers, on the way to their providers.
    Handlers,
}
