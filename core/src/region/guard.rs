//! Closes pages while the body of a task runs, and notes where that body has touched one: a fault opens what was closed, so that the access goes on.
//!
//! The handler takes no lock and allocates nothing. It finds what is closed in a table of atomics, where a stretch of pages is entered before it is closed and taken out after it was opened. What
//! is entered as closed the handler opens, as often as somebody faults there. What is entered as open can be touched by now, and a fault there, or at what was taken out meanwhile, is one that
//! happened before: the access is tried once more. A fault that comes again, and all others, go to whoever had the signal before.
//!
//! Only the thread that runs the body is to blame. Others may touch what is closed: they open it. For those who hand memory to the kernel, or change what is mapped, there is [`stand_down`].
#![expect(unsafe_code, reason = "tells the kernel who may touch pages, and has a handler for what it says of them")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::mm::{MprotectFlags, mprotect};

use super::pages::{Noted, Stretch};
use crate::{arena, platform};

/// Bodies that have closed pages at the same time: those of regions that run beside each other. Others close nothing.
const POSTS: usize = 16;
/// Stretches of pages that one body closes: each is a mapping of its own meanwhile, of which the kernel allows 65 530. The longest ones are taken.
const STRETCHES: usize = 1024;
/// Faults that came after what they met was opened are told from those that come again: one place for each thread, by its number.
const FORGIVEN: usize = 64;

/// What a body has closed; open again when it is dropped.
pub(super) struct Guard(usize);

/// As long as there is one, nothing is closed in its piece of memory.
pub(crate) struct Down(Range<usize>);

/// One body.
struct Post {
    /// The thread that is to blame; 0: nobody.
    thread: AtomicI32,
    /// How many of the stretches there are.
    len: AtomicUsize,
    stretches: [AtomicU64; STRETCHES],
    /// Where the thread has read and written first; 0: nowhere.
    read: AtomicUsize,
    written: AtomicUsize,
}

static TABLE: [Post; POSTS] = [const { Post::new() }; POSTS];
static POSTED: Mutex<Posted> = Mutex::new(Posted { is_taken: [false; POSTS], down: Vec::new() });
/// Counts what was opened: a fault that was forgiven before the last time is another one.
static OPENED: AtomicU64 = AtomicU64::new(0);
static LATE: [AtomicU64; FORGIVEN] = [const { AtomicU64::new(0) }; FORGIVEN];
/// Who had the signal before; none where the handler could not be set.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

