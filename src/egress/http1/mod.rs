//! A connection of HTTP/1.1 (RFC 9112): one request goes out, its answer comes in, driven by the task that wants it.
//!
//! Our own, in place of hyper's client: that has a task for each connection, to which a request and each frame of its
//! answer are handed over, and buffers that an idle connection keeps. What is read off the wire is read by `httparse`,
//! as in hyper.

mod chunks;
mod head;
mod input;
mod output;

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::Method;
use http::response::Parts;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::Moment;
use super::error::LineError;
use super::wire::{Seen, Stream};
use crate::outbound::Segments;
use chunks::Found;
use head::{Head, Reader, Rest};
use input::Input;
use output::Output;

/// The longest response head, and the longest trailers, in bytes. HTTP/2 keeps to it too.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// The types of TLS records that a server may begin with: an alert, a handshake (RFC 8446 §5.1).
const RECORDS: [u8; 2] = [0x15, 0x16];

/// What TLS puts into one record (RFC 8446 §5.1), in bytes: one write of the socket, which takes something of it or fails.
const ONE_RECORD: usize = 16 << 10;

/// The most of a body, in bytes, that may wait in front of the next request. Who refuses a request at once need not have
/// read it: sent is what the system has taken, and the next one would stand behind all that.
const MOST_UNREAD: usize = 64 << 10;

/// One open connection. Dropped, it closes at once. It is kept in a box: each request hands it on a good many times.
pub(super) struct Line {
    talk: Talk,
    /// For the wait for a head.
    alarm: Alarm,
    born: Instant,
}

/// What is said on a connection. What each piece of an answer touches stands side by side, as in a `Relay`.
#[repr(C)]
struct Talk {
    output: Output,
    stream: Stream,
    input: Input,
    /// What is still to come of the answer.
    rest: Rest,
    reader: Reader,
    method: Method,
    /// It may carry another request after this one.
    keeps: bool,
    /// The request has more of a body than [`MOST_UNREAD`].
    is_large: bool,
    /// Why nothing more can be written.
    broken: Option<io::Error>,
}

/// Without what is said: credentials, prompts and answers.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("born", &self.born).finish_non_exhaustive()
    }
}

impl Line {
    /// A connection on `stream`, on which nothing has been said.
    pub(super) fn new(stream: Stream) -> Self {
        let talk = Talk {
            stream,
            output: Output::default(),
            input: Input::new(),
            reader: Reader::default(),
            method: Method::POST,
            rest: Rest::Nothing,
            keeps: true,
            is_large: false,
            broken: None,
        };
        Self { talk, alarm: Alarm::new(), born: Instant::now() }
    }

    /// When it was opened.
    pub(super) fn born(&self) -> Instant {
        self.born
    }

    /// Puts a request on its way: its `method`, its whole `head`, its body. [`Line::hear`] sends it.
    pub(super) fn ask(&mut self, method: Method, head: Vec<u8>, body: Segments) {
        let talk = &mut self.talk;
        (talk.method, talk.is_large) = (method, body.len() > MOST_UNREAD);
        (talk.output, talk.reader) = (Output::new(head, body), Reader::default());
    }

    /// Sends the request and waits for the head of its answer; `None` after `limit`. An answer may come before all of
    /// the request is sent; the rest goes out while the answer is read.
    pub(super) fn hear(&mut self, limit: Duration) -> impl Future<Output = Option<Result<Parts, LineError>>> {
        let Self { talk, alarm, .. } = self;
        alarm.bound(limit, |cx| talk.poll_head(cx))
    }

    /// The body of the request, if no byte of that was written.
    pub(super) fn take_unsent(&mut self) -> Option<Segments> {
        self.talk.output.take_unsent()
    }

