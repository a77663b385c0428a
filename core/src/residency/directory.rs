//! The entries of all blocks: one directory for the process, and one for each platform of logical threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Entry, Extent, Key, lock};
use crate::platform;

/// Entries in all directories.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// That of the process.
static DIRECTORY: Directory = Directory::new();

/// By block.
type Entries = BTreeMap<Key, OfBlock>;

/// That of all of a block, and those of parts of it that were used alone.
#[derive(Default)]
struct OfBlock {
    /// By where they begin: there may be thousands, as many as tiles of a matrix, and those that may meet one of them are neighbours here.
    entries: Vec<Arc<Entry>>,
    /// The most bytes that one has from its first to its last.
    longest_bytes: u64,
}

impl OfBlock {
    fn find(&self, extent: &Extent) -> Option<&Arc<Entry>> {
        let begin = extent.place.offset;
        let first = self.entries.partition_point(|entry| entry.extent.place.offset < begin);
        self.entries[first..].iter().take_while(|entry| entry.extent.place.offset == begin).find(|entry| entry.extent == *extent)
    }

    fn insert(&mut self, entry: &Arc<Entry>) {
        let place = entry.extent.place;
        let at = self.entries.partition_point(|other| other.extent.place.offset <= place.offset);
        self.entries.insert(at, Arc::clone(entry));
        self.longest_bytes = self.longest_bytes.max(place.len_bytes);
    }

    /// Those whose first byte is before the end of a range of the arena, and whose last one is not before its beginning.
    fn near(&self, range: Range<u64>) -> Vec<Arc<Entry>> {
        let first = self.entries.partition_point(|entry| entry.extent.place.offset + self.longest_bytes <= range.start);
        let behind = self.entries.partition_point(|entry| entry.extent.place.offset < range.end).max(first);
        let ends_behind = |entry: &&Arc<Entry>| entry.extent.place.offset + entry.extent.place.len_bytes > range.start;
        self.entries[first..behind].iter().filter(ends_behind).cloned().collect()
    }
}

/// Entries by their blocks.
pub(crate) struct Directory(Mutex<Entries>);

impl Directory {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl Drop for Directory {
    /// That of a platform. What is left belongs to logical threads that were given up, and is lost with their stacks.
    fn drop(&mut self) {
        let left = std::mem::take(&mut *lock(&self.0));
        COUNT.fetch_sub(left.values().map(|of_block| of_block.entries.len()).sum(), Release);
        std::mem::forget(left);
    }
}

/// Whether there are no entries at all.
#[inline]
pub(super) fn is_empty() -> bool {
    // Acquire: pairs with the Release in `enter`. Whoever has a buffer got it from somebody who had seen its entry made.
    COUNT.load(Acquire) == 0
}

/// Lets `act` work with the entries of the calling thread, under their lock.
fn with<R>(act: impl FnOnce(MutexGuard<'_, Entries>) -> R) -> R {
    match platform::entered() {
        Some(entered) => act(lock(&entered.directory.0)),
        None => act(lock(&DIRECTORY.0)),
    }
}

/// The entry of these bytes of a block.
pub(super) fn get(block: Key, extent: &Extent) -> Option<Arc<Entry>> {
    if is_empty() { None } else { with(|entries| entries.get(&block)?.find(extent).cloned()) }
}

/// All entries of a block.
pub(super) fn of_block(block: Key) -> Vec<Arc<Entry>> {
    if is_empty() { Vec::new() } else { with(|entries| entries.get(&block).map(|of_block| of_block.entries.clone()).unwrap_or_default()) }
}

/// Those entries of a block that may have a byte in a range of it, which is counted from the arena's beginning: others have none.
pub(super) fn near(block: Key, range: Range<u64>) -> Vec<Arc<Entry>> {
    if is_empty() { Vec::new() } else { with(|entries| entries.get(&block).map(|of_block| of_block.near(range)).unwrap_or_default()) }
}

/// The entry of these bytes of a block, which is made if there is none; `act` is called before anybody else gets it.
pub(super) fn enter(block: Key, extent: &Extent, new: impl FnOnce() -> Entry, act: impl FnOnce(&Entry)) -> Arc<Entry> {
    with(|mut entries| {
        let of_block = entries.entry(block).or_default();
        let entry = match of_block.find(extent) {
            Some(entry) => Arc::clone(entry),
            None => {
                COUNT.fetch_add(1, Release);
                let entry = Arc::new(new());
                of_block.insert(&entry);
                entry
            }
        };
        act(&entry);
        entry
    })
}

/// Takes the entries of a block out.
pub(super) fn remove(block: Key) -> Vec<Arc<Entry>> {
    remove_if(block, |_| true)
}

/// The same if all of them are as they have to be.
pub(super) fn remove_if(block: Key, is_so: impl FnMut(&Arc<Entry>) -> bool) -> Vec<Arc<Entry>> {
    with(|mut entries| {
        if !entries.get(&block).is_some_and(|of_block| of_block.entries.iter().all(is_so)) {
            return Vec::new();
        }
        let removed = entries.remove(&block).unwrap_or_default().entries;
        COUNT.fetch_sub(removed.len(), Release);
        removed
    })
}

/// All entries.
pub(super) fn all() -> Vec<Arc<Entry>> {
    with(|entries| entries.values().flat_map(|of_block| &of_block.entries).cloned().collect())
}

/// What `look` finds in the entries of a block, of all blocks, while nobody enters or leaves.
pub(super) fn filter_map<R>(mut look: impl FnMut(&[Arc<Entry>]) -> Option<R>) -> Vec<R> {
    with(|entries| entries.values().filter_map(|of_block| look(&of_block.entries)).collect())
}
