//! Looks at what the bodies of a checked region touch: each value has a shadow, a copy of its bytes, and after each body whatever differs from it has to be something that the task had access to.
//!
//! Tasks of such a region come one after the other, by order edges and not by a lock: a body that waits runs other tasks meanwhile, which might want the lock. So what differs was changed by
//! the body that has just ended, or by code that has no right to run at all.
//!
//! What tasks read leaves no trace, nor does a write of what was there before. So while a body runs, whole pages on which there is nothing that it may touch are closed (`guard`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::guard::{self, Guard};
use super::pages;
use crate::error::FailureKind;
use crate::mutable::{Historic, Mode};
use crate::part::{Form, Spans};
use crate::task::record::{Header, TaskRef};

/// Where the elements of a value lie.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Of the element from which positions are counted.
    pub(crate) address: usize,
    pub(crate) form: Form,
    pub(crate) element_bytes: usize,
}

/// The bytes of a value, and how they lie.
#[doc(hidden)]
#[derive(Debug)]
pub struct Shown {
    /// Tells whether it is the same memory as before.
    pub(crate) lying: Lying,
    /// From the first element in memory to the last.
    pub(crate) bytes: Vec<u8>,
    /// How often something was combined into it, that tasks have made who reduce.
    pub(crate) combined: u32,
}

/// The shadows of a region, in the order in which their values were named.
#[derive(Default)]
pub(crate) struct Shadows(Mutex<State>);

#[derive(Default)]
struct State {
    shadows: Vec<Shadow>,
    /// By the addresses of their values' histories, which the shadows keep.
    numbers: BTreeMap<usize, usize>,
}

struct Shadow {
    owner: Arc<dyn Historic>,
    /// None before the first task that names it begins, and where there is nothing to be seen.
    seen: Option<Shown>,
    /// Devices write it, at times of their own.
    is_blind: bool,
    /// Who has written which elements, the last one last; none: all.
    writers: Vec<(Option<Arc<Spans>>, TaskRef)>,
}

/// An access that a task has declared.
pub(crate) struct Declared {
    pub(crate) owner: Arc<dyn Historic>,
    /// Which elements; none: all.
    pub(crate) spans: Option<Arc<Spans>>,
    pub(crate) mode: Mode,
}

/// What a task of a checked region takes along: gone when its body is over, as the shadows keep the task.
pub(crate) struct Witness(Mutex<Option<Witnessed>>);

struct Witnessed {
    shadows: Arc<Shadows>,
    accesses: Vec<Declared>,
    /// While the body runs.
    watch: Option<Watch>,
    /// Where the body was that it had no access to.
    touched: Option<Touched>,
}

/// Pages that are closed, and of which shadows.
struct Watch {
    guard: Guard,
    values: Vec<(usize, Lying)>,
}

/// An element of a value, by the number of its shadow.
struct Touched {
    shadow: usize,
    lying: Lying,
    position: i64,
    was_written: bool,
}

impl Lying {
    /// Where the element at a position lies, or would lie.
    pub(crate) fn address_of(&self, position: i64) -> usize {
        self.address.wrapping_add_signed(position as isize * self.element_bytes as isize)
    }

    /// Where the first one in memory lies.
    pub(crate) fn begin(&self) -> usize {
        self.address_of(self.form.spans().bounds().0)
    }

    /// Behind the last one in memory.
    pub(crate) fn end(&self) -> usize {
        self.address_of(self.form.spans().bounds().1)
    }

    /// The position of the element that lies there.
    fn position_of(&self, address: usize) -> i64 {
        (address as i64 - self.address as i64).div_euclid(self.element_bytes.max(1) as i64)
    }
}

impl Shadows {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic leaves half-done is a shadow that is looked at anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shadow(&mut self, owner: &Arc<dyn Historic>) -> &mut Shadow {
        let address = std::ptr::from_ref(owner.history()).addr();
        let number = *self.numbers.entry(address).or_insert_with(|| {
            self.shadows.push(Shadow { owner: Arc::clone(owner), seen: None, is_blind: false, writers: Vec::new() });
            self.shadows.len() - 1
        });
        &mut self.shadows[number]
    }
}

impl Declared {
    fn writes(&self) -> bool {
        // A task that reduces changes a copy.
        matches!(self.mode, Mode::Write | Mode::Overwrite | Mode::Commute)
    }
}