    /// What comes next of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, LineError>>> {
        self.talk.poll_frame(cx)
    }

    /// Whether the answer has been read to its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.talk.rest, Rest::Nothing)
    }

    /// How many bytes of the body are still to come, if the answer says it.
    pub(super) fn left(&self) -> Option<u64> {
        match self.talk.rest {
            Rest::Nothing => Some(0),
            Rest::Length(left) => Some(left),
            Rest::Chunked(_) | Rest::Close => None,
        }
    }

    /// Gives up what only a request needs; whether it may carry another. One whose upstream answered before it had read
    /// everything may not, nor one on which more has come than an answer.
    pub(super) fn rest(&mut self) -> bool {
        let talk = &mut self.talk;
        let is_free = talk.keeps && talk.output.is_done() && talk.input.bytes.is_empty();
        if is_free {
            talk.input.leave();
            talk.input = Input::new();
        }
        is_free && self.is_over()
    }

    /// Whether nothing has come on it while nobody asked: neither bytes nor its end. Who calls is called when it does.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        // Of TLS something may come that leaves nothing to read, and is no harm.
        let mut one = [0; 1];
        Pin::new(&mut self.talk.stream).poll_read(cx, &mut ReadBuf::new(&mut one)).is_pending()
    }

    /// What the system knows of it by now, which the runtime may not have noticed yet.
    pub(super) fn look(&self) -> Seen {
        self.talk.stream.look()
    }

    /// What is known when a request failed on it: `unsent` if no byte of that was written, `fresh` if it was the first.
    pub(super) fn moment(&self, unsent: bool, fresh: bool) -> Moment {
        let came = &self.talk.input.bytes[..];
        let spoke_tls = matches!(came, [kind, 0x03, ..] if RECORDS.contains(kind));
        Moment { unsent, fresh, renegotiable: self.talk.stream.is_renegotiable(), spoke_tls }
    }
}

impl Talk {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, LineError>> {
        if !self.output.is_done() {
            self.poll_output(cx)?;
        }
        loop {
            let head = self.reader.take(&mut self.input.bytes, &self.method).map_err(LineError::Garbled)?;
            if let Some(Head { parts, rest, keeps }) = head {
                self.rest = rest;
                let may_be_unread = self.is_large && parts.status.as_u16() >= 400;
                self.keeps = self.keeps && keeps && !may_be_unread;
                return Poll::Ready(Ok(parts));
            }
            if ready!(self.input.poll_fill(&mut self.stream, cx))? == 0 {
                return Poll::Ready(Err(self.broken.take().map_or(LineError::Closed, LineError::Io)));
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, LineError>>> {
        if !self.output.is_done() {
            self.poll_output(cx)?;
        }
        loop {
            if let Some(data) = self.take()? {
                return Poll::Ready(Some(Ok(data)));
            }
            if matches!(self.rest, Rest::Nothing) {
                return Poll::Ready(None);
            }
            if ready!(self.input.poll_fill(&mut self.stream, cx))? == 0 {
                // A write that failed has taken the error that would tell a connection that broke from one that ended.
                if let Some(error) = self.broken.take() {
                    return Poll::Ready(Some(Err(LineError::Io(error))));
                }
                if !matches!(self.rest, Rest::Close) {
                    return Poll::Ready(Some(Err(LineError::Cut)));
                }
                self.rest = Rest::Nothing;
            }
        }
    }

    /// What has come of the answer's body.
    fn take(&mut self) -> Result<Option<Bytes>, LineError> {
        let bytes = &mut self.input.bytes;
        let (data, is_over) = match &mut self.rest {
            _ if bytes.is_empty() => return Ok(None),
            Rest::Nothing => return Ok(None),
            Rest::Close => (bytes.split(), false),
            Rest::Length(left) => {
                let some = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= some as u64;
                let is_over = *left == 0;
                (bytes.split_to(some), is_over)
            }
            Rest::Chunked(chunks) => match chunks.take(bytes).map_err(garbled)? {
                Found::Unfinished => return Ok(None),
                Found::End => {
                    self.rest = Rest::Nothing;
                    return Ok(None);
                }
                // What is wrong behind the data is told when more is asked for.
                Found::Data(data) => {
                    let is_over = chunks.is_over(bytes).unwrap_or(false);
                    (data, is_over)
                }
            },
        };
        if is_over {
            self.rest = Rest::Nothing;
        }
        self.input.leave();
        Ok(Some(data.freeze()))
    }

    /// Writes what is left of the request. That more cannot be written is no failure yet: the answer may be there.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let first = if self.stream.is_secure() { ONE_RECORD } else { usize::MAX };
        let Poll::Ready(Err(error)) = self.output.poll(Pin::new(&mut self.stream), first, cx) else {
            return Ok(());
        };
        if !self.output.has_begun() {
            // Why it was closed may be what it said last.
            return match self.input.poll_fill(&mut self.stream, cx) {
                Poll::Ready(Err(last)) => Err(last),
                _ => Err(error),
            };
        }
        (self.output, self.keeps, self.broken) = (Output::sent(), false, Some(error));
        Ok(())
    }
}

fn garbled(why: &str) -> LineError {
    LineError::Garbled(why.to_owned())
}

impl Drop for Talk {
    fn drop(&mut self) {
        // The goodbye of TLS, if the socket takes it at once: closing says it too.
        if self.output.is_done() && self.stream.is_secure() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::testing::*;
    use crate::outbound::Segments;

    #[tokio::test]
    async fn what_is_said_is_not_shown_where_a_connection_is() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut request = post(&["a prompt"]);
        request.request.headers.insert("authorization", "Bearer s3cret-token".parse().unwrap());
        let (sent, _peer) = tokio::join!(egress.send(SEAT, request), async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(CHUNK).await;
            peer
        });
        let shown = format!("{:?}", sent.unwrap());
        assert!(shown.contains("Line") && shown.contains("born"), "{shown}");
        assert!(!["s3cret", "prompt", "hello", "[115,"].iter().any(|it| shown.contains(it)), "{shown}");
    }

