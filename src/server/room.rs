//! How many connections are open, on which worker thread, and whether there is room for one more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::tasks::Seat;

/// The places of all worker threads.
#[derive(Debug)]
pub(super) struct Room {
    open: Vec<AtomicUsize>,
    most: usize,
    left: Notify,
    /// Connections that are open.
    shown: Gauge,
}

impl Room {
    pub(super) fn new(seats: usize, most: usize, shown: Gauge) -> Self {
        let open = (0..seats).map(|_| AtomicUsize::new(0)).collect();
        Self { open, most, left: Notify::new(), shown }
    }

    /// Resolves when there is room for another connection. Each listener may then take one, so that the limit can be
    /// passed by as many as there are listeners.
    pub(super) async fn free(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.open.iter().map(|n| n.load(Ordering::Relaxed)).sum::<usize>() < self.most {
                return;
            }
            left.await;
        }
    }

    /// A place on the thread with the fewest connections; `here` unless another has fewer.
    pub(super) fn take(room: &Arc<Self>, here: Seat) -> Place {
        let count = |seat: usize| room.open[seat].load(Ordering::Relaxed);
        let least = (0..room.open.len()).min_by_key(|seat| (count(*seat), *seat != here.0));
        let seat = Seat(least.unwrap_or(here.0));
        room.open[seat.0].fetch_add(1, Ordering::Relaxed);
        room.shown.inc();
        Place { room: Arc::clone(room), seat }
    }
}

/// One connection's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    seat: Seat,
}

impl Place {
    pub(super) fn seat(&self) -> Seat {
        self.seat
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open[self.seat.0].fetch_sub(1, Ordering::Relaxed);
        self.room.shown.dec();
        self.room.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_out_and_stay_where_they_were_accepted_if_that_is_fair() {
        let room = Arc::new(Room::new(2, 8, Gauge::default()));
        let seats: Vec<Place> = (0..4).map(|_| Room::take(&room, Seat(1))).collect();
        assert_eq!(seats.iter().map(|p| p.seat().0).collect::<Vec<_>>(), [1, 0, 1, 0]);
        drop(seats);
        assert_eq!(Room::take(&room, Seat(1)).seat(), Seat(1));
    }

    #[tokio::test]
    async fn a_full_room_waits_for_someone_to_leave() {
        let room = Arc::new(Room::new(1, 1, Gauge::default()));
        room.free().await;
        let place = Room::take(&room, Seat(0));
        let free = room.free();
        tokio::pin!(free);
        assert!(futures_util::poll!(free.as_mut()).is_pending());
        drop(place);
        free.await;
    }
}
