//! Looks over the shoulder of a region that is checked: whether each task comes after all that it has to come after.
//!
//! What has to come after what is found here by looking at each earlier access to the same value, and not by the histories that order the tasks. A task comes after another if there is a way from one
//! to the other along the edges that the histories gave, or if the other had ended when it was spawned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::shadow::{Declared, Shadows, Witness};
use crate::mutable::{Historic, Mode, Target, spans_of};
use crate::options::TaskOptions;
use crate::part::Spans;
use crate::task::record::{Header, TaskRef};

thread_local! {
    /// The checker of the region for which this thread is spawning a task.
    static CHECKER: RefCell<Option<Checker>> = const { RefCell::new(None) };
}

/// What is known of the tasks of a region.
#[derive(Default)]
pub(crate) struct Checker {
    tasks: Vec<Checked>,
    /// The numbers of the tasks, by the addresses of their records, which `tasks` keeps.
    numbers: BTreeMap<usize, usize>,
    /// The accesses so far, by the addresses of their values' histories.
    accesses: BTreeMap<usize, Accesses>,
    found: Vec<Unordered>,
    shadows: Arc<Shadows>,
}

struct Checked {
    task: TaskRef,
    /// A bit for each task that it comes after, by their numbers.
    after: Vec<u64>,
}

/// Of one value.
struct Accesses {
    /// Keeps the address.
    _owner: Arc<dyn Historic>,
    all: Vec<Access>,
}

struct Access {
    task: usize,
    /// Which elements; none: all.
    spans: Option<Arc<Spans>>,
    mode: Mode,
}

/// A task that does not come after one that it has to come after.
pub(crate) struct Unordered {
    pub(crate) task: TaskRef,
    pub(crate) earlier: TaskRef,
}

/// Bits of a word.
const WORD: usize = 64;

fn has(bits: &[u64], number: usize) -> bool {
    bits.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
}

fn set(bits: &mut Vec<u64>, number: usize) {
    if bits.len() <= number / WORD {
        bits.resize(number / WORD + 1, 0);
    }
    bits[number / WORD] |= 1 << (number % WORD);
}

fn meet(one: Option<&Spans>, two: Option<&Spans>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => one.meets(two),
        _ => true,
    }
}

/// Whether two accesses to the same elements may come in any order.
fn go_together(one: Mode, two: Mode) -> bool {
    match (one, two) {
        (Mode::Read, Mode::Read) | (Mode::Commute, Mode::Commute) => true,
        (Mode::Reduce(one), Mode::Reduce(two)) => one == two,
        _ => false,
    }
}

impl Checker {
    /// Lends it to this thread while a task is spawned.
    pub(super) fn during<T>(this: &mut Option<Self>, spawn: impl FnOnce() -> T) -> T {
        if this.is_none() {
            return spawn();
        }
        CHECKER.with_borrow_mut(|lent| std::mem::swap(lent, this));
        let spawned = spawn();
        CHECKER.with_borrow_mut(|lent| std::mem::swap(lent, this));
        spawned
    }

    /// What it has found, once all tasks have ended. A task that was never begun has its witness still, which keeps values, whose histories keep the task: each is let go.
    pub(super) fn into_found(self) -> Vec<Unordered> {
        self.tasks.iter().filter_map(|checked| checked.task.witness()).for_each(Witness::release);
        self.found
    }

