//! The house's doors: listeners, connections with their time limits, the shell around each request, the admin side.

pub mod admin;
mod clock;
mod connection;
pub mod listen;
mod shell;
pub mod stop;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::valid;
use crate::observe::Metrics;
use crate::proxy::House;
use crate::tasks::{Seat, Tasks};
use connection::Limits;
use listen::{Bound, Door};
use stop::Stop;

/// What a worker thread serves.
#[derive(Clone, Debug)]
pub struct Serving {
    house: Arc<House>,
    limits: Limits,
    room: Arc<Room>,
    connections: Tasks,
    stop: Stop,
}

/// How many more connections may be open.
#[derive(Debug)]
struct Room {
    open: AtomicUsize,
    most: usize,
    left: Notify,
    metrics: Arc<Metrics>,
}

impl Serving {
    /// Serves `house` under the limits of `settings`; `connections` tells when the last client has gone.
    pub fn new(house: Arc<House>, settings: &valid::Server, connections: Tasks, stop: Stop) -> Self {
        let room = Room {
            open: AtomicUsize::new(0),
            most: settings.max_connections,
            left: Notify::new(),
            metrics: Arc::clone(&house.metrics),
        };
        Self { house, limits: Limits::of(settings), room: Arc::new(room), connections, stop }
    }

    /// Accepts on every door until the stop, then waits for the connections that are still open.
    pub async fn run(self, doors: Vec<Bound>, seat: Seat) -> std::io::Result<()> {
        let doors = doors.into_iter().map(Bound::into_async).collect::<Result<Vec<_>, _>>()?;
        let accepting = doors.into_iter().map(|door| self.clone().accept(door, seat));
        futures_util::future::join_all(accepting).await;
        self.connections.finished().await;
        Ok(())
    }

    async fn accept(self, door: Door, seat: Seat) {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.begun() => return,
                () = self.room.free() => {}
            }
            let accepted = tokio::select! {
                biased;
                () = stop.begun() => return,
                accepted = door.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let serving = self.clone();
                    let place = Place::take(&self.room);
                    self.connections.spawn(async move {
                        connection::serve(stream, serving.house, seat, serving.limits, serving.stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    // Out of descriptors: the same error would come at once, again and again.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

impl Room {
    /// Resolves when there is room for another connection. Each worker may then take one, so that the limit can be
    /// passed by as many as there are listeners.
    async fn free(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.open.load(Ordering::Relaxed) < self.most {
                return;
            }
            left.await;
        }
    }
}

/// One connection's place, free again when dropped.
#[derive(Debug)]
struct Place(Arc<Room>);

impl Place {
    fn take(room: &Arc<Room>) -> Self {
        room.open.fetch_add(1, Ordering::Relaxed);
        room.metrics.connections.inc();
        Self(Arc::clone(room))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.dec();
        self.0.left.notify_waiters();
    }
}
