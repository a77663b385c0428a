//! A worker's queues of jobs: its holder puts and takes at one end, thieves take at the other.
//!
//! The algorithm is that of Chase and Lev, "Dynamic circular work-stealing deque" (SPAA 2005), with the orderings of Lê, Pop, Cohen and Zappa Nardelli,
//! "Correct and efficient work-stealing for weak memory models" (PPoPP 2013). Each worker has two of them. In the *hidden* one, which has the newest jobs, the two
//! full fences are the pair of `fence.rs`: taking back a job that nobody has stolen, which is what nearly every join does, needs no barrier, and that halves what
//! it costs; but a thief interrupts all threads. So the holder moves its older jobs to the *shown* one, with two real fences, as soon as somebody has nothing to do, and thieves
//! turn to the hidden one only when the holder does not, since it is in the middle of a long body.
//!
//! Each entry says on behalf of which task it runs, and a thief may ask before it takes: who waits takes jobs of its own task only (README, "Jobs").
#![expect(unsafe_code, reason = "buffers that thieves may still read when the holder has moved to a larger one")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::fence::{heavy, light};
use super::job::{Job, JobRef, Origin};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicIsize, AtomicPtr, fence};
use crate::sync::spin_loop;
use crate::task::record::Header;

/// Places of the first buffer; a power of two. Under loom, so few that a test fills it.
const CAPACITY: usize = if cfg!(loom) { 2 } else { 64 };
/// Jobs that are shown at a time.
const SHOWN_MAX: usize = 32;

/// Kinds of deque.
const HIDDEN: bool = false;
const SHOWN: bool = true;

/// One entry. Both halves are read before it is known whether they belong together, and used only when the exchange of `front` has said so.
struct Place {
    job: AtomicPtr<Job>,
    origin: AtomicPtr<Header>,
}

/// As many places as a power of two, used in a circle.
struct Buffer {
    places: Box<[Place]>,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        Self { places: (0..capacity).map(|_| Place { job: AtomicPtr::default(), origin: AtomicPtr::default() }).collect() }
    }

    #[inline]
    fn place(&self, index: isize) -> &Place {
        &self.places[index as usize & (self.places.len() - 1)]
    }

    #[inline]
    fn write(&self, index: isize, job: JobRef) {
        let place = self.place(index);
        place.job.store(job.job.as_ptr(), Relaxed);
        place.origin.store(job.origin.as_ptr().cast_mut(), Relaxed);
    }

    /// An entry that is known to be whole.
    #[inline]
    fn read(&self, index: isize) -> JobRef {
        let place = self.place(index);
        match NonNull::new(place.job.load(Relaxed)) {
            Some(job) => JobRef { job, origin: Origin::of(place.origin.load(Relaxed)) },
            None => unreachable!("only places that were written are read"),
        }
    }

    #[inline]
    fn origin(&self, index: isize) -> Origin {
        Origin::of(self.place(index).origin.load(Relaxed))
    }
}

/// What the holder and thieves share.
struct Inner {
    /// The oldest entry; whoever exchanges it for the next number has that entry.
    front: CachePadded<AtomicIsize>,
    /// One after the newest entry; the holder's.
    back: CachePadded<AtomicIsize>,
    /// The buffer in use, the last of `buffers`.
    buffer: AtomicPtr<Buffer>,
    /// All there have been, since a thief may look at one of them as long as it likes; each is twice as long as the one before.
    buffers: Mutex<Vec<NonNull<Buffer>>>,
}

// SAFETY: all fields but `buffers` are atomic; what the pointers lead to is shared read-only, but for atomics, until `drop`.
unsafe impl Send for Inner {}
// SAFETY: as for `Send`.
unsafe impl Sync for Inner {}

impl Inner {
    fn add_buffer(&self, buffer: Buffer) -> NonNull<Buffer> {
        let buffer = NonNull::from(Box::leak(Box::new(buffer)));
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        // Release: pairs with the Acquire in `steal`; the entries that were copied are seen.
        self.buffer.store(buffer.as_ptr(), Release);
        buffer
    }

    #[inline]
    fn len(&self) -> usize {
        let front = self.front.load(Relaxed);
        self.back.load(Relaxed).wrapping_sub(front).max(0) as usize
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for buffer in self.buffers.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: `add_buffer` leaked it, and nobody is left who could look at it.
            drop(unsafe { Box::from_raw(buffer.as_ptr()) });
        }
    }
}

