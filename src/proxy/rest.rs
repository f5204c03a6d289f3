//! What an upstream has still to say behind an answer that its client has whole: read for nobody but its connection, which
//! can be used again then.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::egress::Body;
use crate::tasks::Tasks;

/// How much is read, and for how long.
const MOST: (usize, Duration) = (64 << 10, Duration::from_secs(1));

/// Reads `body` to its end, in the background if that has not come yet. One that goes on for too long is dropped.
pub(super) fn drain(mut body: Body, tasks: &Tasks) {
    // Without a runtime the process is ending, and the connection with it.
    if body.is_end_stream() || tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    // Mostly the end is there already.
    if let Some(None | Some(Err(_))) = body.frame().now_or_never() {
        return;
    }
    tasks.spawn(async move {
        let (most, patience) = MOST;
        let rest = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > most {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, rest).await;
    });
}
