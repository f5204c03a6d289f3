//! Threads that end before their time: what runs is brought to its end, and the whole says so.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::config::{Environment, Options, load};

const SAID: &str = "{\"choices\":[]}";

/// A start with one integration before `provider`; `server` are lines of `[server]`.
fn start_before(provider: &TcpListener, server: &str) -> Start {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [integrations.acme]\nendpoint = \"http://{}/v1\"\nauthentication_type = \"none\"\nmodels = [\"m\"]\n",
        provider.local_addr().unwrap()
    );
    std::fs::write(dir.path().join("config.toml"), text).unwrap();
    let options = Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
    let settings = load(&options).unwrap_or_else(|problems| panic!("{problems}")).settings;
    let (sink, _writer) = Sink::to(io::sink(), true, Duration::ZERO);
    Start { settings, sink, source: None, signals: None }
}

fn provider() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn tcp(address: Option<&Address>) -> SocketAddr {
    match address {
        Some(Address::Tcp(address)) => *address,
        other => panic!("bound at {other:?}"),
    }
}

/// What is read of `stream` up to the end of its head and `body`.
fn message(stream: &mut TcpStream, body: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut read, mut piece) = (String::new(), [0; 4096]);
    while !read.ends_with(body) || !read.contains("\r\n\r\n") {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {read:?}");
        read.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    read
}

/// How it ended, which must be soon.
fn ended(running: Running) -> Result<(), Broken> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(running.wait()));
    told.recv_timeout(Duration::from_secs(30)).expect("it did not end")
}

fn status(at: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = message(&mut stream, "\n");
    answer[9..12].parse().unwrap()
}

#[test]
fn when_a_worker_is_lost_what_the_others_serve_is_answered_and_the_whole_ends_as_broken() {
    let provider = provider();
    // It would linger for ever if it did as when it is told to stop.
    let start = start_before(&provider, "linger = \"500s\"");
    let (open, lost) = (Open::new(&start.settings).unwrap(), CancellationToken::new());
    let running = run(start, open, lost.clone()).unwrap();
    let (proxy, admin) = (tcp(running.proxy.first()), tcp(running.admin.as_ref()));
    let mut client = TcpStream::connect(proxy).unwrap();
    let chat = "{\"model\":\"m\",\"messages\":[]}";
    write!(
        client,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{chat}",
        chat.len()
    )
    .unwrap();
    let (mut asked, _) = provider.accept().unwrap();
    message(&mut asked, "}");
    assert_eq!(status(admin, "/readyz"), 200);
    lost.cancel();
    while status(admin, "/readyz") != 503 {}
    while TcpStream::connect(proxy).is_ok() {}
    assert_eq!(status(admin, "/livez"), 200);
    write!(asked, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{SAID}", SAID.len()).unwrap();
    assert!(message(&mut client, SAID).starts_with("HTTP/1.1 200 "));
    assert_eq!(ended(running), Err(Broken));
}

/// A descriptor that no runtime can wait for.
fn no_listener() -> Bound {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/null").unwrap();
    Bound::Tcp(TcpListener::from(OwnedFd::from(file)))
}

#[test]
fn a_worker_or_an_admin_side_that_cannot_serve_ends_the_whole() {
    let lame: [fn(&mut Open); 2] =
        [|open| open.doors[1].clients = vec![no_listener()], |open| open.admin = Some(no_listener())];
    for lame in lame {
        let start = start_before(&provider(), "linger = \"500s\"");
        let mut open = Open::new(&start.settings).unwrap();
        lame(&mut open);
        assert_eq!(ended(run(start, open, CancellationToken::new()).unwrap()), Err(Broken));
    }
}

#[test]
fn a_control_thread_that_cannot_go_on_is_told_from_one_that_was_stopped() {
    let start = start_before(&provider(), "");
    let mut running = super::start(start).unwrap();
    let control = std::mem::replace(&mut running.control, std::thread::spawn(|| panic!("for the test")));
    assert_eq!(ended(running), Err(Broken));
    drop(control);
    let start = start_before(&provider(), "");
    let running = super::start(start).unwrap();
    running.stopper.begin();
    running.stopper.end();
    assert_eq!(ended(running), Ok(()));
}

#[test]
fn errors_and_panics_of_a_worker_are_no_end() {
    assert!(to_the_end(|| Ok(())));
    assert!(!to_the_end(|| Err(io::Error::other("for the test"))));
    assert!(!to_the_end(|| panic!("for the test")));
}