    #[tokio::test]
    async fn a_large_answer_comes_whole_however_it_is_framed() {
        let large = "0123456789abcdef".repeat(200 << 10);
        let length = large.len();
        for (framing, body) in [
            (format!("content-length: {length}\r\n"), large.clone()),
            ("transfer-encoding: chunked\r\n".to_owned(), format!("{length:x}\r\n{large}\r\n0\r\n\r\n")),
            (String::new(), large.clone()),
        ] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let ask = async { text(egress.send(SEAT, post(&["x"])).await.unwrap()).await };
            let serve = async {
                let mut peer = upstream.accept().await;
                peer.request().await;
                peer.say(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}")).await;
                peer.io.shutdown().await.unwrap();
            };
            let (got, ()) = soon(async { tokio::join!(ask, serve) }).await;
            assert!(got == large, "{framing:?}: {} of {length} bytes", got.len());
        }
    }

    #[tokio::test]
    async fn an_answer_that_begins_early_is_heard_while_the_rest_of_the_request_goes_out() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut request = post(&[]);
        let large = vec![b'x'; 8 << 20];
        request.request.body = Segments::one(large.clone().into());
        let (heard, mut wait) = tokio::sync::oneshot::channel();
        let ask = async {
            let sent = egress.send(SEAT, request).await.unwrap();
            heard.send(()).unwrap();
            text(sent).await
        };
        let serve = async {
            let mut peer = upstream.accept().await;
            peer.io.read_exact(&mut [0; 64]).await.unwrap();
            peer.say(CHUNK).await;
            (&mut wait).await.unwrap();
            let mut rest = 0;
            let mut sink = vec![0; 64 << 10];
            while rest < large.len() {
                rest += peer.io.read(&mut sink).await.unwrap();
            }
            peer.say("0\r\n\r\n").await;
        };
        let (got, ()) = soon(async { tokio::join!(ask, serve) }).await;
        assert_eq!(got, "hello");
    }

    #[tokio::test]
    async fn an_answer_that_only_its_end_ends_is_cut_if_the_connection_breaks_below_the_request() {
        for _ in 0..5 {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let answer = "HTTP/1.1 200 OK\r\n\r\nhello";
            let (sent, peer) = soon(upstream.answer_early(&egress, answer)).await;
            let mut body = sent.unwrap().body;
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
            // Most of the request is unread: closing resets.
            drop(peer);
            let end = soon(body.frame()).await;
            assert!(matches!(end, Some(Err(_))), "{end:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_heard_though_the_upstream_takes_no_more_of_the_request() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
        let (sent, mut peer) = soon(upstream.answer_early(&egress, answer)).await;
        let sent = sent.unwrap();
        assert_eq!(sent.head.status.as_u16(), 413);
        assert_eq!(text(sent).await, "no");
        peer.closed().await;
    }
}