thread_local! {
    /// The post of the body that this thread runs, counted from 1; 0: none.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

struct Posted {
    is_taken: [bool; POSTS],
    /// Where nothing is to be closed.
    down: Vec<Range<usize>>,
}

/// What is to be done about a stretch. All in one word: whoever reads it sees no half of another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

/// It is open.
const OPEN: u64 = 0;
/// It is about to be closed.
const CLOSING: u64 = 1;
/// It can be read.
const READABLE: u64 = 2;
/// It cannot be touched.
const SHUT: u64 = 3;
/// Bits of the state, and of the number of pages; the rest is the number of the first page.
const STATE_BITS: u32 = 2;
const LEN_BITS: u32 = 26;

impl Entry {
    /// None where it does not fit.
    fn new(stretch: &Stretch, state: u64) -> Option<Self> {
        let (first, len) = ((stretch.begin / page_bytes()) as u64, ((stretch.end - stretch.begin) / page_bytes()) as u64);
        let fits = len < 1 << LEN_BITS && first < 1 << (u64::BITS - LEN_BITS - STATE_BITS);
        fits.then_some(Self::of_pages(first, len).with(state))
    }

    fn of_pages(first: u64, len: u64) -> Self {
        Self((first << LEN_BITS | len) << STATE_BITS)
    }

    fn state(self) -> u64 {
        self.0 & ((1 << STATE_BITS) - 1)
    }

    fn with(self, state: u64) -> Self {
        Self(self.0 >> STATE_BITS << STATE_BITS | state)
    }

    fn begin(self) -> usize {
        (self.0 >> (LEN_BITS + STATE_BITS)) as usize * page_bytes()
    }

    fn len_bytes(self) -> usize {
        (self.0 >> STATE_BITS & ((1 << LEN_BITS) - 1)) as usize * page_bytes()
    }

    fn has(self, address: usize) -> bool {
        address.wrapping_sub(self.begin()) < self.len_bytes()
    }

    /// False where the kernel refuses.
    fn protect(self, flags: MprotectFlags) -> bool {
        let start = std::ptr::with_exposed_provenance_mut(self.begin());
        // SAFETY: whole pages that were readable and writable when they were entered (`plain`), so nothing that anybody relies on is given away; whoever touches them while they are closed is let
        // through by the handler.
        unsafe { mprotect(start, self.len_bytes(), flags) }.is_ok()
    }

    /// Before it is marked as open or taken out: whoever has been forgiven a fault and meets what was closed since then and is open again finds another number. (The handler opens without this, as
    /// what it opens stays entered as closed.)
    fn open_and_count(self) {
        self.open();
        OPENED.fetch_add(1, SeqCst);
    }

    fn open(self) {
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        if !self.protect(flags) {
            // Some of it is not mapped any more, which only a body does that has no right to. The rest, page by page.
            for page in (self.begin()..self.begin() + self.len_bytes()).step_by(page_bytes()) {
                self.open_page(page);
            }
        }
    }

    /// Opens the page with this address, and what belongs to it if the kernel lets it. Whether the page is open.
    fn open_around(self, address: usize) -> bool {
        self.protect(MprotectFlags::READ | MprotectFlags::WRITE) || self.open_page(address)
    }

    fn open_page(self, address: usize) -> bool {
        Self::of_pages((address / page_bytes()) as u64, 1).protect(MprotectFlags::READ | MprotectFlags::WRITE)
    }
}

/// Size of a page in bytes. Asked for before the handler is set, which finds it without a lock.
pub(super) fn page_bytes() -> usize {
    rustix::param::page_size()
}

fn lock() -> MutexGuard<'static, Posted> {
    // Nothing panics under the lock while something is half changed.
    POSTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

impl Post {
    const fn new() -> Self {
        Self {
            thread: AtomicI32::new(0),
            len: AtomicUsize::new(0),
            stretches: [const { AtomicU64::new(0) }; STRETCHES],
            read: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&AtomicU64, Entry)> {
        // Acquire: pairs with the Release in `close`; an entry that it has taken over is from this post or from the one before, and that is open.
        let len = self.len.load(Acquire);
        self.stretches.iter().take(len).map(|place| (place, Entry(place.load(Acquire))))
    }

    /// For who has the lock, and a post that is its own.
    fn close(&self, stretches: &[Stretch]) {
        self.read.store(0, Relaxed);
        self.written.store(0, Relaxed);
        let entries = stretches.iter().filter_map(|stretch| Some((Entry::new(stretch, CLOSING)?, stretch.may_read)));
        let mut len = 0;
        for (place, (entry, may_read)) in self.stretches.iter().zip(entries) {
            // Entered before it is closed: who meets it meanwhile tries again.
            place.store(entry.0, SeqCst);
            len += 1;
            self.len.store(len, Release);
            let (flags, state) = if may_read { (MprotectFlags::READ, READABLE) } else { (MprotectFlags::empty(), SHUT) };
            let is_closed = entry.protect(flags);
            if !is_closed {
                // There may be too many mappings, or part of it is closed: it is all as before.
                entry.open_and_count();
            }
            place.store(entry.with(if is_closed { state } else { OPEN }).0, Release);
        }
        self.thread.store(thread(), Release);
    }

    /// What has a page in a piece of memory, for who has the lock.
    fn open(&self, memory: &Range<usize>) {
        let meets = |entry: Entry| entry.begin() < memory.end && memory.start < entry.begin() + entry.len_bytes();
        for (place, entry) in self.entries().filter(|(_, entry)| entry.state() != OPEN && meets(*entry)) {
            entry.open_and_count();
            // Release: who sees that it is open can touch it, and finds it counted.
            place.store(entry.with(OPEN).0, Release);
        }
    }

    /// The same of all of it, and nobody is to blame any more.
    fn open_all(&self) {
        self.thread.store(0, Release);
        self.open(&(0..usize::MAX));
    }
}

impl Guard {
    /// Closes for this thread what `find` finds. None where nothing is closed: nothing was found, the thread is a logical one, or the signal is somebody else's.
    ///
    /// Whoever stands others down waits for `find`, which must not wait for him.
    pub(super) fn new(find: impl FnOnce() -> Vec<Stretch>) -> Option<Self> {
        lift_here();
        if platform::is_logical() || !has_signal() {
            return None;
        }
        // A device has their pages, and its driver may look at how they are mapped.
        let pinned = arena::pinned();
        let mut posted = lock();
        let number = posted.is_taken.iter().position(|taken| !taken)?;
        let is_left =
            |stretch: &Stretch| posted.down.iter().chain(&pinned).any(|down| stretch.begin < down.end && down.start < stretch.end);
        let stretches = plain(longest(find().into_iter().filter(|stretch| !is_left(stretch)).collect()));
        if stretches.is_empty() {
            return None;
        }
        posted.is_taken[number] = true;
        TABLE[number].close(&stretches);
        drop(posted);
        HERE.set(number + 1);
        Some(Self(number))
    }

    /// Opens it again. What was noted: where something was written, if that is so.
    pub(super) fn lift(self) -> Option<Noted> {
        let post = &TABLE[self.0];
        let noted = |place: &AtomicUsize, was_written| {
            let address = place.load(Relaxed);
            (address != 0).then_some(Noted { address, was_written })
        };
        // This thread is the only one that notes anything there.
        noted(&post.written, true).or_else(|| noted(&post.read, false))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut posted = lock();
        TABLE[self.0].open_all();
        TABLE[self.0].len.store(0, Release);
        posted.is_taken[self.0] = false;
        drop(posted);
        if HERE.get() == self.0 + 1 {
            HERE.set(0);
        }
    }
}

/// The body that this thread runs is about to wait, to run others or to look at a value in its own name: from now on it touches what it likes. What it needs then may lie elsewhere when it goes on,
/// so nothing is closed again.
#[inline]
pub(crate) fn lift_here() {
    // At the end of a thread there is none.
    let here = HERE.try_with(|here| here.replace(0)).unwrap_or(0);
    if here != 0 {
        lift_post(here - 1);
    }
}

#[cold]
fn lift_post(number: usize) {
    let _posted = lock();
    TABLE[number].open_all();
}

/// Opens a piece of memory, and keeps it open, for who is going to hand it to the kernel or to have it mapped in another way. Nobody blames him.
#[must_use = "others close pages when it is dropped"]
pub(crate) fn stand_down(memory: Range<usize>) -> Down {
    let mut posted = lock();
    posted.down.push(memory.clone());
    let taken = TABLE.iter().zip(posted.is_taken).filter(|(_, taken)| *taken);
    taken.for_each(|(post, _)| post.open(&memory));
    Down(memory)
}

impl Drop for Down {
    fn drop(&mut self) {
        let mut posted = lock();
        if let Some(one) = posted.down.iter().position(|down| *down == self.0) {
            posted.down.swap_remove(one);
        }
    }
}

/// As many as there is room for, in their order. Those that touch and are closed alike are one.
fn longest(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable_by_key(|stretch| stretch.begin);
    stretches.dedup_by(|next, one| {
        let is_one = one.end == next.begin && one.may_read == next.may_read;
        if is_one {
            one.end = next.end;
        }
        is_one
    });
    if stretches.len() > STRETCHES {
        stretches.sort_by_key(|stretch| std::cmp::Reverse(stretch.end - stretch.begin));
        stretches.truncate(STRETCHES);
        stretches.sort_unstable_by_key(|stretch| stretch.begin);
    }
    stretches
}

/// What of it is plain memory, as the kernel says: to be read and written. A block on the disk is not, nor is memory of another process that is read.
fn plain(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let maps = if stretches.is_empty() { String::new() } else { std::fs::read_to_string("/proc/self/maps").unwrap_or_default() };
    within(stretches, &maps)
}

/// What of it lies in mappings that are readable and writable and no more than that. Both are in ascending order.
fn within(stretches: Vec<Stretch>, maps: &str) -> Vec<Stretch> {
    let mapping = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let ends = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        rest.starts_with("rw-").then_some(ends)
    };
    let mut mappings = maps.lines().filter_map(mapping).peekable();
    let mut found: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        while let Some((begin, end)) = mappings.peek().copied().filter(|(begin, _)| *begin < stretch.end) {
            let part = Stretch { begin: begin.max(stretch.begin), end: end.min(stretch.end), ..stretch };
            match found.last_mut() {
                Some(last) if last.end == part.begin && last.begin >= stretch.begin => last.end = part.end,
                _ if part.begin < part.end => found.push(part),
                _ => {}
            }
            if end > stretch.end {
                break;
            }
            mappings.next();
        }
    }
    found
}

