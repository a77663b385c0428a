//! Scopes: where a task may run, and where a value may be used.
//!
//! A [`Scope`] is an expression about processors. What it comes to depends on the runtime: there it is a set of processors (`set.rs`).
//! `run.rs` works out the run scope of a task, `parse.rs` reads the text form.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};
use std::sync::Arc;

use poniard_interface::{ProcessorKind, SpaceId};

mod parse;
pub(crate) mod run;
mod set;

pub use parse::ParseScopeError;
pub use run::{ScopePart, ScopeSource};
pub(crate) use set::ProcessorSet;
pub use set::{ProcessId, ProcessorIdentity};

/// Where a task may run, or a value be used: a set of processors, described so that it means something on every runtime.
///
/// Scopes are made of simple ones, by union ([`or`](Self::or), `|`), intersection ([`and`](Self::and), `&`) and exclusion
/// ([`except`](Self::except), `-`). Which processors that comes to is asked of a runtime: [`Handle::processors_in`](crate::Handle::processors_in).
///
/// ```
/// use poniard::{Runtime, Scope};
///
/// let runtime = Runtime::builder().threads(3).build()?;
/// let scope = Scope::kind("cpu").except(Scope::processor("threads-0"));
/// assert_eq!(scope.to_string(), "processors of kind `cpu` except processor `threads-0`");
/// assert_eq!(scope, "kind:cpu - processor:threads-0".parse()?);
/// assert_eq!(runtime.processors_in(&scope).len(), 2);
///
/// let there = runtime.task(|| poniard::current_processor().map(|processor| processor.name), ()).scope(scope).spawn();
/// assert_ne!(there.take()?.as_deref(), Some("threads-0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Text form
///
/// | Text | Is |
/// |---|---|
/// | `any`, `host` | [`any`](Self::any), [`host`](Self::host) |
/// | `process:0`, `worker:2` | [`process`](Self::process), [`worker`](Self::worker) |
/// | `kind:cpu`, `backend:threads`, `processor:threads-0` | [`kind`](Self::kind), [`backend`](Self::backend), [`processor`](Self::processor) |
/// | `device:"NVIDIA H200"` | [`device`](Self::device) |
/// | `a - b`, `a & b`, `a \| b` | exclusion, intersection, union; the first binds most tightly, the last least, as in Rust |
/// | `(a)` | grouping |
///
/// A name ends at white space and at `|`, `&`, `(` and `)`; so `-` needs white space before it, since names have it too. Names with such characters
/// stand in double quotes: `kind:"odd kind"`.
///
/// Equality is that of the description: `a | b` and `b | a` differ. Whether two scopes are the same processors is asked of a runtime:
/// [`Handle::scopes_are_same`](crate::Handle::scopes_are_same).
///
/// A clone costs one count; combining costs the length of both sides.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope(
    /// The expression with each operator after its operands, so that no depth of nesting is a depth of calls. `None`: any processor.
    Option<Arc<Vec<Step>>>,
);

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Term(ScopeTerm),
    Operator(Operator),
}

/// What makes one scope of two. Those that bind more tightly are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Operator {
    Or,
    And,
    Except,
}

/// A simple scope: what [`Scope`]s are made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScopeTerm {
    /// Every processor.
    Any,
    /// Processors that run in the program's own process and in its memory.
    Host,
    /// Processors that run in a process.
    Process(ProcessId),
    /// Processors of a kind.
    Kind(ProcessorKind),
    /// Processors of a backend, by the backend's name.
    Backend(String),
    /// Processors with this name.
    Processor(String),
    /// Devices with this name or UUID.
    Device(String),
    /// The processor that is this worker: a place among the inline processors.
    Worker(u32),
}

/// A union of no scopes, which would be no processor at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a union needs at least one scope")]
pub struct EmptyUnion;

impl Scope {
    /// Every processor: the default.
    pub const fn any() -> Self {
        Self(None)
    }