/// The holder's end.
struct JobDeque<const KIND: bool> {
    inner: Arc<Inner>,
    buffer: Cell<NonNull<Buffer>>,
}

// SAFETY: `buffer` leads into `inner`, which is `Send` and `Sync`, and is kept alive by it.
unsafe impl<const KIND: bool> Send for JobDeque<KIND> {}

/// The thieves' end.
struct JobStealer<const KIND: bool> {
    inner: Arc<Inner>,
}

impl<const KIND: bool> JobDeque<KIND> {
    fn new() -> Self {
        let inner = Arc::new(Inner {
            front: CachePadded::default(),
            back: CachePadded::default(),
            buffer: AtomicPtr::default(),
            buffers: Mutex::default(),
        });
        let buffer = Cell::new(inner.add_buffer(Buffer::new(CAPACITY)));
        Self { inner, buffer }
    }

    fn stealer(&self) -> JobStealer<KIND> {
        JobStealer { inner: Arc::clone(&self.inner) }
    }

    #[inline]
    fn buffer(&self) -> &Buffer {
        // SAFETY: `inner` frees its buffers when it is dropped, and `self` keeps it.
        unsafe { self.buffer.get().as_ref() }
    }

    /// Puts in a newest entry.
    #[inline]
    fn push(&self, job: JobRef) {
        let back = self.inner.back.load(Relaxed);
        // Acquire: pairs with the exchange of a thief, who has read the entry whose place may be written to below.
        let front = self.inner.front.load(Acquire);
        if back.wrapping_sub(front) as usize >= self.buffer().places.len() {
            self.grow(front, back);
        }
        self.buffer().write(back, job);
        // Release: pairs with the Acquire in `steal`.
        self.inner.back.store(back.wrapping_add(1), Release);
    }

    #[cold]
    fn grow(&self, front: isize, back: isize) {
        let old = self.buffer();
        let new = Buffer::new(2 * old.places.len());
        for index in front..back {
            new.write(index, old.read(index));
        }
        self.buffer.set(self.inner.add_buffer(new));
    }

    /// Takes the newest entry.
    #[inline]
    fn pop(&self) -> Option<JobRef> {
        let back = self.inner.back.load(Relaxed).wrapping_sub(1);
        // Release, here and below, although less is stored: a thief that sees it has to see what was put in before.
        self.inner.back.store(back, Release);
        // Pairs with the other one in `steal`: either this thread sees that the entry is gone, or the thief sees that it is being taken.
        if KIND == SHOWN {
            fence(SeqCst)
        } else {
            light()
        }
        let front = self.inner.front.load(Relaxed);
        if back.wrapping_sub(front) > 0 {
            return Some(self.buffer().read(back));
        }
        self.pop_last(front, back)
    }

    /// The newest entry is the oldest, too, if there is one: thieves may be at it.
    #[inline]
    fn pop_last(&self, front: isize, back: isize) -> Option<JobRef> {
        let job = (front == back).then(|| self.buffer().read(back));
        let won = job.is_some() && self.inner.front.compare_exchange(front, front.wrapping_add(1), SeqCst, Relaxed).is_ok();
        self.inner.back.store(back.wrapping_add(1), Release);
        job.filter(|_| won)
    }

    /// Takes the oldest entry, as a thief; without a fence, since it is the holder who pops.
    fn pop_oldest(&self) -> Option<JobRef> {
        loop {
            let front = self.inner.front.load(Acquire);
            if self.inner.back.load(Relaxed).wrapping_sub(front) <= 0 {
                return None;
            }
            let job = self.buffer().read(front);
            if self.inner.front.compare_exchange(front, front.wrapping_add(1), SeqCst, Relaxed).is_ok() {
                return Some(job);
            }
        }
    }

    /// Takes the newest entry if it runs on behalf of `origin`.
    fn pop_of(&self, origin: Origin) -> Option<JobRef> {
        let newest = self.inner.back.load(Relaxed).wrapping_sub(1);
        // What is stolen meanwhile is not overwritten, so the place says what it has said all the time.
        if self.inner.is_empty() || self.buffer().origin(newest) != origin { None } else { self.pop() }
    }
}

