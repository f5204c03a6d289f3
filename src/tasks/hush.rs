//! Keeps hyper from calling a connection's task for nothing.
//!
//! Whoever takes a frame of an HTTP/1.1 body calls the connection that brought it, so that it may bring the next: also
//! behind the last frame, where there is none. Such a call costs a whole turn of the connection's task, a
//! twentieth of a small request.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

thread_local! {
    static TAKING: Cell<Taking> = const { Cell::new(Taking::Nothing) };
}

/// Whether a frame is being taken on this thread, and whom that has called.
#[derive(Default)]
enum Taking {
    #[default]
    Nothing,
    Frame,
    Called(Arc<Call>),
}

/// What comes next of `incoming`, as its own `poll_frame` gives it. If that was the last frame of its message, nobody is
/// called for another. A body's connection must be driven with a [`Caller`] for that, else nothing is kept from it.
pub fn poll_frame(
    incoming: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    TAKING.set(Taking::Frame);
    let taken = Taken;
    let polled = Pin::new(&mut *incoming).poll_frame(cx);
    if matches!(polled, Poll::Ready(Some(Ok(_)))) && incoming.is_end_stream() {
        TAKING.set(Taking::Nothing);
    }
    drop(taken);
    polled
}

/// Passes on what was kept from a task, unless it need not know.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        if let Taking::Called(call) = TAKING.take() {
            call.0.wake_by_ref();
        }
    }
}

/// Makes the waker that a connection is polled with.
#[derive(Debug, Default)]
pub struct Caller(Option<(Arc<Call>, Waker)>);

impl Caller {
    /// The waker that calls the task of `cx`.
    pub fn waker(&mut self, cx: &Context<'_>) -> &Waker {
        let known = self.0.take().filter(|(call, _)| call.0.will_wake(cx.waker()));
        let (_, waker) = self.0.insert(known.unwrap_or_else(|| {
            let call = Arc::new(Call(cx.waker().clone()));
            (Arc::clone(&call), call.into())
        }));
        waker
    }
}

/// A call of a connection's task.
#[derive(Debug)]
struct Call(Waker);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        match TAKING.try_with(Cell::take).unwrap_or_default() {
            Taking::Nothing => self.0.wake_by_ref(),
            Taking::Frame => TAKING.set(Taking::Called(self)),
            // Nothing says that only one is called: whoever else is, is called at once.
            Taking::Called(first) => {
                TAKING.set(Taking::Called(first));
                self.0.wake_by_ref();
            }
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Arc::clone(self).wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Request;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http1::SendRequest;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::Tasks;
    use super::*;

    /// Both ends of a connection, the near one in hyper's hands, and how often that has been polled.
    type Ends = (SendRequest<Empty<Bytes>>, TcpStream, Arc<AtomicUsize>);

    /// Drives `connection` to its end, with a waker that can be kept from calling.
    async fn drive<T>(connection: impl Future<Output = T>) -> T {
        let (mut connection, mut caller) = (pin!(connection), Caller::default());
        poll_fn(|cx| connection.as_mut().poll(&mut Context::from_waker(caller.waker(cx)))).await
    }

    /// The body of the answer that begins with `head`.
    async fn answer(head: &str) -> (Incoming, Ends) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        let polls = Arc::new(AtomicUsize::new(0));
        let (mut connection, counted) = (Box::pin(connection), Arc::clone(&polls));
        Tasks::new().spawn(drive(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            connection.as_mut().poll(cx)
        })));
        let asked = sender.send_request(Request::get("/").body(Empty::<Bytes>::new()).unwrap());
        let serve = async {
            let mut sink = [0; 1024];
            assert!(far.read(&mut sink).await.unwrap() > 0);
            far.write_all(head.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(asked, serve);
        (response.unwrap().into_body(), (sender, far, polls))
    }

    /// How many turns the connection took because its only frame was taken by `take`.
    async fn turns(mut take: impl FnMut(&mut Incoming, &mut Context<'_>) -> Poll<usize>) -> usize {
        let (mut body, (_sender, _far, polls)) =
            answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        let before = polls.load(Ordering::Relaxed);
        assert_eq!(poll_fn(|cx| take(&mut body, cx)).await, 5);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        polls.load(Ordering::Relaxed) - before
    }

    fn length(polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) -> Poll<usize> {
        polled.map(|frame| frame.unwrap().unwrap().data_ref().map_or(0, Bytes::len))
    }

    #[tokio::test]
    async fn nobody_is_called_behind_the_last_frame() {
        assert_eq!(turns(|body, cx| length(Pin::new(body).poll_frame(cx))).await, 1);
        assert_eq!(turns(|body, cx| length(poll_frame(body, cx))).await, 0);
    }

    #[tokio::test]
    async fn whatever_else_is_to_come_does_come() {
        for (head, pieces, whole) in [
            ("content-length: 9\r\n\r\nabc", vec!["def", "ghi"], "abcdefghi"),
            ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", vec!["3\r\ndef\r\n", "0\r\n\r\n"], "abcdef"),
            ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", vec![], "abcdef"),
        ] {
            let (mut body, (_sender, mut far, _)) = answer(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
            let mut got = Vec::new();
            let read = async {
                while let Some(frame) = poll_fn(|cx| poll_frame(&mut body, cx)).await {
                    got.extend_from_slice(frame.unwrap().data_ref().unwrap());
                }
            };
            let write = async {
                for piece in pieces {
                    tokio::task::yield_now().await;
                    far.write_all(piece.as_bytes()).await.unwrap();
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), async { tokio::join!(read, write) })
                .await
                .expect("a frame never came");
            assert_eq!(got, whole.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_call_while_no_frame_is_taken_arrives() {
        let (body, (_sender, mut far, _)) = answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").await;
        let (whole, ()) = tokio::join!(body.collect(), async { far.write_all(b"abc").await.unwrap() });
        assert_eq!(whole.unwrap().to_bytes(), "abc");
    }
}
