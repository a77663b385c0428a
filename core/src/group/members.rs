//! The unfinished members of a group or of a cancel token.
//!
//! Groups form a tree. A group that has members is itself a member of the one that it was made in, so that a task enters one group, however deeply groups are
//! nested; what happens on the way up, it meets the first time. Locks are taken from a group to the one above it, two at a time at most: while a group's first
//! member comes or its last one goes, nobody sees it empty and entered above, or the other way round.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::GroupError;
use crate::ambient;
use crate::error::{FailureKind, TaskError};
use crate::task::record::{Header, TaskRef};
use crate::worker::context::Context;
use crate::worker::fetch;
use crate::worker::waiter::Waiter;

/// What a group's handles, its members' records and its inner groups share.
#[derive(Default)]
pub(crate) struct Members {
    /// The group that it was made in.
    parent: Option<Arc<Members>>,
    next_key: AtomicU64,
    /// Set under the lock, and never taken back.
    cancelled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their keys, so that the newest is the last.
    members: BTreeMap<u64, Member>,
    /// Its own key in the group above, while it has members.
    place: Option<u64>,
    failure_count: usize,
    /// Those that the group above has not been told of.
    untold_count: usize,
    first: Option<TaskError>,
    /// Told when it becomes empty.
    waiters: Vec<Waker>,
}

#[derive(Clone)]
enum Member {
    Task(TaskRef),
    Group(Arc<Members>),
}

impl Members {
    pub(crate) fn new(parent: Option<Arc<Self>>) -> Arc<Self> {
        let mut members = Self::default();
        members.parent = parent;
        Arc::new(members)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is called while a change is half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key for a member about to enter.
    pub(crate) fn reserve(&self) -> u64 {
        self.next_key.fetch_add(1, Relaxed)
    }

    /// Whether it, or a group that it is in, has been cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.and_above().any(Self::is_cancelled_itself)
    }

    /// Whether it has been cancelled, as far as its members know.
    pub(crate) fn is_cancelled_itself(&self) -> bool {
        // Relaxed: who has to see it looks under the lock.
        self.cancelled.load(Relaxed)
    }