    /// Processors that run in the program's own process and work in its memory: not those of a worker process, nor of a device with memory of its own.
    pub fn host() -> Self {
        Self::term(ScopeTerm::Host)
    }

    /// Processors that run in one process of the operating system, whatever memory they work in. A task that cannot travel fails where
    /// its scope has none in [`ProcessId::HOST`].
    pub fn process(process: ProcessId) -> Self {
        Self::term(ScopeTerm::Process(process))
    }

    /// Processors of a kind: `Scope::kind("cpu")`.
    pub fn kind(kind: impl Into<ProcessorKind>) -> Self {
        Self::term(ScopeTerm::Kind(kind.into()))
    }

    /// The processors of a backend, by the backend's name: `Scope::backend("threads")`.
    pub fn backend(name: impl Into<String>) -> Self {
        Self::term(ScopeTerm::Backend(name.into()))
    }

    /// One processor, by its name: `Scope::processor("threads-0")`. Where processors of two backends have one name, both; intersect with
    /// [`backend`](Self::backend) then.
    pub fn processor(name: impl Into<String>) -> Self {
        Self::term(ScopeTerm::Processor(name.into()))
    }

    /// The devices with this name or UUID, as `poniard processors` and [`ProcessorIdentity::device`] show them: `Scope::device("NVIDIA H200")`.
    pub fn device(name_or_uuid: impl Into<String>) -> Self {
        Self::term(ScopeTerm::Device(name_or_uuid.into()))
    }

    /// The processor that is one worker, counted from 0: a place among the runtime's inline processors, in the order of its backends.
    /// A range of them is `Scope::union((0..4).map(Scope::worker))`.
    pub fn worker(index: u32) -> Self {
        Self::term(ScopeTerm::Worker(index))
    }

    /// The processors of all `scopes`.
    ///
    /// # Errors
    /// [`EmptyUnion`] when there are none.
    pub fn union(scopes: impl IntoIterator<Item = Self>) -> Result<Self, EmptyUnion> {
        scopes.into_iter().reduce(Self::or).ok_or(EmptyUnion)
    }

    /// The processors of either. The same as `self | other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_any() || other.is_any() { Self::any() } else { self.combined(other, Operator::Or) }
    }

    /// The processors of both. The same as `self & other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.is_any(), other.is_any()) {
            (true, _) => other,
            (_, true) => self,
            _ => self.combined(other, Operator::And),
        }
    }

    /// The processors of this one that are not in the other. The same as `self - other`.
    #[must_use]
    pub fn except(self, other: Self) -> Self {
        self.combined(other, Operator::Except)
    }

    /// Whether this is [`Scope::any`] itself, and no expression that may come to the same.
    pub const fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// The simple scopes that it is made of, as they were written.
    pub fn terms(&self) -> impl Iterator<Item = &ScopeTerm> {
        self.steps().iter().filter_map(|step| match step {
            Step::Term(term) => Some(term),
            Step::Operator(_) => None,
        })
    }

    fn term(term: ScopeTerm) -> Self {
        match term {
            ScopeTerm::Any => Self::any(),
            term => Self(Some(Arc::new(vec![Step::Term(term)]))),
        }
    }

    fn steps(&self) -> &[Step] {
        const ANY: &[Step] = &[Step::Term(ScopeTerm::Any)];
        self.0.as_ref().map_or(ANY, |steps| steps)
    }

    fn into_steps(self) -> Vec<Step> {
        self.0.map_or_else(|| vec![Step::Term(ScopeTerm::Any)], Arc::unwrap_or_clone)
    }

    fn combined(self, other: Self, operator: Operator) -> Self {
        let mut steps = self.into_steps();
        steps.extend(other.into_steps());
        steps.push(Step::Operator(operator));
        Self(Some(Arc::new(steps)))
    }

    /// What it comes to among `processors`. Cost: the number of its terms times the number of processors.
    pub(crate) fn select(&self, processors: &[ProcessorIdentity]) -> ProcessorSet {
        self.fold(
            |term| ProcessorSet::of(processors.len(), |place| term.contains(&processors[place])),
            |operator, left, right| match operator {
                Operator::Or => left.or(&right),
                Operator::And => left.and(&right),
                Operator::Except => left.except(&right),
            },
        )
    }

    /// Goes through the expression: makes something of each term, and of two of those one with each operator.
    fn fold<T>(&self, term: impl Fn(&ScopeTerm) -> T, combine: impl Fn(Operator, T, T) -> T) -> T {
        let mut stack: Vec<T> = Vec::new();
        for step in self.steps() {
            let next = match step {
                Step::Term(simple) => term(simple),
                Step::Operator(operator) => {
                    let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
                        unreachable!("an operator comes after its operands")
                    };
                    combine(*operator, left, right)
                }
            };
            stack.push(next);
        }
        match stack.pop() {
            Some(whole) if stack.is_empty() => whole,
            _ => unreachable!("an expression comes to one thing"),
        }
    }
}

