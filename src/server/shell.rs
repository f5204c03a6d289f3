//! The shell around each request: one tower stack that catches panics and keeps the connection's clock.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use hyper_util::service::TowerToHyperService;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use super::clock::{Clock, Wait};
use super::connection::Timed;
use crate::proxy::{self, Answer, House};
use crate::tasks::Seat;

/// The service of one connection.
pub(super) fn service(
    host: Host,
    clock: Arc<Clock>,
) -> impl HyperService<Request<Incoming>, Response = Response<Timed>, Error = Infallible, Future: Send> {
    let answer = service_fn(move |request| {
        let host = host.clone();
        async move { Ok::<_, Infallible>(host.answer(request).await) }
    });
    let keep_time = tower::layer::layer_fn(move |inner| KeepTime { inner, clock: Arc::clone(&clock) });
    TowerToHyperService::new(ServiceBuilder::new().layer(keep_time).layer(CatchPanic).service(answer))
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

impl Host {
    async fn answer(self, request: Request<Incoming>) -> Response<Answer> {
        match self.guests {
            Guests::Clients => proxy::answer(request, self.house, self.seat).await,
            // Boxed: it is rare, and would make room in every request's future.
            Guests::Handlers => Box::pin(proxy::run_errand(request, self.house, self.seat)).await,
        }
    }
}

/// Marks the connection as busy while a request is answered.
#[derive(Clone, Debug)]
struct KeepTime<S> {
    inner: S,
    clock: Arc<Clock>,
}

impl<S: Service<Request<Incoming>, Response = Response<Answer>>> Service<Request<Incoming>> for KeepTime<S> {
    type Response = Response<Timed>;
    type Error = S::Error;
    type Future = Keeping<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.clock.set(Wait::Answer);
        Keeping { inner: self.inner.call(request), clock: Arc::clone(&self.clock) }
    }
}

pin_project_lite::pin_project! {
    /// A request that is being answered on a connection.
    struct Keeping<F> {
        #[pin]
        inner: F,
        clock: Arc<Clock>,
    }
}

impl<F, E> Future for Keeping<F>
where
    F: Future<Output = Result<Response<Answer>, E>>,
{
    type Output = Result<Response<Timed>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx));
        Poll::Ready(response.map(|r| r.map(|answer| Timed::new(answer, Arc::clone(this.clock)))))
    }
}

/// A panic costs its own request a 500 and nobody else anything.
#[derive(Clone, Copy, Debug)]
struct CatchPanic;

impl<S> Layer<S> for CatchPanic {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Caught<S> {
        Caught(inner)
    }
}

#[derive(Clone, Debug)]
struct Caught<S>(S);

impl<S> Service<Request<Incoming>> for Caught<S>
where
    S: Service<Request<Incoming>, Response = Response<Answer>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Catching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Catching { inner: AssertUnwindSafe(self.0.call(request)).catch_unwind() }
    }
}

pin_project_lite::pin_project! {
    struct Catching<F> {
        #[pin]
        inner: CatchUnwind<AssertUnwindSafe<F>>,
    }
}

impl<F, E> Future for Catching<F>
where
    F: Future<Output = Result<Response<Answer>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let caught: Result<F::Output, Box<dyn Any + Send>> = ready!(self.project().inner.poll(cx));
        // The panic hook has logged where; what it says may hold a client's words.
        Poll::Ready(caught.unwrap_or_else(|_| Ok(proxy::crashed())))
    }
}