    /// Whether it is `other`, or inside it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.and_above().any(|members| std::ptr::eq(members, other))
    }

    fn and_above(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |members| members.parent.as_deref())
    }

    /// Puts a task in, which cannot begin before the call returns. Where it meets something that has been cancelled, it is cancelled.
    pub(crate) fn enter(self: &Arc<Self>, key: u64, task: &TaskRef) {
        let mut state = self.lock();
        let cancelled = self.is_cancelled_itself();
        let mut first = state.members.is_empty();
        state.members.insert(key, Member::Task(task.clone()));
        let mut group = self;
        let mut cancelled_above = Vec::new();
        while first && let Some(above) = &group.parent {
            let place = above.reserve();
            let mut above_state = above.lock();
            first = above_state.members.is_empty();
            above_state.members.insert(place, Member::Group(Arc::clone(group)));
            state.place = Some(place);
            if above.is_cancelled_itself() {
                cancelled_above.push(group);
            }
            state = above_state;
            group = above;
        }
        drop(state);
        // The whole branch: others may have entered it meanwhile, and seen nothing. Each of these groups, not the highest alone: one that has been cancelled
        // before passes nothing on to those that come later.
        for group in cancelled_above {
            group.cancel();
        }
        if cancelled {
            task.cancel(FailureKind::Cancelled);
        }
    }

    /// Notes that a member has finished; whoever sees it first does it.
    pub(crate) fn settle(&self, key: u64) {
        let mut state = self.lock();
        let Some(member) = state.members.remove(&key) else { return };
        let failure = match &member {
            Member::Task(task) => task.failure(),
            Member::Group(_) => None,
        };
        self.pass_up(state, failure);
        // Without a lock: the last reference to a task takes its result along, and that may have a destructor.
        drop(member);
    }

    /// Notes a task that failed before it could enter.
    pub(crate) fn note_failure(&self, error: TaskError) {
        self.pass_up(self.lock(), Some(error));
    }

    /// Notes a failure here, and tells the groups above what is news for them: their first error, and that a group in them is empty.
    fn pass_up<'a>(&'a self, mut state: MutexGuard<'a, State>, failure: Option<TaskError>) {
        let mut waiters = Vec::new();
        let mut gone = Vec::new();
        let mut news = None;
        if let Some(error) = failure {
            state.failure_count += 1;
            state.untold_count += 1;
            if state.first.is_none() {
                state.first = Some(error.clone());
                news = Some(error);
            }
        }
        let mut group = self;
        loop {
            let empty = state.members.is_empty();
            if empty {
                waiters.append(&mut state.waiters);
            }
            let Some(above) = group.parent.as_deref().filter(|_| empty || news.is_some()) else { break };
            let mut above_state = above.lock();
            // A group whose first error is there has told the ones above.
            news = news.filter(|_| above_state.first.is_none());
            above_state.first = above_state.first.take().or_else(|| news.clone());
            if empty {
                let untold_count = std::mem::take(&mut state.untold_count);
                above_state.failure_count += untold_count;
                above_state.untold_count += untold_count;
                // None where it had no members: a task could not be spawned.
                gone.extend(state.place.take().and_then(|place| above_state.members.remove(&place)));
            }
            state = above_state;
            group = above;
        }
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
        drop(gone);
    }

    /// Cancels all members, and those that come later. False when that had been done before.
    pub(crate) fn cancel(self: &Arc<Self>) -> bool {
        let mut tasks = Vec::new();
        let mut fresh = None;
        let mut groups = vec![Arc::clone(self)];
        while let Some(group) = groups.pop() {
            let state = group.lock();
            let now = !group.cancelled.swap(true, Relaxed);
            fresh.get_or_insert(now);
            if now {
                for member in state.members.values() {
                    match member {
                        Member::Task(task) => tasks.push(task.clone()),
                        Member::Group(inner) => groups.push(Arc::clone(inner)),
                    }
                }
            }
        }
        // Only now that all groups know it: what one task's end makes ready is not begun (`Header::is_withdrawn`).
        for task in tasks {
            task.cancel(FailureKind::Cancelled);
        }
        fresh.unwrap_or_default()
    }

    /// The newest task in it or in a group inside it, with the group that it is in and its key there.
    fn newest(self: &Arc<Self>) -> Option<(Arc<Self>, u64, TaskRef)> {
        let mut group = Arc::clone(self);
        loop {
            let inner = match group.lock().members.last_key_value() {
                Some((key, Member::Task(task))) => return Some((Arc::clone(&group), *key, task.clone())),
                Some((_, Member::Group(inner))) => Arc::clone(inner),
                None if Arc::ptr_eq(&group, self) => return None,
                // It has become empty meanwhile, and is no longer in the one above.
                None => Arc::clone(self),
            };
            group = inner;
        }
    }

    /// Waits until it has no members.
    pub(crate) fn wait(self: &Arc<Self>) -> Result<(), GroupError> {
        ambient::flush();
        Context::with(|context| match context {
            None => {
                self.wait_asleep();
                Ok(())
            }
            Some(context) => self.wait_inside(context),
        })?;
        let state = self.lock();
        match &state.first {
            None => Ok(()),
            Some(first) => Err(GroupError::new(first.clone(), state.failure_count)),
        }
    }

    /// Waits on a thread that is no worker.
    fn wait_asleep(&self) {
        let waiter = Waiter::for_this_thread();
        {
            let mut state = self.lock();
            if state.members.is_empty() {
                return;
            }
            state.waiters.push(waiter.waker());
        }
        waiter.wait_outside();
    }

    /// Waits on a thread that runs tasks, for one member after the other: so it runs them as far as it can, finds out when it would wait for itself,
    /// and needs no thread for each level of nesting.
    fn wait_inside(self: &Arc<Self>, context: &Context) -> Result<(), GroupError> {
        // Found below as well, but only after others have been waited for.
        let is_member = |task: &Header| {
            task.bonds().iter().any(|bond| Arc::ptr_eq(&bond.members, self)).then(|| task.error(FailureKind::WaitsForItself))
        };
        if let Some(error) = context.with_task(is_member).flatten() {
            return Err(GroupError::new(error, self.lock().failure_count));
        }
        while let Some((group, key, task)) = self.newest() {
            match fetch::wait(&task) {
                Err(error) if matches!(error.kind(), FailureKind::WaitsForItself) => {
                    return Err(GroupError::new(error, self.lock().failure_count));
                }
                // Without stack to go on, a task has failed; there are others to wait for.
                Ok(()) | Err(_) => {}
            }
            if task.is_finished() {
                // Whoever publishes it may not have come to that yet.
                group.settle(key);
            }
        }
        Ok(())
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().members.is_empty()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // One after the other: as many may be inside each other as tasks can be nested.
        let mut parent = self.parent.take();
        while let Some(above) = parent {
            parent = Arc::into_inner(above).and_then(|mut above| above.parent.take());
        }
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Members")
            .field("count", &state.members.len())
            .field("failure_count", &state.failure_count)
            .field("cancelled", &self.is_cancelled_itself())
            .finish_non_exhaustive()
    }
}
