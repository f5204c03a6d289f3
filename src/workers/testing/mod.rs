//! For tests: a house of workers whose script is of the standard library alone and keeps the protocol of the real one.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt as _;
use serde_json::Map;

use super::report::CrewStatus;
use super::spec::Spec;
use super::{Crew, HandlerFailure, Lease, Workers};
use crate::config::valid::{CallStyle, Variables};
use crate::egress::Clients;
use crate::outbound::{Segments, Signed, Stamp, Unsigned};
use crate::tasks::{Seat, Tasks};

const STANDIN: &str = include_str!("standin.py");

/// A handler `h.py` in `directory` with limits that no test meets by chance.
pub(super) fn spec(directory: &Path) -> Spec {
    Spec {
        directory: directory.to_owned(),
        file_name: "h.py".to_owned(),
        class_name: "H".to_owned(),
        init_kwargs: Map::new(),
        call_style: CallStyle::Auto,
        api_base: None,
        key_header: None,
        key_prefix: None,
        sync_threads: 4,
        max_body: 1 << 20,
        ca_bundle: None,
        hidden: None,
        python: "python3".to_owned(),
        environment: environment(&[]),
        workers: 1,
        start_timeout: Duration::from_secs(60),
        start_wait: Duration::from_secs(60),
        request_timeout: Duration::from_secs(60),
        memory: 0,
        max_requests: 0,
        max_in_flight: 64,
        queue_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(60),
    }
}

/// What workers see of the environment.
pub(super) fn environment(more: &[(&str, &str)]) -> Variables {
    let path = ("PATH", "/usr/local/bin:/usr/bin:/bin");
    // One that holds bytecode of handlers back: an edit within the second would go unseen.
    let all = [path, ("PYTHONDONTWRITEBYTECODE", "1")].into_iter().chain(more.iter().copied());
    Variables(all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Handlers' files, and workers.
pub(super) struct House {
    pub(super) handlers: tempfile::TempDir,
    pub(super) base: tempfile::TempDir,
    pub(super) workers: Workers,
}

impl House {
    /// A house whose handler `h.py` is `handler`.
    pub(super) fn open(handler: &str) -> Self {
        let (handlers, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut workers = Workers::new(Arc::new(Clients::new(1, Tasks::new())));
        workers.script = STANDIN;
        workers.base = base.path().to_owned();
        let house = Self { handlers, base, workers };
        house.write("h.py", handler);
        house
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.handlers.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn spec(&self) -> Spec {
        spec(self.handlers.path())
    }

    /// The crew of the integration `acme`.
    pub(super) fn crew(&self, spec: Spec) -> Arc<Crew> {
        self.workers.crew("acme", spec).unwrap()
    }

    /// Ends everything and checks that nothing is left.
    pub(super) async fn close(self, crew: &Crew) {
        let pids: Vec<u32> = crew.status().workers.iter().filter_map(|worker| worker.pid).collect();
        self.workers.stop(Duration::from_secs(60)).await;
        for pid in pids {
            assert!(!lives(pid), "{pid} is left");
        }
        assert_eq!(fs::read_dir(self.base.path()).unwrap().count(), 0);
        assert!(crew.core.lease().await.is_err());
    }
}

/// Whether there is a process `pid`, even one that nobody has waited for.
pub(super) fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until `reached` says so of the crew's status.
pub(super) async fn until(crew: &Crew, reached: impl Fn(&CrewStatus) -> bool) -> CrewStatus {
    let wait = async {
        loop {
            let status = crew.status();
            if reached(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), wait).await {
        Ok(status) => status,
        Err(_) => panic!("it never came to be: {:?}", crew.status()),
    }
}

/// Waits until `reached`.
pub(super) async fn eventually<F: Future<Output = bool>>(reached: impl Fn() -> F) {
    let wait = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never came to be");
}

/// How often workers were replaced for the cause of this name.
pub(super) fn restarts(status: &CrewStatus, name: &str) -> u64 {
    status.restarts.iter().find(|(one, _)| *one == name).unwrap().1
}

/// The answer of a worker to `body`, or whose fault it is that there is none.
pub(super) async fn ask(lease: &Lease, body: &'static str) -> Result<String, HandlerFailure> {
    let mut request = Unsigned::new(Method::POST, "", HeaderMap::new(), Segments::one(body.into()));
    request.uri = Uri::from_static("http://handler/v1/chat/completions");
    let request = Signed { request, stamp: Stamp::default() };
    let sent = lease.send(Seat(0), request).await?;
    let whole = sent.body.collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(whole.to_vec()).unwrap())
}

/// The answer to `body` of any worker of `crew`; as with calls of clients, another is asked, once, if the first took none.
pub(super) async fn call(crew: &Crew, body: &'static str) -> Result<String, HandlerFailure> {
    let lease = crew.core.lease().await.unwrap();
    match ask(&lease, body).await {
        Err(HandlerFailure::Unreachable(_)) => {}
        answered => return answered,
    }
    drop(lease);
    let lease = crew.core.lease().await.unwrap();
    ask(&lease, body).await
}
