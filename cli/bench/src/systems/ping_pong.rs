//! What it takes to bring word from one core to another and back: `ping-pong`.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::thread;

use super::Setup;
use crate::measure::{System, per_task};

/// A number that two threads count up in turn, alone in its cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ball(AtomicU64);

/// Plays `rounds` rounds: each thread waits for its turn with `wait` and hands over with `wake`.
fn play(rounds: u64, wait: impl Fn() + Sync, wake: impl Fn(&thread::Thread) + Sync) -> f64 {
    let ball = Ball::default();
    // Acquire: pairs with the Release of `serve`; nothing but the ball is passed.
    let turn = |number| {
        while ball.0.load(Acquire) != number {
            wait();
        }
    };
    let serve = |number| ball.0.store(number + 1, Release);
    let here = thread::current();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            for round in 0..rounds {
                turn(2 * round + 1);
                serve(2 * round + 1);
                wake(&here);
            }
        });
        let time = per_task(rounds, || {
            for round in 0..rounds {
                serve(2 * round);
                wake(other.thread());
                turn(2 * round + 2);
            }
        });
        assert_eq!(ball.0.load(Acquire), 2 * rounds);
        time
    })
}

/// Two threads that look at one cache line all the time.
pub(super) fn cache_line<'a>(setup: &Setup<'_>) -> System<'a> {
    let rounds = setup.effort.scaled(200_000);
    // With a single core, looking takes away the time in which the other could answer.
    let alone = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    System::new("limit", "there and back through a cache line that both look at", move || {
        play(rounds, if alone { thread::yield_now } else { std::hint::spin_loop }, |_| {})
    })
}

/// Two threads that sleep until they are woken.
pub(super) fn park<'a>(setup: &Setup<'_>) -> System<'a> {
    let rounds = setup.effort.scaled(10_000);
    System::new("limit", "there and back between threads that park (futex)", move || play(rounds, thread::park, thread::Thread::unpark))
}
