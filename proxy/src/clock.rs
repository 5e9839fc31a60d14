//! The time of the present turn.
//!
//! A connection's turn of the event loop is short, and much in it wants to know
//! the time: limits, the pool, the record. So the clock is read once at most for
//! all of them. Outside of a turn it is read each time.

use std::cell::Cell;

use tokio::time::Instant;

/// Whether a turn is under way on this thread, and what time it is.
#[derive(Clone, Copy)]
enum Turn {
    Over,
    /// Nobody has read the clock yet.
    Begun,
    At(Instant),
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::Over) };
}

/// Ends the turn, after a panic too.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        TURN.set(Turn::Over);
    }
}

/// Does `work` as one turn. Turns don't nest.
pub(crate) fn in_turn<T>(work: impl FnOnce() -> T) -> T {
    TURN.set(Turn::Begun);
    let _end = End;
    work()
}

/// The time, which stands still during a turn.
pub(crate) fn now() -> Instant {
    match TURN.get() {
        Turn::At(now) => now,
        Turn::Over => Instant::now(),
        Turn::Begun => {
            let now = Instant::now();
            TURN.set(Turn::At(now));
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_in_a_turn_only() {
        let before = now();
        in_turn(|| assert_eq!(now(), before));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now(), before + Duration::from_secs(1));
        let ended = std::panic::catch_unwind(|| in_turn(|| panic!("at {:?}", now())));
        assert!(ended.is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now(), before + Duration::from_secs(2));
    }

    #[test]
    fn the_clock_is_read_once() {
        in_turn(|| {
            let first = now();
            std::thread::yield_now();
            assert_eq!(now(), first);
        });
    }
}
