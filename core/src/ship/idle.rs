//! Gets memory back that processes keep and do not need: by a task, sent to a process that has had nothing to do for a while.
//!
//! A process that works is not asked. While the host is short of memory it keeps nothing anyway (`memory::keep_nothing`).

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::memory::keep_nothing;
use super::processor::Look;
use crate::clock::now;
use crate::function::caller;
use crate::options::TaskOptions;
use crate::runtime::spawn_at_once;
use crate::scope::Scope;
use crate::task::record::Unspawned;
use crate::timer;
use crate::worker::shared::Shared;

/// Time between two looks.
const ROUND: Duration = Duration::from_secs(1);

/// Workers that stand for processes with lent memory: the runtime, and the slot. The timer looks as long as there are some.
static WATCHED: Mutex<Vec<(Weak<Shared>, usize)>> = Mutex::new(Vec::new());

fn watched() -> MutexGuard<'static, Vec<(Weak<Shared>, usize)>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process has been lent memory.
pub(super) fn watch(shared: &Arc<Shared>, slot: usize) {
    let mut watched = watched();
    watched.push((Arc::downgrade(shared), slot));
    if watched.len() == 1 {
        look_later();
    }
}

fn look_later() {
    // No thread for it: processes keep what they have until the host is short of memory.
    let _ = timer::call_at(now() + ROUND, look);
}

fn look() {
    let before = std::mem::take(&mut *watched());
    let kept: Vec<_> = before.into_iter().filter(|(shared, slot)| shared.upgrade().is_some_and(|shared| look_at(&shared, *slot))).collect();
    let mut watched = watched();
    // What came meanwhile has an alarm of its own.
    let is_first = watched.is_empty();
    watched.extend(kept);
    if is_first && !watched.is_empty() {
        look_later();
    }
}

/// Looks at one; whether to look again.
fn look_at(shared: &Arc<Shared>, slot: usize) -> bool {
    let place = &shared.slots[slot];
    let Some(remote) = place.remote.get() else { return false };
    match remote.look(place.counters.tasks.load(Relaxed)) {
        Look::Again => true,
        Look::Never => false,
        Look::AskBack => {
            // Until the next call says otherwise.
            let options = TaskOptions::new().name("give back memory").scope(Scope::worker(slot as u32));
            let (task, _) = spawn_at_once(shared, None, &mut Unspawned::new(|| keep_nothing(true), ()), caller(), Some(Box::new(options)));
            task.detach();
            false
        }
    }
}