impl ScopeTerm {
    fn contains(&self, processor: &ProcessorIdentity) -> bool {
        match self {
            Self::Any => true,
            Self::Host => processor.process == ProcessId::HOST && processor.space == SpaceId::HOST,
            Self::Process(process) => processor.process == *process,
            Self::Kind(kind) => processor.kind == *kind,
            Self::Backend(name) => processor.backend == *name,
            Self::Processor(name) => processor.name == *name,
            Self::Device(name) => {
                processor.device.as_ref().is_some_and(|device| device.name == *name || device.uuid.eq_ignore_ascii_case(name))
            }
            Self::Worker(index) => processor.worker.is_some_and(|worker| worker.0 == *index),
        }
    }
}

impl From<ScopeTerm> for Scope {
    fn from(term: ScopeTerm) -> Self {
        Self::term(term)
    }
}

impl BitOr for Scope {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

impl BitAnd for Scope {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Sub for Scope {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.except(other)
    }
}

impl fmt::Display for ScopeTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any processor"),
            Self::Host => f.write_str("processors of the host"),
            Self::Process(process) => write!(f, "processors of process {process}"),
            Self::Kind(kind) => write!(f, "processors of kind `{kind}`"),
            Self::Backend(name) => write!(f, "processors of the backend `{name}`"),
            Self::Processor(name) => write!(f, "processor `{name}`"),
            Self::Device(name) => write!(f, "device `{name}`"),
            Self::Worker(index) => write!(f, "worker {index}"),
        }
    }
}

/// In words: ``processors of kind `cpu` except processor `threads-0` ``.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What stands between the two sides, of which the first is one processor, or several.
        fn words(operator: Operator, is_one: bool) -> &'static str {
            match operator {
                Operator::Or => " or ",
                Operator::And if is_one => " and also ",
                Operator::And => " that are also ",
                Operator::Except => " except ",
            }
        }
        // Each text with the operator that it was made with last: in parentheses where it would be read otherwise. And whether it speaks of one processor.
        let is_one = |term: &ScopeTerm| matches!(term, ScopeTerm::Processor(_) | ScopeTerm::Worker(_) | ScopeTerm::Device(_));
        let (text, _, _) = self.fold(
            |term| (term.to_string(), None, is_one(term)),
            |operator, (mut left, last_of_left, is_one): (String, Option<Operator>, bool), (right, last_of_right, _)| {
                if last_of_left.is_some_and(|last| last < operator) {
                    left = format!("({left})");
                }
                left.push_str(words(operator, is_one));
                let regrouped =
                    last_of_right.is_some_and(|last| last < operator || last == Operator::Except && operator == Operator::Except);
                if regrouped {
                    left.push('(');
                }
                left.push_str(&right);
                if regrouped {
                    left.push(')');
                }
                (left, Some(operator), is_one && operator != Operator::Or)
            },
        );
        f.write_str(&text)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

#[cfg(test)]
mod tests;
