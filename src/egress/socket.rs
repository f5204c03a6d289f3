//! A Unix socket as a destination: the one on which a handler's process answers.

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::error::SendError;

/// What stands for it in messages: its path is nobody's business but ours.
pub(super) const SHOWN: &str = "the handler's socket";

/// What requests say as `host`.
pub(super) static HOST: HeaderValue = HeaderValue::from_static("handler");

/// How soon a socket whose queue is full is tried again: the kernel refuses at once rather than have us wait.
const AGAIN: Duration = Duration::from_millis(2);

/// A socket of one of our own processes.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Who must have opened it.
    owner: u32,
}

impl Socket {
    /// The one at `path`, opened by the user that we run as.
    ///
    /// # Errors
    ///
    /// `path` is longer than the system takes, or holds a NUL.
    pub(super) fn new(path: &Path) -> Result<Self, String> {
        SocketAddr::from_pathname(path)
            .map_err(|error| format!("the path of {SHOWN} cannot be a Unix socket's: {error}"))?;
        Ok(Self { path: path.to_owned(), owner: geteuid().as_raw() })
    }

    /// Connects, for as long as it takes a full queue to have room.
    pub(super) async fn reach(&self) -> Result<UnixStream, SendError> {
        loop {
            match self.dial().await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(AGAIN).await,
                dialled => {
                    return dialled
                        .map_err(|error| SendError::Connect(format!("no connection to {SHOWN}: {error}")));
                }
            }
        }
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path).await?;
        if stream.peer_cred()?.uid() != self.owner {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it was opened by a process of another user",
            ));
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, SockAddr, Type};
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::super::testing::*;
    use super::super::{Clients, Egress, EgressLimits, Route, Sent};
    use super::*;
    use crate::tasks::Tasks;

    /// A handler's process, as the test plays it.
    struct Worker {
        listener: UnixListener,
        clients: Clients,
        tasks: Tasks,
        path: PathBuf,
        _dir: TempDir,
    }

    impl Worker {
        fn bind() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("w1.sock");
            let (listener, tasks) = (UnixListener::bind(&path).unwrap(), Tasks::new());
            Self { listener, clients: Clients::new(1, tasks.clone()), tasks, path, _dir: dir }
        }

        fn egress(&self, limits: EgressLimits) -> Egress {
            self.clients.worker(&self.path, &limits).unwrap()
        }

        async fn accept(&self) -> Peer<UnixStream> {
            Peer::new(self.listener.accept().await.unwrap().0)
        }

        /// Sends a request, takes it on a new connection, and says `answer`.
        async fn answer(
            &self,
            egress: &Egress,
            answer: &str,
        ) -> (Result<Box<Sent>, SendError>, Peer<UnixStream>) {
            tokio::join!(egress.send(SEAT, post(&["x"])), async {
                let mut peer = self.accept().await;
                peer.request().await;
                peer.say(answer).await;
                peer
            })
        }

        /// The other end of a connection that has served one request and is idle now.
        async fn warm(&self, egress: &Egress) -> Peer<UnixStream> {
            let (sent, peer) = self.answer(egress, OK).await;
            assert_eq!(text(sent.unwrap()).await, "ok");
            peer
        }
    }

    /// What comes of a request when nobody answers.
    async fn refused(egress: &Egress) -> SendError {
        soon(egress.send(SEAT, post(&["x"]))).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_request_goes_out_as_over_tcp_and_its_connection_is_used_again() {
        let worker = Worker::bind();
        let egress = worker.egress(LIMITS);
        let (sent, (got, mut peer)) =
            tokio::join!(egress.send(SEAT, post(&["{\"model\":", "\"m\"}"])), async {
                let mut peer = worker.accept().await;
                (peer.serve().await, peer)
            });
        let sent = sent.unwrap();
        assert!(sent.connected.is_some());
        assert_eq!(text(sent).await, "ok");
        let expected = format!(
            "POST /v1/x?a=1 HTTP/1.1\r\ncontent-type: application/json\r\nhost: handler\r\nuser-agent: outrider/{}\r\n\
             content-length: 13\r\n\r\n{{\"model\":\"m\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(got, expected);
        let other = egress.clone();
        let (second, got) = tokio::join!(other.send(SEAT, post(&["2"])), peer.serve());
        assert_eq!((second.unwrap().connected, got.ends_with("\r\n\r\n2")), (None, true));
        let route = Route { to: "the handler's socket".to_owned(), tls: None, proxy: None };
        assert_eq!((egress.route(), egress.host()), (route, &HeaderValue::from_static("handler")));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_wanted_any_more_closes_the_connection() {
        for begun in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", CHUNK] {
            let worker = Worker::bind();
            let egress = worker.egress(LIMITS);
            let (sent, mut peer) = worker.answer(&egress, begun).await;
            settle().await;
            drop(sent.unwrap());
            peer.closed().await;
        }
        let worker = Worker::bind();
        let egress = worker.egress(LIMITS);
        let mut peer = tokio::select! {
            _ = egress.send(SEAT, post(&["x"])) => unreachable!("nobody answered"),
            peer = async { let mut peer = worker.accept().await; peer.request().await; peer } => peer,
        };
        peer.closed().await;
    }

    #[tokio::test]
    async fn each_worker_has_connections_of_its_own_even_at_the_same_path() {
        let worker = Worker::bind();
        let (first, second) = (worker.egress(LIMITS), worker.egress(LIMITS));
        let _idle = worker.warm(&first).await;
        let (sent, _peer) = worker.answer(&second, OK).await;
        assert!(sent.unwrap().connected.is_some());
    }

    #[tokio::test]
    async fn idle_connections_go_with_the_last_handle_and_with_a_stop() {
        let worker = Worker::bind();
        let (egress, other) = (worker.egress(LIMITS), worker.egress(LIMITS));
        let (mut peer, mut stopped) = (worker.warm(&egress).await, worker.warm(&other).await);
        drop(egress.clone());
        let (sent, _) = tokio::join!(egress.send(SEAT, post(&["x"])), peer.serve());
        assert_eq!(text(sent.unwrap()).await, "ok");
        drop(egress);
        peer.closed().await;
        worker.clients.close();
        stopped.closed().await;
        soon(worker.tasks.finished()).await;
    }

    #[tokio::test]
    async fn a_process_that_took_a_request_and_went_is_not_asked_again() {
        let worker = Worker::bind();
        let egress = worker.egress(LIMITS);
        let mut peer = worker.warm(&egress).await;
        let (sent, ()) = tokio::join!(egress.send(SEAT, post(&["once"])), async {
            peer.request().await;
            drop(peer);
        });
        let error = sent.unwrap_err();
        assert!(
            matches!(&error, SendError::Closed(words) if words.contains("the handler's socket")),
            "{error:?}"
        );
        assert!(error.reached_upstream());
    }

    #[tokio::test]
    async fn a_connection_that_closed_while_idle_is_replaced() {
        let worker = Worker::bind();
        let egress = worker.egress(LIMITS);
        drop(worker.warm(&egress).await);
        settle().await;
        let (sent, _peer) = soon(worker.answer(&egress, OK)).await;
        let sent = sent.unwrap();
        assert!(sent.connected.is_some());
        assert_eq!(text(sent).await, "ok");
    }

    #[tokio::test]
    async fn a_silent_process_is_given_up_at_the_limit_and_its_connection_closed() {
        let worker = Worker::bind();
        let egress = worker.egress(EgressLimits { first_byte: SHORT, ..LIMITS });
        let (sent, mut peer) = worker.answer(&egress, "HTTP/1.1 200").await;
        let words = "the handler's socket did not begin to answer within 50ms (first_byte)".to_owned();
        assert_eq!(sent.unwrap_err(), SendError::FirstByteTimeout(words));
        peer.closed().await;
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_told_without_its_path() {
        let worker = Worker::bind();
        let egress = worker.egress(LIMITS);
        drop(worker.listener);
        let words = "no connection to the handler's socket: Connection refused (os error 111)".to_owned();
        assert_eq!(refused(&egress).await, SendError::Connect(words));
        std::fs::remove_file(&worker.path).unwrap();
        let words =
            "no connection to the handler's socket: No such file or directory (os error 2)".to_owned();
        assert_eq!(refused(&egress).await, SendError::Connect(words));
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_and_bounded_by_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full.sock");
        let full = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        full.listen(0).unwrap();
        let _held = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let clients = Clients::new(1, Tasks::new());
        let short = clients.worker(&path, &EgressLimits { connect: SHORT, ..LIMITS }).unwrap();
        let error = refused(&short).await;
        assert!(
            matches!(&error, SendError::ConnectTimeout(words) if words.starts_with("no connection to the handler's socket within 50ms")),
            "{error:?}"
        );

        full.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(full).into()).unwrap();
        let egress = clients.worker(&path, &LIMITS).unwrap();
        let serve = async {
            let _held = listener.accept().await.unwrap();
            Peer::new(listener.accept().await.unwrap().0).serve().await
        };
        let sending = egress.send(SEAT, post(&["x"]));
        let mut sending = std::pin::pin!(sending);
        // It has met the full queue before there is room.
        assert!(futures_util::poll!(sending.as_mut()).is_pending());
        let (sent, _) = soon(async { tokio::join!(sending, serve) }).await;
        assert_eq!(text(sent.unwrap()).await, "ok");
    }

    #[tokio::test]
    async fn a_socket_of_another_user_is_not_spoken_to() {
        let worker = Worker::bind();
        let mut socket = Socket::new(&worker.path).unwrap();
        socket.reach().await.unwrap();
        socket.owner += 1;
        let words = "no connection to the handler's socket: it was opened by a process of another user";
        assert_eq!(socket.reach().await.unwrap_err(), SendError::Connect(words.to_owned()));
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_an_error() {
        let clients = Clients::new(1, Tasks::new());
        let error = clients.worker(Path::new(&"x".repeat(200)), &LIMITS).unwrap_err();
        assert!(error.contains("cannot be a Unix socket's") && !error.contains("xx"), "{error}");
    }
}
