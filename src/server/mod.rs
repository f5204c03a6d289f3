//! The house's doors: listeners, connections with their time limits, the shell around each request, the admin side.

pub mod admin;
mod bell;
mod clock;
mod connection;
mod handshake;
pub mod listen;
mod room;
mod shell;
mod socket_file;
pub mod stop;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::valid;
use crate::proxy::House;
use crate::tasks::{Seat, Tasks};
use crate::tls::Inbound;
use connection::Limits;
use listen::{Accepted, Bound, Door, Stream};
use room::{Place, Room};
use stop::Stop;

/// What one worker thread serves: its share of the connections, from whichever thread accepted them.
#[derive(Debug)]
pub struct Serving {
    shared: Shared,
    seat: Seat,
    handed: mpsc::UnboundedReceiver<(Accepted, Place)>,
}

#[derive(Clone, Debug)]
struct Shared {
    house: Arc<House>,
    limits: Limits,
    room: Arc<Room>,
    seats: Arc<[mpsc::UnboundedSender<(Accepted, Place)>]>,
    connections: Tasks,
    stop: Stop,
    tls: Option<Arc<Inbound>>,
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
        let shared = Shared {
            house: Arc::clone(house),
            limits: Limits::of(settings),
            room: Arc::new(Room::new(seats, settings.max_connections, Arc::clone(&house.metrics))),
            seats: hands.into(),
            connections: connections.clone(),
            stop: stop.clone(),
            tls: tls.cloned(),
        };
        let serving = |(seat, handed)| Self { shared: shared.clone(), seat: Seat(seat), handed };
        handed.into_iter().enumerate().map(serving).collect()
    }

    /// Which worker it is for.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Accepts on every door until the stop, then waits for the connections that are still open.
    pub async fn run(mut self, doors: Vec<Bound>) -> io::Result<()> {
        let doors = doors.into_iter().map(Bound::into_async).collect::<io::Result<Vec<_>>>()?;
        let accepting = doors.into_iter().map(|door| self.shared.clone().accept(door, self.seat));
        let accepting = futures_util::future::join_all(accepting);
        tokio::pin!(accepting);
        loop {
            tokio::select! {
                _ = accepting.as_mut() => break,
                Some((accepted, place)) = self.handed.recv() => self.take_over(accepted, place),
            }
        }
        // What was handed over just before the stop still gets its answer.
        while let Ok((accepted, place)) = self.handed.try_recv() {
            self.take_over(accepted, place);
        }
        self.shared.connections.finished().await;
        Ok(())
    }

    fn take_over(&self, accepted: Accepted, place: Place) {
        match accepted.into_stream() {
            Ok(stream) => self.shared.serve(stream, self.seat, place),
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
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
                    tracing::warn!(%error, "a connection was not accepted");
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
            // A worker that is gone takes its process with it.
            Ok(accepted) => drop(self.seats[there.0].send((accepted, place))),
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
        }
    }

    fn serve(&self, stream: Stream, seat: Seat, place: Place) {
        let (house, limits, stop) = (Arc::clone(&self.house), self.limits, self.stop.clone());
        let tls = self.tls.clone().filter(|_| matches!(stream, Stream::Tcp(_)));
        self.connections.spawn(async move {
            connection::serve(stream, tls, house, seat, limits, stop).await;
            drop(place);
        });
    }
}