/// Whether the signal comes to the handler, on this thread.
fn has_signal() -> bool {
    if BEFORE.get_or_init(take_signal).is_none() || is_blocked() {
        return false;
    }
    // Whoever has set another one since then may not let this one know.
    // SAFETY: only asks.
    unsafe { change_signal(null()) }.is_some_and(|now| now.sa_sigaction == handler())
}

/// How the handler is called in an action.
fn handler() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = handle;
    handler as *const () as libc::sighandler_t
}

/// The action that there was, which is replaced unless the new one is null.
///
/// # Safety
/// What the new one names may be called whenever the signal comes.
unsafe fn change_signal(new: *const libc::sigaction) -> Option<libc::sigaction> {
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: both are null or an action; the caller answers for what is in the new one.
    let changed = unsafe { libc::sigaction(libc::SIGSEGV, new, old.as_mut_ptr()) };
    // SAFETY: an action is made of numbers and a pointer that may be null, so zeros are one, and where it succeeds it is written.
    (changed == 0).then_some(unsafe { old.assume_init() })
}

/// Sets the handler; what there was before.
fn take_signal() -> Option<libc::sigaction> {
    // The handler must not be the first to ask for it.
    let _ = page_bytes();
    // SAFETY: only asks.
    let mut action = unsafe { change_signal(null()) }?;
    action.sa_sigaction = handler();
    // On a stack of its own, as Rust's handler: the one that it stands in for is called on it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler does nothing but what may be done in one.
    unsafe { change_signal(&raw const action) }
}

