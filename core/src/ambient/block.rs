//! Blocks of code whose spawns are submitted together, or run one after the other.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Ambient, with_changed};
use crate::options::Ties;
use crate::queued::launch::offer;
use crate::runtime::Handle;
use crate::task::record::TaskRef;
use crate::worker::context::{Context, runtime_of};
use crate::worker::entry::Entry;

/// A block that this thread is in, and the ones around it. Never directly inside one of its kind.
pub(crate) struct Block {
    kind: Kind,
    outer: Option<Rc<Block>>,
}

enum Kind {
    Bulk(Bulk),
    Sequence(Sequence),
}

/// Holds back what is spawned inside.
#[derive(Default)]
struct Bulk {
    held: RefCell<Vec<TaskRef>>,
    /// All of its tasks, if it is a step of the sequence around it.
    step: RefCell<Vec<TaskRef>>,
}

/// Runs what is spawned inside one after the other. A task waits for the step before it by edges. That it has finished means that it is over, and with it
/// all before it: see `Ties::holds`.
#[derive(Default)]
struct Sequence {
    /// The last step.
    previous: RefCell<Vec<TaskRef>>,
}

impl Block {
    fn and_around(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |block| block.outer.as_deref())
    }

    /// Lets a task about to be spawned inside come after the last step of each sequence around.
    pub(crate) fn prepare(&self, ties: &mut Ties) {
        for block in self.and_around() {
            if let Kind::Sequence(sequence) = &block.kind {
                ties.holds = true;
                let previous = sequence.previous.take();
                let (gone, left): (Vec<_>, Vec<_>) = previous.into_iter().partition(|task| task.is_finished());
                left.iter().for_each(|task| ties.come_after(task));
                sequence.previous.replace(left);
                // Now that the place is filled: a result that goes along may have a destructor which spawns.
                drop(gone);
            }
        }
    }

    /// Notes a task, or several of one step, that was spawned inside.
    pub(crate) fn note(&self, tasks: &[TaskRef]) {
        for block in self.and_around() {
            match &block.kind {
                Kind::Sequence(sequence) => drop(sequence.previous.replace(tasks.to_vec())),
                Kind::Bulk(bulk) => {
                    if block.outer.is_some() {
                        bulk.step.borrow_mut().extend_from_slice(tasks);
                    }
                    // The sequences around it hear of all together.
                    return;
                }
            }
        }
    }

    /// Takes a task that is held if there is a bulk to hold it back; its end will submit it.
    pub(crate) fn hold_back(&self, task: &TaskRef) -> bool {
        self.outermost_bulk().map(|bulk| bulk.held.borrow_mut().push(task.clone())).is_some()
    }

    /// Whether what is spawned inside is held back.
    pub(crate) fn holds_back(&self) -> bool {
        self.outermost_bulk().is_some()
    }

    fn outermost_bulk(&self) -> Option<&Bulk> {
        self.and_around().fold(None, |found, block| match &block.kind {
            Kind::Bulk(bulk) => Some(bulk),
            Kind::Sequence(_) => found,
        })
    }

    /// Submits what has been held back so far.
    pub(crate) fn flush(&self) {
        if let Some(bulk) = self.outermost_bulk() {
            let held = bulk.held.take();
            submit(held.iter().filter_map(TaskRef::release_hold).collect());
            // What these wait for may have been submitted before.
            held.iter().filter(|task| task.launch().is_some() && !task.is_claimed()).for_each(offer);
        }
    }

    /// The block is over.
    fn close(&self) {
        let Kind::Bulk(bulk) = &self.kind else { return };
        let step = bulk.step.take();
        if let Some(outer) = self.outer.as_deref().filter(|_| !step.is_empty()) {
            outer.note(&step);
        }
        if self.outermost_bulk().is_some_and(|outermost| std::ptr::eq(outermost, bulk)) {
            self.flush();
        }
    }
}

/// Puts entries into the queues of their runtimes, those of one runtime in one go.
fn submit(mut entries: Vec<Entry>) {
    // Dropped at once: they were cancelled meanwhile.
    entries.retain(|entry| !entry.is_stale());
    while let Some(first) = entries.first() {
        // Kept for the whole call: once the tasks are in a queue they may run, and their runtime may end.
        let shared = first.peek(runtime_of);
        let (own, others) = entries.into_iter().partition(|entry| entry.peek(|task| std::ptr::eq(task.runtime(), &*shared)));
        Context::with_of(&shared, |context| shared.enqueue_all(context, own));
        entries = others;
    }
}

/// Runs `body` inside one more block.
fn within<R>(kind: Kind, body: impl FnOnce() -> R) -> R {
    /// Closes the block, however `body` ends.
    struct Close(Rc<Block>);
    impl Drop for Close {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let outer = super::look(|ambient| ambient.and_then(|ambient| ambient.block.clone()));
    let again = matches!(
        (&kind, outer.as_deref().map(|outer| &outer.kind)),
        (Kind::Bulk(_), Some(Kind::Bulk(_))) | (Kind::Sequence(_), Some(Kind::Sequence(_)))
    );
    if again {
        // Directly inside a block of its kind it changes nothing.
        return body();
    }
    let close = Close(Rc::new(Block { kind, outer }));
    with_changed(|ambient| Ambient { block: Some(Rc::clone(&close.0)), ..ambient }, body)
}

impl Handle {
    /// Runs `body` on this thread and holds back what it spawns, on whichever runtime: the tasks are submitted all at once when it ends, also when it
    /// panics. Nothing of them runs before. What these tasks spawn is not held back.
    ///
    /// Waiting for a task, or a group, inside `body` submits what has been held back so far, since it might wait for that. Other ways to wait, for a
    /// channel say, do not: waiting there for a task of the block never ends.
    ///
    /// In [`sequential`](Self::sequential) a bulk is one step: its tasks come after those before, and may run at the same time. Cost for each task: the
    /// allocation that every task with options has, and a few exchanges; queues and sleeping workers are looked at once for all of them.
    ///
    /// ```
    /// let runtime = poniard::Runtime::new()?;
    /// let tasks: Vec<_> = runtime.bulk(|| (0..100u64).map(|i| runtime.spawn(|x: u64| x * x, (i,))).collect());
    /// assert_eq!(*tasks[9].fetch()?, 81);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bulk<R>(&self, body: impl FnOnce() -> R) -> R {
        within(Kind::Bulk(Bulk::default()), body)
    }

    /// Runs `body` on this thread; the tasks that it spawns, on whichever runtime, run one after the other, in the order of spawning, whatever becomes of
    /// those before. What these tasks spawn is not ordered.
    ///
    /// A task that is cancelled, or dropped with its last handle, before its turn has come is left out when it comes; one that is cancelled while it runs
    /// ends when its body does, and the next one begins then. Cost for each task: the allocation that every task with options has, and about
    /// that of an argument which is a task.
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// static LOG: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    /// let runtime = poniard::Runtime::new()?;
    /// runtime.wait_all(|| {
    ///     runtime.sequential(|| {
    ///         for i in 0..10u64 {
    ///             runtime.spawn(|i: u64| LOG.lock().map(|mut log| log.push(i)).is_ok(), (i,)).detach();
    ///         }
    ///     });
    /// })?;
    /// assert_eq!(*LOG.lock().map_err(|_| "poisoned")?, (0..10).collect::<Vec<_>>());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sequential<R>(&self, body: impl FnOnce() -> R) -> R {
        within(Kind::Sequence(Sequence::default()), body)
    }
}
