//! The memory of a device, with a count of what is in it.
#![expect(unsafe_code, reason = "passes on a promise about memory")]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use poniard_interface::{AllocateError, Chunk, HostBlock, MemorySpace, SpaceInfo};

use crate::model::Link;
use crate::sleep_lock::SleepLock;
use crate::sync::Unparker;

/// Chunks begin at multiples of this, as far as anybody knows.
pub(crate) const GRAIN_BYTES: u64 = 256;

/// A memory space of a backend, and what the runtime has in it.
pub(crate) struct DeviceSpace {
    space: Box<dyn MemorySpace>,
    pub(crate) info: SpaceInfo,
    /// Held while launches are prepared and submitted: what one of them finds in the space has been submitted before.
    pub(crate) issue: SleepLock<()>,
    /// Why it is lost, once it is.
    lost: OnceLock<String>,
    /// Whether a device keeps pages of the host that it has imported.
    pub(crate) keeps_pages: AtomicBool,
    /// Whether a block of the host was not taken: then none is offered any more.
    pub(crate) refuses: AtomicBool,
    /// Counts uses, to tell what was used last.
    clock: AtomicU64,
    pub(crate) counts: Counts,
    links: OnceLock<Links>,
    work: Mutex<Work>,
}

/// What is known of the ways between the host's memory and a space.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) up: Arc<Link>,
    pub(crate) down: Arc<Link>,
}

impl Links {
    /// Whether of one of them nothing was measured.
    pub(crate) fn is_unknown(&self) -> bool {
        self.up.summaries().is_empty() || self.down.summaries().is_empty()
    }
}

/// The launches that use a space.
#[derive(Debug, Default)]
struct Work {
    /// Begun so far.
    begun: u64,
    under_way: u64,
    /// Woken when none is under way.
    waiter: Option<Unparker>,
}

/// A launch that uses a space: under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<DeviceSpace>);

impl UnderWay {
    pub(super) fn begin(space: &Arc<DeviceSpace>) -> Self {
        let mut work = space.work();
        work.begun += 1;
        work.under_way += 1;
        drop(work);
        Self(Arc::clone(space))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut work = self.0.work();
        work.under_way -= 1;
        if let Some(waiter) = work.waiter.as_ref().filter(|_| work.under_way == 0) {
            waiter.unpark();
        }
    }
}

/// What has been moved, and what is there, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) used: AtomicU64,
    pub(crate) peak: AtomicU64,
    pub(crate) uploaded: AtomicU64,
    pub(crate) downloaded: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) imported: AtomicU64,
}

impl DeviceSpace {
    pub(crate) fn new(space: Box<dyn MemorySpace>) -> Self {
        Self {
            info: space.info(),
            space,
            issue: SleepLock::default(),
            lost: OnceLock::new(),
            keeps_pages: AtomicBool::new(true),
            refuses: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            counts: Counts::default(),
            links: OnceLock::new(),
            work: Mutex::default(),
        }
    }

    /// Says where it is written down what its links give. To be done before they are used.
    pub(crate) fn connect(&self, links: Links) {
        // A second processor in the space has the same links.
        let _ = self.links.set(links);
    }

    pub(crate) fn links(&self) -> &Links {
        self.links.get_or_init(Links::default)
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        // Changes of two numbers.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While no launch uses the space, how many have: if it is the same number before and after a transfer, that had the device to itself, and what it took tells about the link.
    pub(crate) fn quiet(&self) -> Option<u64> {
        let work = self.work();
        (work.under_way == 0).then_some(work.begun)
    }

    /// How many launches use it.
    pub(crate) fn under_way(&self) -> u64 {
        self.work().under_way
    }

    /// A thread that is unparked from now on whenever the last launch has ended.
    pub(crate) fn tell(&self, waiter: Option<Unparker>) {
        self.work().waiter = waiter;
    }

    /// A moment of use, later than all before.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// What a chunk of so many bytes takes.
    pub(super) fn taken_bytes(len_bytes: u64) -> u64 {
        len_bytes.max(1).next_multiple_of(GRAIN_BYTES)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.counts.used.load(Relaxed)
    }

    /// How much fits into it.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.info.capacity_bytes.unwrap_or(u64::MAX)
    }

    /// Whether blocks of the host are used where they are.
    pub(crate) fn imports(&self) -> bool {
        self.info.imports && !self.refuses.load(Relaxed)
    }

    pub(crate) fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        self.space.allocate(len_bytes, zeroed)
    }

    /// # Safety
    /// As for `MemorySpace::import`.
    pub(super) unsafe fn import(&self, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        // SAFETY: the caller's promise.
        unsafe { self.space.import(block) }
    }

    /// Why it is lost, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Notes that it is lost. The first reason stays.
    pub(crate) fn lose(&self, reason: &str) {
        // Set before, otherwise.
        let _ = self.lost.set(reason.into());
    }

    pub(super) fn add(&self, bytes: u64) {
        let used = self.counts.used.fetch_add(bytes, Relaxed) + bytes;
        self.counts.peak.fetch_max(used, Relaxed);
    }

    pub(super) fn take_away(&self, bytes: u64) {
        self.counts.used.fetch_sub(bytes, Relaxed);
    }
}

impl std::fmt::Debug for DeviceSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSpace").field("info", &self.info).field("counts", &self.counts).finish_non_exhaustive()
    }
}