impl<const KIND: bool> JobStealer<KIND> {
    /// Takes the oldest entry if there is one and it `suits`.
    fn steal(&self, suits: impl Fn(Origin) -> bool) -> Option<JobRef> {
        let Inner { front, back, buffer, .. } = &*self.inner;
        loop {
            // Acquire: pairs with the exchange of another thief, so that `back` is at least what that one saw.
            let oldest = front.load(Acquire);
            // The cheap look first; it may be wrong either way, and then the next round is right.
            if back.load(Acquire).wrapping_sub(oldest) <= 0 || !suits(self.buffer().origin(oldest)) {
                return None;
            }
            // Pairs with the other one in `pop`.
            if KIND == SHOWN {
                fence(SeqCst)
            } else {
                heavy()
            }
            // Acquire: pairs with the Release in `push`: what the entry says is seen.
            if back.load(Acquire).wrapping_sub(oldest) <= 0 {
                return None;
            }
            // Acquire: pairs with the Release in `add_buffer`. The entry is in this buffer: it was copied, or put in after.
            // SAFETY: `inner` frees its buffers when it is dropped, and `self` keeps it.
            let place = unsafe { &*buffer.load(Acquire) }.place(oldest);
            let (job, origin) = (place.job.load(Relaxed), Origin::of(place.origin.load(Relaxed)));
            if !suits(origin) {
                return None;
            }
            // Its Release half keeps the reads above before it: whoever sees it may write over the place.
            if front.compare_exchange(oldest, oldest.wrapping_add(1), SeqCst, Relaxed).is_ok() {
                let Some(job) = NonNull::new(job) else { unreachable!("only places that were written are read") };
                return Some(JobRef { job, origin });
            }
            spin_loop();
        }
    }

    fn buffer(&self) -> &Buffer {
        // SAFETY: `inner` frees its buffers when it is dropped, and `self` keeps it.
        unsafe { &*self.inner.buffer.load(Acquire) }
    }
}

/// The jobs of one worker, for the holder of its slot.
pub(crate) struct Jobs {
    /// The newest.
    hidden: JobDeque<HIDDEN>,
    /// Older ones.
    shown: JobDeque<SHOWN>,
}

/// The same, for thieves.
pub(crate) struct JobsOfOther {
    hidden: JobStealer<HIDDEN>,
    shown: JobStealer<SHOWN>,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self { hidden: JobDeque::new(), shown: JobDeque::new() }
    }

    pub(crate) fn of_other(&self) -> JobsOfOther {
        JobsOfOther { hidden: self.hidden.stealer(), shown: self.shown.stealer() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden.inner.is_empty() && self.shown.inner.is_empty()
    }

    /// Puts in a newest job. Whoever does it looks for workers with nothing to do next.
    #[inline]
    pub(crate) fn push(&self, job: JobRef) {
        self.hidden.push(job);
    }

    /// Takes the newest job, unless it has been shown.
    #[inline]
    pub(crate) fn pop_hidden(&self) -> Option<JobRef> {
        self.hidden.pop()
    }

    /// Takes the newest job.
    pub(crate) fn pop(&self) -> Option<JobRef> {
        self.hidden.pop().or_else(|| if self.shown.inner.is_empty() { None } else { self.shown.pop() })
    }

    /// Takes the newest job if it runs on behalf of `origin`.
    pub(crate) fn pop_of(&self, origin: Origin) -> Option<JobRef> {
        if self.hidden.inner.is_empty() { self.shown.pop_of(origin) } else { self.hidden.pop_of(origin) }
    }

    /// Whether thieves find any.
    #[inline]
    pub(crate) fn shows_any(&self) -> bool {
        !self.shown.inner.is_empty()
    }

    /// Moves the older half of the hidden jobs to where thieves find them. On the way a job cannot be seen: this counts as a push.
    #[cold]
    pub(crate) fn show(&self) {
        for _ in 0..self.hidden.inner.len().div_ceil(2).min(SHOWN_MAX) {
            let Some(job) = self.hidden.pop_oldest() else { return };
            self.shown.push(job);
        }
    }
}

