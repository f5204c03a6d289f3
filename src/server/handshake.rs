//! The TLS handshake with a caller: in the connection's own task, bounded in time, and in words where it fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stop::Stop;
use crate::tls::inbound::{Inbound, explain_caller};

/// The first byte of every TLS connection (RFC 8446 §5.1: a record of type handshake).
pub(super) const FIRST: u8 = 22;

/// What a caller is told that speaks plain HTTP.
const PLAIN: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 144\r\nconnection: close\r\n\r\n",
    r#"{"error":{"message":"this port speaks TLS: the URL must begin with https://","type":"invalid_request_error","param":null,"code":"tls_required"}}"#,
);

/// How much of what a plain caller sends is still read, and for how long: closing over unread bytes would be a reset,
/// which can take our words from it.
const REST: (u64, Duration) = (64 << 10, Duration::from_secs(1));

/// The encrypted stream; `None` where there is nobody to serve: the caller left or failed, `limit` is over, or a stop
/// began.
pub(super) async fn accept(
    stream: TcpStream,
    tls: &Inbound,
    limit: Duration,
    mut stop: Stop,
) -> Option<Box<TlsStream<TcpStream>>> {
    let peer = stream.peer_addr().ok();
    tokio::select! {
        biased;
        () = stop.begun() => None,
        shaken = tokio::time::timeout(limit, shake(stream, tls, peer)) => shaken.unwrap_or_else(|_| {
            tracing::debug!(peer = %shown(peer), "a TLS handshake took longer than server.header_timeout");
            None
        }),
    }
}

async fn shake(
    stream: TcpStream,
    tls: &Inbound,
    peer: Option<SocketAddr>,
) -> Option<Box<TlsStream<TcpStream>>> {
    let mut first = [0];
    // Probes of a port connect and leave.
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0] != FIRST {
        tracing::warn!(peer = %shown(peer), "a caller does not speak TLS, and server.tls demands it");
        if first[0].is_ascii_uppercase() {
            tell(stream).await;
        }
        return None;
    }
    match TlsAcceptor::from(tls.config()).accept(stream).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            tracing::warn!(peer = %shown(peer), why = why(&error), "a TLS handshake failed");
            None
        }
    }
}

async fn tell(mut stream: TcpStream) {
    let (most, patience) = REST;
    let told = async {
        stream.write_all(PLAIN.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await
    };
    // Whether a caller that is in the wrong place hears of it is its own affair.
    let _ = tokio::time::timeout(patience, told).await;
}

fn why(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => explain_caller(error),
        None => error.to_string(),
    }
}

fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_plain_callers_are_as_long_as_they_say() {
        let (head, body) = PLAIN.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
