//! One line in some seconds, however often something fails: the rest is counted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(5);

/// When something was last complained about, and how often it was left out since.
#[derive(Debug, Default)]
pub(super) struct Complaint(Mutex<(Option<Instant>, u64)>);

impl Complaint {
    /// It happened at `now`: how many were left out before it, if it is to be told.
    pub(super) fn told(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| now < last + PAUSE) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_in_five_seconds_with_the_number_of_those_that_were_not() {
        let (complaint, start) = (Complaint::default(), Instant::now());
        let told: Vec<_> = (0..=1000_u32)
            .filter_map(|n| Some((n, complaint.told(start + n * Duration::from_millis(20))?)))
            .collect();
        assert_eq!(told, [(0, 0), (250, 249), (500, 249), (750, 249), (1000, 249)]);
    }
}