impl JobsOfOther {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden.inner.is_empty() && self.shown.inner.is_empty()
    }

    /// Takes the oldest job that is shown, or, if `all`, the oldest at all, if there is one and it `suits`.
    pub(crate) fn steal(&self, all: bool, suits: impl Fn(Origin) -> bool) -> Option<JobRef> {
        self.shown.steal(&suits).or_else(|| if all { self.hidden.steal(suits) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// An entry that says a number, and is not run.
    fn entry(number: usize, origin: usize) -> JobRef {
        let Some(job) = NonNull::new(std::ptr::without_provenance_mut(8 * (number + 1))) else { unreachable!("not 0") };
        JobRef { job, origin: Origin::of(std::ptr::without_provenance(origin)) }
    }

    fn number(job: JobRef) -> usize {
        job.job.addr().get() / 8 - 1
    }

    #[test]
    fn the_holder_takes_the_newest_and_a_thief_the_oldest() {
        let deque = JobDeque::<HIDDEN>::new();
        let stealer = deque.stealer();
        assert!(deque.pop().is_none() && stealer.steal(|_| true).is_none() && stealer.inner.is_empty());
        // Longer than the first buffer, and round its end.
        for round in 0..3 {
            for index in 0..150 {
                deque.push(entry(index, 8));
            }
            assert!(!stealer.inner.is_empty());
            for index in 0..50 {
                assert_eq!(deque.pop().map(number), Some(149 - index), "{round}");
                assert_eq!(stealer.steal(|_| true).map(number), Some(index), "{round}");
            }
            for index in (50..100).rev() {
                assert_eq!(deque.pop().map(number), Some(index), "{round}");
            }
            assert!(deque.pop().is_none() && deque.inner.is_empty());
        }
    }

    #[test]
    fn what_does_not_suit_stays() {
        let deque = JobDeque::<SHOWN>::new();
        let stealer = deque.stealer();
        let (one, two) = (entry(1, 8), entry(2, 16));
        deque.push(one);
        deque.push(two);
        assert!(stealer.steal(|origin| origin == two.origin).is_none());
        assert!(deque.pop_of(one.origin).is_none());
        assert_eq!(deque.pop_of(two.origin).map(number), Some(2));
        assert_eq!(stealer.steal(|origin| origin == one.origin).map(number), Some(1));
        assert!(deque.pop_of(one.origin).is_none());
    }

    #[test]
    fn what_is_shown_is_older_and_what_is_hidden_is_found_on_demand() {
        let jobs = Jobs::new();
        let other = jobs.of_other();
        (0..5).for_each(|index| jobs.push(entry(index, 8)));
        assert!(!other.is_empty() && other.steal(false, |_| true).is_none());
        jobs.show();
        assert_eq!(other.steal(false, |_| true).map(number), Some(0));
        assert_eq!(jobs.pop_of(entry(0, 8).origin).map(number), Some(4));
        // Of the two that are left of the older half.
        assert!(jobs.shows_any());
        assert_eq!(jobs.pop_hidden().map(number), Some(3));
        assert!(jobs.pop_hidden().is_none() && !jobs.is_empty());
        assert_eq!(jobs.pop().map(number), Some(2));
        jobs.push(entry(5, 8));
        assert_eq!(other.steal(true, |_| true).map(number), Some(1));
        assert_eq!(other.steal(true, |_| true).map(number), Some(5));
        assert!(jobs.is_empty() && other.is_empty() && jobs.pop().is_none());
    }

    #[test]
    fn each_entry_is_taken_once() {
        each_is_taken_once::<HIDDEN>();
        each_is_taken_once::<SHOWN>();
    }

    fn each_is_taken_once<const KIND: bool>() {
        const COUNT: usize = 100_000;
        crate::worker::prepare();
        let deque = JobDeque::<KIND>::new();
        let ended = AtomicBool::new(false);
        let mut taken = vec![0u8; COUNT];
        std::thread::scope(|scope| {
            let thieves: Vec<_> = (0..3)
                .map(|_| {
                    let stealer = deque.stealer();
                    let ended = &ended;
                    scope.spawn(move || {
                        let mut stolen = Vec::new();
                        while !ended.load(Acquire) {
                            stolen.extend(stealer.steal(|_| true).map(number));
                        }
                        stolen
                    })
                })
                .collect();
            let mut next = 0;
            while next < COUNT {
                // As a tree of joins does: some deep, then back up, often to the last one.
                let depth = (1 + next % 7 * (next % 31)).min(COUNT - next);
                for _ in 0..depth {
                    deque.push(entry(next, 8));
                    next += 1;
                }
                for _ in 0..depth {
                    if let Some(job) = deque.pop() {
                        taken[number(job)] += 1;
                    }
                }
            }
            while let Some(job) = deque.pop() {
                taken[number(job)] += 1;
            }
            ended.store(true, Release);
            for thief in thieves {
                for index in thief.join().expect("it does not panic") {
                    taken[index] += 1;
                }
            }
        });
        assert!(taken.iter().all(|times| *times == 1));
    }
}
