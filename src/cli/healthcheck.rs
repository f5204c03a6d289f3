//! `outrider healthcheck`: asks the running sidecar whether it lives, or is ready, for images without curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::Exit;
use crate::config::valid::{Admin, Listen};
use crate::config::{self, Options};

/// How long connecting and each read may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const MOST: u64 = 64 << 10;

/// What a health check takes.
#[derive(Debug, clap::Args)]
pub(super) struct Healthcheck {
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask whether it is ready for requests, not only whether it lives
    #[arg(long)]
    ready: bool,
}

/// Asks; exit code 0 if all is well, else 1 and why on stderr.
pub(super) fn run(check: &Healthcheck) -> Exit {
    let path = if check.ready { "/readyz" } else { "/livez" };
    match ask(&Options::process(check.config.clone()), path) {
        Ok(()) => Exit::Done,
        Err(why) => {
            // There is nobody left to tell if stderr is gone; the exit code still says it.
            let _ = writeln!(io::stderr().lock(), "{why}");
            Exit::Failed
        }
    }
}

fn ask(options: &Options, path: &str) -> Result<(), String> {
    // A sidecar that runs lives on when its file is broken: only [admin] matters here.
    let admin = config::admin(options).map_err(|problems| problems.render(false))?;
    let door = door(&admin)?;
    let shown = match door {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let answer = match door {
        Listen::Tcp(address) => tcp(reachable(*address)).and_then(|socket| get(socket, path)),
        Listen::Unix(file) => unix(file).and_then(|socket| get(socket, path)),
    };
    let answer = answer.map_err(|error| format!("no answer from {shown}{path}{}", why(&error)))?;
    judge(&answer).map_err(|why| format!("{shown}{path} {why}"))
}

/// What comes of a limit on waiting is not said by the system's words for it, "resource temporarily unavailable".
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(" within {} s", PATIENCE.as_secs()),
        _ => format!(": {error}"),
    }
}

fn door(admin: &Admin) -> Result<&Listen, String> {
    let Some(door) = admin.listen.as_ref().or(admin.metrics_listen.as_ref()) else {
        return Err(
            "admin.listen is \"off\", so there is nobody to ask: give it an address such as 127.0.0.1:4011"
                .to_owned(),
        );
    };
    match door {
        Listen::Tcp(address) if address.port() == 0 => {
            Err("the port of admin.listen is 0, which is another at each start: give it one".to_owned())
        }
        Listen::Tcp(_) | Listen::Unix(_) => Ok(door),
    }
}

/// Where to connect to what listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn unix(path: &PathBuf) -> io::Result<UnixStream> {
    let socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn get(mut socket: impl Read + Write, path: &str) -> io::Result<Vec<u8>> {
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    match status {
        Some("200") => Ok(()),
        Some(status) => Err(format!("answers {status}: {}", body.trim())),
        None => Err("does not answer in HTTP: is another program there?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn who_takes_the_connection_and_says_nothing_is_told_as_that() {
        let (ours, _hung) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(why(&get(ours, "/livez").unwrap_err()), " within 5 s");
        assert!(why(&io::Error::from(io::ErrorKind::ConnectionRefused)).contains("refused"));
    }

    #[test]
    fn only_a_200_is_health() {
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\n\r\nok\n"), Ok(()));
        let ill = judge(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\ndraining\n");
        assert_eq!(ill, Err("answers 503: draining".to_owned()));
        assert!(judge(b"SSH-2.0-x\r\n").unwrap_err().contains("another program"));
        assert!(judge(b"").is_err());
    }
}