    fn note(&mut self, task: &TaskRef, before: &[usize], accesses: impl Iterator<Item = (Arc<dyn Historic>, Target, Mode)>) {
        let number = self.tasks.len();
        let mut after = Vec::new();
        for earlier in before.iter().filter_map(|address| self.numbers.get(address)) {
            set(&mut after, *earlier);
            for (word, bits) in self.tasks[*earlier].after.iter().enumerate() {
                if after.len() <= word {
                    after.push(0);
                }
                after[word] |= bits;
            }
        }
        for (owner, target, mode) in accesses {
            let address = std::ptr::from_ref(owner.history()).addr();
            let spans = spans_of(&*owner, target);
            let known = self.accesses.entry(address).or_insert_with(|| Accesses { _owner: owner, all: Vec::new() });
            for earlier in known.all.iter().filter(|earlier| earlier.task != number && !go_together(earlier.mode, mode)) {
                if !meet(earlier.spans.as_deref(), spans.as_deref()) {
                    continue;
                }
                let other = &self.tasks[earlier.task];
                if !has(&after, earlier.task) && !other.task.is_finished() {
                    self.found.push(Unordered { task: task.clone(), earlier: other.task.clone() });
                }
            }
            if spans.is_none() && matches!(mode, Mode::Write | Mode::Overwrite) {
                // Whoever comes after this one comes after all of them, or this one does not.
                known.all.clear();
            }
            known.all.push(Access { task: number, spans, mode });
        }
        self.numbers.insert(std::ptr::from_ref::<Header>(task).addr(), number);
        self.tasks.push(Checked { task: task.clone(), after });
    }
}

/// Whether the task that is being ordered is one of a region that is checked.
pub(crate) fn is_on() -> bool {
    CHECKER.with_borrow(Option::is_some)
}

/// Lets a task that is about to be made come after the one before, and its body be witnessed; the one before.
#[cold]
pub(crate) fn witness(
    options: &mut Option<Box<TaskOptions>>,
    accesses: impl Iterator<Item = Declared>,
    is_launch: bool,
) -> Option<TaskRef> {
    CHECKER.with_borrow(|checker| {
        let checker = checker.as_ref()?;
        let ties = &mut options.get_or_insert_default().ties;
        ties.witness = Some(Box::new(Witness::new(&checker.shadows, accesses.collect(), is_launch)));
        let before = checker.tasks.last().map(|checked| checked.task.clone());
        // Not shown to the checker: what has to come after what is a matter of accesses.
        before.iter().for_each(|before| ties.come_after(before));
        before
    })
}

/// Shows a task that has been ordered: the addresses of the records of those that it has edges to, and its accesses.
#[cold]
pub(crate) fn note(task: &TaskRef, before: &[usize], accesses: impl Iterator<Item = (Arc<dyn Historic>, Target, Mode)>) {
    CHECKER.with_borrow_mut(|checker| {
        if let Some(checker) = checker {
            checker.note(task, before, accesses);
        }
    });
}

#[cfg(all(test, poniard_planted))]
mod planted_tests {
    use super::super::RegionOptions;
    use crate::part::{View, ViewMut};
    use crate::planted::{Bug, plant};
    use crate::{Mutable, Runtime, read, write};

    /// A region that is checked, with a task that is not done before all are spawned: what was forgotten cannot have ended by then.
    fn check(bug: Option<Bug>) -> Option<String> {
        let runtime = Runtime::builder().threads(2).build().unwrap_or_else(|error| panic!("{error}"));
        let list = Mutable::new(vec![1u64; 8]);
        let (left, across) = (list.rows(..4), list.rows(2..6));
        let (Ok(left), Ok(across)) = (left, across) else { panic!("the parts are inside") };
        let (to_tasks, at_tasks) = std::sync::mpsc::channel::<()>();
        plant(bug);
        let ended = runtime.region_with(&RegionOptions::new().checked(true), move |r| {
            r.spawn(move |_: View<'_, u64>| at_tasks.recv().is_ok(), (read(&left),));
            r.spawn(|mut part: ViewMut<'_, u64>| part[0] = 2, (write(&left),));
            r.spawn(|mut part: ViewMut<'_, u64>| part[0] = 3, (write(&across),));
            r.spawn(|part: View<'_, u64>| part[0], (read(&left),));
            drop(to_tasks);
        });
        plant(None);
        ended.err().map(|error| error.to_string())
    }

    #[test]
    fn the_checker_finds_planted_bugs_and_nothing_else() {
        assert_eq!(check(None), None);
        let forgotten = check(Some(Bug::ReadersForgotten)).unwrap_or_default();
        assert_eq!(forgotten.matches("core/src/region/check.rs:").count(), 3, "it names the region and both tasks: {forgotten}");
        assert!(forgotten.contains("may have run too early"), "{forgotten}");
        assert!(check(Some(Bug::PartsForgotten)).is_some_and(|error| error.contains("may have run too early")));
    }
}