/// Whether the signal is blocked on this thread: a fault would end the program.
fn is_blocked() -> bool {
    let mut blocked = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: only asks.
    let asked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, null(), blocked.as_mut_ptr()) };
    // SAFETY: a set is made of numbers, which are written or zero.
    asked != 0 || unsafe { libc::sigismember(blocked.as_ptr(), libc::SIGSEGV) } != 0
}

/// Called when the kernel refuses an access: only what may be done in a handler of signals, and nothing that panics.
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives the handler what the signal is about.
    let about = unsafe { &*info };
    let code = about.si_code;
    // SAFETY: the address of this thread's error number, which is there as long as the thread.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let error_before = unsafe { *error };
    // Something is there, and may not be touched: all that is closed is that.
    let goes_on = code == SEGV_ACCERR && {
        // SAFETY: a fault has an address.
        let address = unsafe { about.si_addr() }.addr();
        let_through(address, was_write(context)) || is_late(address)
    };
    if !goes_on {
        pass_on(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *error = error_before };
}

/// Of the codes of the signal: the mapping does not allow the access.
const SEGV_ACCERR: c_int = 2;

/// Whether it was a write that was refused, where the machine says so. Elsewhere what cannot be read at all counts as read.
fn was_write(context: *mut c_void) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the kernel gives the handler the registers of the thread.
        let error = unsafe { (*context).uc_mcontext.gregs[libc::REG_ERR as usize] };
        error & 2 != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        false
    }
}

