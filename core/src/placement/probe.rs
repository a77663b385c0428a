//! Finds out what the links to devices give while nobody knows: in the background, from the first task on that has a choice.
//!
//! A thread of its own makes a few small and a few larger transfers each way, whenever the device does nothing else: their times would else tell about launches. It ends before the runtime
//! does, which waits for the transfer that is just under way and for no other. Real transfers then say more.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::clock::now_ns;
use crate::platform;
use crate::residency::DeviceSpace;
use crate::sync::Unparker;
use crate::worker::shared::Shared;
use crate::worker::waiter::{self, Waiter};

/// Bytes of a small transfer, which tells the latency.
const SMALL_BYTES: usize = 4 << 10;
/// Bytes of a large one, which tells the bandwidth.
const LARGE_BYTES: usize = 4 << 20;
/// No more of a device's memory is taken for it than one part of so many.
const CAPACITY_SHARE: u64 = 64;
/// So many transfers are measured of each size and each way.
const WANTED: usize = 3;
/// And so many are made at most, since some meet with launches.
const TRIES_MAX: usize = 16;

/// What a runtime has of it.
#[derive(Debug, Default)]
pub(super) struct Probe {
    has_begun: AtomicBool,
    thread: Arc<Mutex<Thread>>,
}

/// Where the thread is.
#[derive(Debug, Default)]
enum Thread {
    /// There is none, or it has ended.
    #[default]
    Gone,
    /// It is about to begin.
    Begins,
    /// This wakes it.
    Works(Unparker),
    /// Somebody waits for its end, and is told.
    AwaitedBy(Arc<Waiter>),
}

fn lock(thread: &Mutex<Thread>) -> std::sync::MutexGuard<'_, Thread> {
    // Single assignments.
    thread.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread has ended, however it did.
struct Ended(Arc<Mutex<Thread>>);

impl Drop for Ended {
    fn drop(&mut self) {
        let before = std::mem::take(&mut *lock(&self.0));
        if let Thread::AwaitedBy(waiter) = before {
            waiter.fire();
        }
    }
}

impl Probe {
    /// Begins, the first time that it is called. `unknown` are the spaces to whose links that applies.
    pub(super) fn begin(&self, runtime: &Weak<Shared>, unknown: impl FnOnce() -> Vec<Arc<DeviceSpace>>) {
        if self.has_begun.load(Relaxed) || self.has_begun.swap(true, Relaxed) {
            return;
        }
        let (runtime, spaces) = (Weak::clone(runtime), unknown());
        if spaces.is_empty() {
            return;
        }
        let goes_on = move || runtime.upgrade().is_some_and(|shared| shared.is_open());
        let ended = Ended(Arc::clone(&self.thread));
        *lock(&self.thread) = Thread::Begins;
        let run = move || {
            // Dropped in reverse: nothing of a backend is left when the end is told.
            let (ended, spaces, goes_on) = (ended, spaces, goes_on);
            {
                let mut thread = lock(&ended.0);
                if let Thread::Begins = *thread {
                    *thread = Thread::Works(waiter::unparker());
                }
            }
            // One that is given up is left to the real transfers.
            spaces.iter().for_each(|space| _ = probe(space, &goes_on));
        };
        // Without a thread there are the real transfers: what it was to run, and with it `ended`, is dropped then.
        let _ = platform::spawn("poniard-probe", run);
    }

    /// Waits until the thread has ended. The runtime takes no more tasks.
    pub(super) fn end(&self) {
        let waiter = Waiter::for_this_thread();
        {
            let mut thread = lock(&self.thread);
            match &*thread {
                Thread::Gone => return,
                Thread::Works(unparker) => unparker.unpark(),
                // It looks whether to go on before anything else.
                Thread::Begins | Thread::AwaitedBy(_) => {}
            }
            *thread = Thread::AwaitedBy(Arc::clone(&waiter));
        }
        waiter.wait();
    }
}

/// Makes the transfers; nothing if that was given up.
fn probe(space: &Arc<DeviceSpace>, goes_on: &impl Fn() -> bool) -> Option<()> {
    /// Takes the thread off the space, however it ends.
    struct Told<'a>(&'a DeviceSpace);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            self.0.tell(None);
        }
    }
    let large_bytes = (space.capacity_bytes() / CAPACITY_SHARE).min(LARGE_BYTES as u64) as usize;
    space.tell(Some(waiter::unparker()));
    let _told = Told(space);
    let mut bytes = vec![1u8; large_bytes];
    for len in [SMALL_BYTES, large_bytes] {
        let into = bytes.get_mut(..len)?;
        if !goes_on() {
            return None;
        }
        let mut chunk = space.allocate(len as u64, false).ok()?;
        let mut count = 0;
        for attempt in 0..TRIES_MAX {
            let quiet = wait_until_quiet(space, goes_on)?;
            let begun_ns = now_ns();
            chunk.write(0, into).ok()?;
            let between_ns = now_ns();
            chunk.read(0, into).ok()?;
            let ended_ns = now_ns();
            // The first transfer of a size pays for what the others find ready.
            if attempt > 0 && space.quiet() == Some(quiet) {
                space.links().up.record(len as u64, between_ns - begun_ns);
                space.links().down.record(len as u64, ended_ns - between_ns);
                count += 1;
            }
            if count == WANTED {
                break;
            }
        }
    }
    Some(())
}

/// Waits until no launch uses a space: how many have by then. Nothing if the runtime ends.
fn wait_until_quiet(space: &DeviceSpace, goes_on: &impl Fn() -> bool) -> Option<u64> {
    loop {
        if !goes_on() {
            return None;
        }
        if let Some(quiet) = space.quiet() {
            return Some(quiet);
        }
        // Until the last launch has ended, or the runtime does.
        waiter::park();
    }
}
