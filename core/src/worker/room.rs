//! Threads that are no workers, and have spawned more than is good, wait for room (README, "Room").

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::context::Context;
use super::shared::{CROWD, Shared};
use super::waiter::{Waiter, park_for};
use crate::ambient;
use crate::clock::now;
use crate::task::future::Relay;
use crate::timer::{self, Alarm};

/// How often a thread looks at the number of unfinished tasks: once in so many spawns.
const LOOK_EVERY: u32 = 64;
/// How long a thread waits while nothing at all is finished: what is to be done may need something that this thread holds.
/// Long enough for workers that other programs keep from running.
const ROOM_PATIENCE: Duration = Duration::from_millis(30);
/// How long it sleeps at a time.
const ROOM_LOOK: Duration = Duration::from_millis(5);

thread_local! {
    /// Tasks that this thread has spawned on runtimes that it is no worker of.
    static SPAWNED: Cell<u32> = const { Cell::new(0) };
}

/// Who waits for room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Number of `wakers`.
    wanted: AtomicUsize,
    /// The number of unfinished tasks that waiting did not make smaller; until there are more, nobody waits again.
    crowd: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        // Single operations on the list; none of them panics half-way.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `waker` told when there is room. It may be missed once in a while, when a worker makes room at the same moment: whoever waits looks again by himself.
    pub(crate) fn want(&self, waker: Waker) {
        let mut wakers = self.lock();
        if wakers.iter().all(|known| !known.will_wake(&waker)) {
            wakers.push(waker);
        }
        self.wanted.store(wakers.len(), Relaxed);
    }

    /// Whether somebody waits.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// Tells everybody that there is room.
    #[cold]
    pub(crate) fn announce(&self) {
        let wakers = {
            let mut wakers = self.lock();
            self.wanted.store(0, Relaxed);
            std::mem::take(&mut *wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// After a spawn: if this thread is none of the runtime's, and has spawned much more than has run, waits until there is room.
    #[inline]
    pub(crate) fn make_foreign_room(&self, context: Option<&Context>) {
        // In vain while this thread holds back what it has spawned.
        if context.is_none() && self.is_crowded() && !ambient::holds_back() {
            self.wait_for_foreign_room();
        }
    }

    /// Whether a foreign thread that has spawned a task should wait for room. It looks at the number of tasks now and then.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        let spawned = SPAWNED.get().wrapping_add(1);
        SPAWNED.set(spawned);
        spawned.is_multiple_of(LOOK_EVERY) && self.unfinished() > self.room.crowd.load(Relaxed).max(CROWD)
    }

    /// Waits until there are fewer tasks, or until none has finished for a while.
    #[cold]
    fn wait_for_foreign_room(&self) {
        let (mut finished, mut since) = (self.finished(), now());
        let mut waiter = Waiter::for_this_thread();
        self.room.want(waiter.waker());
        while !self.has_room() {
            // It may return without cause: the time tells.
            park_for(ROOM_LOOK);
            if waiter.has_fired() {
                // Other threads may have filled it again.
                waiter = Waiter::for_this_thread();
                self.room.want(waiter.waker());
            }
            let now_finished = self.finished();
            if now_finished != finished {
                (finished, since) = (now_finished, now());
            } else if now().duration_since(since) >= ROOM_PATIENCE {
                break;
            }
        }
        self.note_room();
    }

    /// Somebody goes on. In vain, if there is no room: tasks wait for what he does next. Not again before there are twice as many.
    fn note_room(&self) {
        let unfinished = self.unfinished();
        self.room.crowd.store(if unfinished > CROWD { 2 * unfinished } else { 0 }, Relaxed);
    }
}

/// The same for a thread that runs an executor.
pub(crate) struct ForeignRoom {
    shared: Arc<Shared>,
    relay: Arc<Relay>,
    /// When it is looked whether anything has been finished, and what had been before.
    look: Option<(Instant, Alarm, u64)>,
}

impl ForeignRoom {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, relay: Arc::default(), look: None }
    }
}

impl Future for ForeignRoom {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.relay.set(context.waker());
        let waker = Waker::from(Arc::clone(&this.relay));
        this.shared.room.want(waker.clone());
        if this.shared.has_room() {
            this.shared.note_room();
            return Poll::Ready(());
        }
        let now = now();
        let finished = this.shared.finished();
        let (at, before) = match &this.look {
            // The alarm anew: it may have been what woke this, too early (`timer::hurry`), and is gone then.
            Some((at, _, before)) if now < *at => (*at, *before),
            Some((.., before)) if finished == *before => {
                this.shared.note_room();
                return Poll::Ready(());
            }
            _ => (now + ROOM_PATIENCE, finished),
        };
        // Without a timer nobody would look again.
        let Ok(alarm) = timer::wake_at(at, waker) else { return Poll::Ready(()) };
        this.look = Some((at, alarm, before));
        Poll::Pending
    }
}

impl Drop for ForeignRoom {
    fn drop(&mut self) {
        self.relay.clear();
    }
}