/// Opens what is closed there. Whether that was all that was in the way.
fn let_through(address: usize, was_write: bool) -> bool {
    let thread = thread();
    let mut was_closed = false;
    for post in &TABLE {
        for (_, entry) in post.entries().filter(|(_, entry)| entry.has(address)) {
            if entry.state() == OPEN {
                continue;
            }
            if entry.state() == CLOSING {
                // Whoever closes it has entered it, and is done in a moment.
                was_closed = true;
                continue;
            }
            if post.thread.load(Acquire) == thread {
                let noted = if was_write || entry.state() == READABLE { &post.written } else { &post.read };
                let _ = noted.compare_exchange(0, address, Relaxed, Relaxed);
            }
            // It is not marked as open: another body may have entered and closed the same by now, which looks the same. Whoever meets it next, or takes it out, opens it once more. Where opening does
            // not help, something else is wrong there.
            was_closed |= entry.open_around(address);
        }
    }
    was_closed
}

/// Whether the fault may have happened before what was closed there was opened: then the access succeeds now. The same one does not come again.
fn is_late(address: usize) -> bool {
    let opened = OPENED.load(SeqCst);
    let thread = thread() as u32;
    let key =
        (address as u64 ^ u64::from(thread).rotate_left(48)).wrapping_add(opened.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    LATE.get(thread as usize % FORGIVEN).is_some_and(|late| late.swap(key, Relaxed) != key)
}

/// Calls who had the signal before.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(Some(before)) = BEFORE.get() else {
        // It is being set.
        // SAFETY: the default action of a signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    if [libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction) {
        // SAFETY: what it was before.
        unsafe { libc::sigaction(signal, before, null_mut()) };
        // SAFETY: as above.
        let code = unsafe { (*info).si_code };
        if code <= 0 {
            // Somebody has sent it: it would not come again.
            // SAFETY: sends a signal to this thread.
            unsafe { libc::raise(signal) };
        }
    } else if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with this flag it is a handler with three arguments.
        let handle: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = unsafe { std::mem::transmute(before.sa_sigaction) };
        handle(signal, info, context);
    } else {
        // SAFETY: without the flag it is a handler with one argument.
        let handle: extern "C" fn(c_int) = unsafe { std::mem::transmute(before.sa_sigaction) };
        handle(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(begin: usize, end: usize) -> Stretch {
        Stretch { begin: begin << 12, end: end << 12, may_read: false }
    }

    #[test]
    fn only_plain_memory_is_closed() {
        let maps = "1000-3000 rw-p 0 00:00 0\n3000-4000 rw-s 0 00:01 7 /memfd:arena\n4000-5000 r--s 0 00:01 7 /spill\n\
            5000-6000 rwxp 0 00:00 0\n8000-9000 rw-p 0 00:00 0 [heap]\na000-b000 ---p 0 00:00 0\n";
        assert_eq!(within(vec![stretch(1, 11)], maps), [stretch(1, 4), stretch(8, 9)]);
        assert_eq!(within(vec![stretch(1, 2), stretch(2, 3), stretch(4, 6)], maps), [stretch(1, 2), stretch(2, 3)]);
    }

    #[test]
    fn stretches_that_touch_are_one_and_the_longest_are_taken() {
        let readable = Stretch { may_read: true, ..stretch(4, 5) };
        assert_eq!(longest(vec![readable, stretch(2, 4), stretch(1, 2)]), [stretch(1, 4), readable]);
        let many: Vec<_> = (0..STRETCHES + 3).map(|at| stretch(4 * at, 4 * at + 1 + usize::from(at >= 3))).collect();
        assert_eq!(longest(many.clone()), many[3..]);
    }

    #[test]
    fn an_entry_keeps_where_it_is() {
        let whole = Stretch { begin: 0x7fff_dead_b000, end: 0x7fff_ffff_f000, may_read: false };
        let entry = Entry::new(&whole, SHUT).expect("it fits");
        assert_eq!((entry.begin(), entry.begin() + entry.len_bytes(), entry.state()), (whole.begin, whole.end, SHUT));
        assert!(entry.has(whole.begin) && entry.has(whole.end - 1) && !entry.has(whole.end) && !entry.has(whole.begin - 1));
        assert!(Entry::new(&Stretch { end: whole.begin + (1 << 40), ..whole }, SHUT).is_none());
    }

    #[test]
    fn a_fault_is_forgiven_once_and_once_more_after_something_was_opened() {
        OPENED.fetch_add(1, SeqCst);
        // Others may open something meanwhile; not every time.
        assert!((0..100).any(|round| is_late(round) && !is_late(round)));
    }
}