impl Witness {
    /// Of a task that is about to be made; `is_launch` if a device may run it.
    pub(super) fn new(shadows: &Arc<Shadows>, accesses: Vec<Declared>, is_launch: bool) -> Self {
        if is_launch {
            let mut state = shadows.lock();
            accesses.iter().filter(|access| access.writes()).for_each(|access| state.shadow(&access.owner).is_blind = true);
        }
        Self(Mutex::new(Some(Witnessed { shadows: Arc::clone(shadows), accesses, watch: None, touched: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Witnessed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The arguments are at hand, and the body begins.
    pub(crate) fn begin(&self) {
        let mut witnessed = self.lock();
        let Some(witnessed) = &mut *witnessed else { return };
        // Without the shadows' lock: combining is a user's code. Whoever looks at the value would do it next.
        witnessed.accesses.iter().filter(|access| !matches!(access.mode, Mode::Reduce(_))).for_each(|access| access.owner.settle());
        let is_first = |owner| {
            let mut state = witnessed.shadows.lock();
            let shadow = state.shadow(owner);
            shadow.seen.is_none() && !shadow.is_blind
        };
        for access in witnessed.accesses.iter().filter(|access| access.owner.consumed().is_none() && is_first(&access.owner)) {
            // All of it, also what of it only a device has that the task does not look at: it would seem to be changed when it comes. Nobody else has the value, so this can wait for nobody.
            let is_there = access.owner.make_ready(poniard_interface::Access::Read).is_ok();
            let mut state = witnessed.shadows.lock();
            let shadow = state.shadow(&access.owner);
            shadow.seen = if is_there { access.owner.show() } else { None };
            shadow.is_blind |= !is_there;
        }
        let state = witnessed.shadows.lock();
        witnessed.watch = Watch::new(&state, &witnessed.accesses);
    }

    /// The body is over, and what comes now the runtime does.
    pub(crate) fn lift(&self) {
        if let Some(witnessed) = &mut *self.lock() {
            witnessed.touched = witnessed.watch.take().and_then(Watch::lift);
        }
    }

    /// Lets go of what a body would have needed that is not run any more.
    pub(super) fn release(&self) {
        drop(self.lock().take());
    }

    /// The body is over, and so is its access. What it has changed or read besides.
    pub(crate) fn end(&self, task: &Header) -> Option<FailureKind> {
        let witnessed = self.lock().take()?;
        let mut state = witnessed.shadows.lock();
        let touched = witnessed.touched.map(|touched| state.shadows[touched.shadow].undeclared(&touched));
        let mut found = None;
        for shadow in &mut state.shadows {
            let own = |access: &&Declared| access.writes() && std::ptr::eq(access.owner.history(), shadow.owner.history());
            let declared: Vec<&Declared> = witnessed.accesses.iter().filter(own).collect();
            if !shadow.is_blind {
                let changed = shadow.look(&declared);
                found = found.or(changed);
            }
            shadow.note(&declared, task);
        }
        // What has been changed is found in one way or the other, and says more.
        found.or(touched)
    }
}

impl Watch {
    /// Closes for this thread what a task with these accesses has nothing to do with.
    fn new(state: &State, accesses: &[Declared]) -> Option<Self> {
        let mut values = Vec::new();
        let guard = Guard::new(|| {
            let mut stretches = Vec::new();
            // What a device writes it may write just now.
            for (number, shadow) in state.shadows.iter().enumerate().filter(|(_, shadow)| !shadow.is_blind) {
                let Some(lying) = shadow.owner.lying() else { continue };
                let own = |access: &&Declared| std::ptr::eq(access.owner.history(), shadow.owner.history());
                let declared: Vec<_> = accesses.iter().filter(own).collect();
                pages::closed(&lying, &declared, guard::page_bytes(), &mut stretches);
                values.push((number, lying));
            }
            stretches
        })?;
        Some(Self { guard, values })
    }

    fn lift(self) -> Option<Touched> {
        let noted = self.guard.lift()?;
        let (shadow, lying) = self.values.into_iter().find(|(_, lying)| (lying.begin()..lying.end()).contains(&noted.address))?;
        Some(Touched { shadow, lying, position: lying.position_of(noted.address), was_written: noted.was_written })
    }
}

impl Shadow {
    /// Compares it with the value, and makes it the same.
    fn look(&mut self, declared: &[&Declared]) -> Option<FailureKind> {
        let before = std::mem::replace(&mut self.seen, self.owner.show());
        let (Some(before), Some(now)) = (before, &self.seen) else { return None };
        let is_declared = |position| declared.iter().any(|access| access.spans.as_ref().is_none_or(|spans| spans.has(position)));
        if declared.iter().any(|access| access.spans.is_none()) || before.combined != now.combined {
            return None;
        }
        let start = now.lying.form.spans().bounds().0;
        let (is_same, element_bytes) = (before.lying == now.lying, now.lying.element_bytes);
        if is_same && before.bytes == now.bytes {
            return None;
        }
        let (first, last) = if is_same {
            let elements = before.bytes.chunks_exact(element_bytes).zip(now.bytes.chunks_exact(element_bytes)).zip(start..);
            let mut changed =
                elements.filter(|((before, now), position)| before != now && !is_declared(*position)).map(|(_, position)| position);
            let first = changed.next()?;
            // Those right beside it.
            let beside = changed.zip(first + 1..).take_while(|(position, next)| position == next).count();
            (first, first + beside as i64)
        } else {
            (start, start + (now.bytes.len() / element_bytes) as i64 - 1)
        };
        Some(FailureKind::Undeclared {
            is_changed: true,
            value: self.owner.location(),
            elements: in_words(&now.lying.form, first, last),
            written_by: self.writer_of(first).map(|task| task.name().to_string()),
        })
    }

    fn undeclared(&self, touched: &Touched) -> FailureKind {
        FailureKind::Undeclared {
            is_changed: touched.was_written,
            value: self.owner.location(),
            elements: in_words(&touched.lying.form, touched.position, touched.position),
            written_by: self.writer_of(touched.position).map(|task| task.name().to_string()),
        }
    }

    fn writer_of(&self, position: i64) -> Option<&TaskRef> {
        let has = |spans: &Option<Arc<Spans>>| spans.as_ref().is_none_or(|spans| spans.has(position));
        self.writers.iter().rev().find(|(spans, _)| has(spans)).map(|(_, task)| task)
    }

    fn note(&mut self, declared: &[&Declared], task: &Header) {
        for access in declared {
            match &access.spans {
                None => self.writers.clear(),
                Some(spans) => self.writers.retain(|(other, _)| other.as_ref().is_none_or(|other| other != spans)),
            }
            self.writers.push((access.spans.clone(), TaskRef::of(task)));
        }
    }
}

/// Elements as their user counts them.
fn in_words(form: &Form, first: i64, last: i64) -> String {
    let index = |position| {
        let index = form.index_of(position);
        if let [index] = index[..] { index.to_string() } else { format!("{index:?}") }
    };
    if first >= last { format!("element {}", index(first)) } else { format!("elements {} to {}", index(first), index(last)) }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}
