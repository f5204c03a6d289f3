//! The house's doors: listeners, connections with their time limits, the shell around each request, the admin side.

pub mod admin;
mod clock;
mod complaint;
mod connection;
mod handshake;
pub mod listen;
mod remainder;
mod room;
mod shell;
mod socket_file;
pub mod stop;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::time::Instant;

use crate::config::valid;
use crate::proxy::House;
use crate::tasks::{Seat, Tasks};
use crate::tls::Inbound;
use complaint::Complaint;
use connection::{Guest, Limits};
use listen::{Accepted, Bound, Door, Stream};
use prometheus_client::metrics::gauge::Gauge;
use room::{Place, Room};
use shell::{Guests, Host};
use stop::Stop;

/// What one worker thread serves: its share of the connections, from whichever thread accepted them.
#[derive(Debug)]
pub struct Serving {
    clients: Shared,
    handlers: Shared,
    seat: Seat,
    handed: mpsc::UnboundedReceiver<Handed>,
}

/// What listeners for the same guests share.
#[derive(Clone, Debug)]
struct Shared {
    house: Arc<House>,
    guests: Guests,
    limits: Limits,
    room: Arc<Room>,
    seats: Arc<[mpsc::UnboundedSender<Handed>]>,
    connections: Tasks,
    stop: Stop,
    tls: Option<Arc<Inbound>>,
    unaccepted: Arc<Complaint>,
}

/// A connection that another worker's thread is to serve.
#[derive(Debug)]
struct Handed {
    accepted: Accepted,
    place: Place,
    guests: Guests,
}

/// The listeners of one worker thread.
#[derive(Debug)]
pub struct Doors {
    /// For clients.
    pub clients: Vec<Bound>,
    /// For our own handlers on the way to their providers, where there is such a way.
    pub handlers: Option<Bound>,
}

impl Doors {
    /// Other handles to the same listeners.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            clients: self.clients.iter().map(Bound::try_clone).collect::<io::Result<_>>()?,
            handlers: self.handlers.as_ref().map(Bound::try_clone).transpose()?,
        })
    }
}

impl Serving {
    /// One for each worker thread. `connections` tells when the last client has gone; `tls` is what TCP listeners speak.
    pub fn crew(
        house: &Arc<House>,
        settings: &valid::Server,
        connections: &Tasks,
        stop: &Stop,
        tls: Option<&Arc<Inbound>>,
    ) -> Vec<Self> {
        let seats = settings.workers.max(1);
        let (hands, handed): (Vec<_>, Vec<_>) = (0..seats).map(|_| mpsc::unbounded_channel()).unzip();
        let room = |shown: Gauge| Arc::new(Room::new(seats, settings.max_connections, shown));
        let clients = Shared {
            house: Arc::clone(house),
            guests: Guests::Clients,
            limits: Limits::of(settings),
            room: room(house.metrics.connections.clone()),
            seats: hands.into(),
            connections: connections.clone(),
            stop: stop.clone(),
            tls: tls.cloned(),
            unaccepted: Arc::default(),
        };
        // Clients that wait for a handler must not keep it from its provider: neither by their number nor by leaving.
        let handlers = Shared {
            guests: Guests::Handlers,
            room: room(Gauge::default()),
            connections: house.tasks.clone(),
            stop: stop.clone().late(),
            tls: None,
            ..clients.clone()
        };
        let serving = |(seat, handed)| Self {
            clients: clients.clone(),
            handlers: handlers.clone(),
            seat: Seat(seat),
            handed,
        };
        handed.into_iter().enumerate().map(serving).collect()
    }

    /// Which worker it is for.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Accepts clients on every door until the stop, then waits for their connections that are still open. Handlers are
    /// served as long: what a client still waits for may need them.
    pub async fn run(mut self, doors: Doors) -> io::Result<()> {
        let to_clients = doors.clients.into_iter().map(Bound::into_async).collect::<io::Result<Vec<_>>>()?;
        let to_handlers = doors.handlers.map(Bound::into_async).transpose()?;
        let accepting = to_clients.into_iter().map(|door| self.clients.clone().accept(door, self.seat));
        let accepting = futures_util::future::join_all(accepting);
        let beside = to_handlers.into_iter().map(|door| self.handlers.clone().accept(door, self.seat));
        let beside = async {
            futures_util::future::join_all(beside).await;
            std::future::pending::<()>().await;
        };
        tokio::pin!(accepting, beside);
        loop {
            tokio::select! {
                _ = accepting.as_mut() => break,
                () = beside.as_mut() => {}
                Some(handed) = self.handed.recv() => self.take_over(handed),
            }
        }
        // What was handed over just before the stop still gets its answer.
        while let Ok(handed) = self.handed.try_recv() {
            self.take_over(handed);
        }
        let connections = self.clients.connections.clone();
        let last = connections.finished();
        tokio::pin!(last);
        loop {
            tokio::select! {
                () = last.as_mut() => return Ok(()),
                () = beside.as_mut() => {}
                Some(handed) = self.handed.recv() => self.take_over(handed),
            }
        }
    }

    fn take_over(&self, handed: Handed) {
        match handed.guests {
            Guests::Clients => self.clients.receive(handed, self.seat),
            Guests::Handlers => self.handlers.receive(handed, self.seat),
        }
    }
}

impl Shared {
    async fn accept(self, door: Door, seat: Seat) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.begun() => return,
                accepted = async {
                    self.room.free().await;
                    door.accept().await
                } => accepted,
            };
            match accepted {
                Ok(stream) => self.seat(stream, seat),
                Err(error) => {
                    if let Some(left_out) = self.unaccepted.told(Instant::now()) {
                        let help = (error.raw_os_error() == Some(Errno::MFILE.raw_os_error())).then_some(
                            "raise the limit of open files (ulimit -n), or lower server.max_connections",
                        );
                        tracing::warn!(%error, help, left_out, "a connection was not accepted");
                    }
                    // Out of descriptors: the same error would come at once, again and again.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Clients keep few connections for long: left to chance, one worker may get all of them.
    fn seat(&self, stream: Stream, here: Seat) {
        let place = Room::take(&self.room, here);
        let there = place.seat();
        if there == here {
            return self.serve(stream, here, place);
        }
        match stream.into_accepted() {
            Ok(accepted) => {
                let handed = Handed { accepted, place, guests: self.guests };
                if let Err(SendError(handed)) = self.seats[there.0].send(handed) {
                    // That worker is gone, and its process with it soon: until then the others do its work.
                    self.receive(handed, here);
                }
            }
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
        }
    }

    /// Serves what another worker's thread accepted, or was to serve.
    fn receive(&self, handed: Handed, seat: Seat) {
        match handed.accepted.into_stream() {
            Ok(stream) => self.serve(stream, seat, handed.place),
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
        }
    }

    fn serve(&self, stream: Stream, seat: Seat, place: Place) {
        let host = Host { house: Arc::clone(&self.house), seat, guests: self.guests };
        let guest = Guest { host, limits: self.limits, stop: self.stop.clone(), place };
        let tls = self.tls.clone().filter(|_| matches!(stream, Stream::Tcp(_)));
        self.connections.spawn(connection::serve(guest, stream, tls, self.connections.clone()));
    }
}
