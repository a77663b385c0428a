//! The entries of all blocks: one directory for the process, and one for each platform of logical threads.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Entry, Key, lock};
use crate::platform;

/// Entries in all directories.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// That of the process.
static DIRECTORY: Directory = Directory::new();

type Entries = BTreeMap<Key, Arc<Entry>>;

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
        COUNT.fetch_sub(left.len(), Release);
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

/// The entry of a block.
pub(super) fn get(key: Key) -> Option<Arc<Entry>> {
    if is_empty() { None } else { with(|entries| entries.get(&key).cloned()) }
}

/// The entry of a block, which is made if there is none; `act` is called before anybody else gets it.
pub(super) fn enter(key: Key, new: impl FnOnce() -> Entry, act: impl FnOnce(&Entry)) -> Arc<Entry> {
    with(|mut entries| {
        let new = || {
            COUNT.fetch_add(1, Release);
            Arc::new(new())
        };
        let entry = Arc::clone(entries.entry(key).or_insert_with(new));
        act(&entry);
        entry
    })
}

/// Takes the entry of a block out.
pub(super) fn remove(key: Key) -> Option<Arc<Entry>> {
    remove_if(key, |_| true)
}

/// The same if the entry is as it has to be.
pub(super) fn remove_if(key: Key, is_so: impl FnOnce(&Arc<Entry>) -> bool) -> Option<Arc<Entry>> {
    with(|mut entries| {
        entries.get(&key).filter(|entry| is_so(entry))?;
        let entry = entries.remove(&key)?;
        COUNT.fetch_sub(1, Release);
        Some(entry)
    })
}

/// All entries.
pub(super) fn all() -> Vec<Arc<Entry>> {
    with(|entries| entries.values().cloned().collect())
}

/// What `look` finds, while nobody enters or leaves.
pub(super) fn filter_map<R>(look: impl FnMut(&Arc<Entry>) -> Option<R>) -> Vec<R> {
    with(|entries| entries.values().filter_map(look).collect())
}
