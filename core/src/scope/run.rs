//! The run scope of a task: what its own scope, those of its arguments and that of its result have in common.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::{ProcessorIdentity, ProcessorSet, Scope};
use crate::error::FailureKind;
use crate::function::Predecessors;
use crate::options::TaskOptions;
use crate::worker::shared::Shared;

/// Whether a value or a result of any runtime of this process has had a scope: until then no spawn looks through its arguments for one.
///
/// Not a runtime's own, since a value of one may be an argument on another. Relaxed: whoever gives such a value to a spawn has its handle from the
/// thread that made it, and with the handle sees what that thread stored before.
static CARRIED: AtomicBool = AtomicBool::new(false);

/// Whose a scope is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeSource {
    /// The task's own.
    TaskScope,
    /// That of a value which the task takes.
    ArgumentScope {
        /// Which of its arguments, counted from 1.
        number: usize,
        /// Where the argument is a collection of results: which of them, counted from 1.
        element: Option<usize>,
    },
    /// That of the task's result.
    ResultScope,
    /// What several have in common.
    Together(Vec<ScopeSource>),
}

/// One of the scopes that a run scope is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopePart {
    /// Whose it is.
    pub source: ScopeSource,
    /// The scope.
    pub scope: Scope,
}

impl fmt::Display for ScopeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TaskScope => f.write_str("its scope"),
            Self::ArgumentScope { number, element: None } => write!(f, "the scope of argument {number}"),
            Self::ArgumentScope { number, element: Some(element) } => write!(f, "the scope of element {element} of argument {number}"),
            Self::ResultScope => f.write_str("the scope of its result"),
            Self::Together(sources) => {
                for (index, source) in sources.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " and " })?;
                    source.fmt(f)?;
                }
                f.write_str(" together")
            }
        }
    }
}

impl fmt::Display for ScopePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.source, self.scope)
    }
}

/// A task that cannot be spawned, since no processor may run it.
pub(crate) struct Refusal {
    pub(crate) options: Option<Box<TaskOptions>>,
    pub(crate) kind: FailureKind,
}

/// Whether a value that a task takes may have a scope. Costs a load.
#[inline]
pub(crate) fn is_in_play() -> bool {
    CARRIED.load(Relaxed)
}

/// Works out where a task about to be spawned may run, and notes it in its options.
pub(crate) fn settle(
    shared: &Shared,
    params: &impl Predecessors,
    options: Option<Box<TaskOptions>>,
) -> Result<Option<Box<TaskOptions>>, Refusal> {
    let carried = is_in_play();
    if options.is_none() && !carried {
        return Ok(None);
    }
    settle_with(shared, if carried { of_arguments(params) } else { Vec::new() }, options)
}

/// The scopes that the arguments carry.
fn of_arguments(params: &impl Predecessors) -> Vec<ScopePart> {
    let mut parts = Vec::new();
    params.visit_numbered(&mut |number, element, predecessor| {
        // One that failed has no value; the task fails with its error.
        if let Some(scope) = predecessor.options().and_then(|options| options.result_scope.as_ref())
            && predecessor.failure().is_none()
        {
            parts.push(ScopePart { source: ScopeSource::ArgumentScope { number, element }, scope: scope.clone() });
        }
    });
    parts
}

fn settle_with(
    shared: &Shared,
    of_arguments: Vec<ScopePart>,
    options: Option<Box<TaskOptions>>,
) -> Result<Option<Box<TaskOptions>>, Refusal> {
    let (own, of_result) = match &options {
        Some(options) => (options.scope.clone().unwrap_or_default(), options.result_scope.clone().unwrap_or_default()),
        None => Default::default(),
    };
    if !of_result.is_any() {
        CARRIED.store(true, Relaxed);
    }
    let own = ScopePart { source: ScopeSource::TaskScope, scope: own };
    let of_result = ScopePart { source: ScopeSource::ResultScope, scope: of_result };
    let parts: Vec<_> = [own].into_iter().chain(of_arguments).chain([of_result]).filter(|part| !part.scope.is_any()).collect();
    if parts.is_empty() {
        return Ok(options);
    }
    match meet(&shared.identities, parts) {
        Ok(set) => {
            if let Some(kind) = shared.is_removed(|place| set.contains(place)) {
                return Err(Refusal { options, kind });
            }
            let domain = shared.domains.of(set);
            if options.is_none() && domain.is_none() {
                return Ok(None);
            }
            let mut options = options.unwrap_or_default();
            options.ties.domain = domain.unwrap_or_default();
            Ok(Some(options))
        }
        Err(kind) => Err(Refusal { options, kind }),
    }
}

/// The processors that all parts have in common.
///
/// # Errors
/// When there are none: the part that selects no processor by itself, or two that do not meet.
fn meet(processors: &[ProcessorIdentity], parts: Vec<ScopePart>) -> Result<ProcessorSet, FailureKind> {
    let mut common = ProcessorSet::all(processors.len());
    let mut met: Vec<(ScopePart, ProcessorSet)> = Vec::with_capacity(parts.len());
    for part in parts {
        let set = part.scope.select(processors);
        if set.is_empty() {
            let mut available: Vec<_> = processors.iter().collect();
            available.sort_by_key(|processor| processor.order());
            let available: Vec<_> = available.into_iter().map(ToString::to_string).collect();
            return Err(FailureKind::NoProcessor { part, available: available.join(", ") });
        }
        common = common.and(&set);
        if common.is_empty() {
            let disjoint = met.iter().position(|(_, before)| before.is_disjoint_from(&set));
            let one = match disjoint {
                Some(place) => met.swap_remove(place).0,
                // Any two meet, and all of them do not.
                None => together(met.into_iter().map(|(part, _)| part)),
            };
            return Err(FailureKind::ScopesDoNotMeet { one, other: part });
        }
        met.push((part, set));
    }
    Ok(common)
}

/// Several parts as one.
fn together(parts: impl Iterator<Item = ScopePart>) -> ScopePart {
    let mut sources = Vec::new();
    let scope = parts.fold(Scope::any(), |scope, part| {
        sources.push(part.source);
        scope.and(part.scope)
    });
    ScopePart { source: ScopeSource::Together(sources), scope }
}

/// The options of a value that is given with a scope, or why there can be none such on this runtime.
pub(crate) fn of_value(shared: &Shared, scope: Scope) -> Result<Option<Box<TaskOptions>>, FailureKind> {
    if scope.is_any() {
        return Ok(None);
    }
    let options = TaskOptions::new().result_scope(scope);
    settle_with(shared, Vec::new(), Some(Box::new(options))).map_err(|refusal| refusal.kind)
}

#[cfg(test)]
mod tests {
    use poniard_interface::{SpaceId, WorkerId};

    use super::super::ProcessId;
    use super::*;

    fn threads(count: u32) -> Vec<ProcessorIdentity> {
        let identity = |index| ProcessorIdentity {
            name: format!("threads-{index}"),
            kind: "cpu".into(),
            backend: "threads".into(),
            process: ProcessId::HOST,
            space: SpaceId::HOST,
            worker: Some(WorkerId(index)),
            device: None,
        };
        (0..count).map(identity).collect()
    }

    /// What the first, second, … of `scopes` come to: the task's own, then those of arguments 1, 2, …
    fn met(scopes: &[&str]) -> Result<Vec<usize>, String> {
        let source = |index| match index {
            0 => ScopeSource::TaskScope,
            number => ScopeSource::ArgumentScope { number, element: None },
        };
        let part = |(index, text): (usize, &&str)| ScopePart { source: source(index), scope: text.parse().expect("a scope") };
        match meet(&threads(3), scopes.iter().enumerate().map(part).collect()) {
            Ok(set) => Ok(set.iter().collect()),
            Err(FailureKind::ScopesDoNotMeet { one, other }) => Err(format!("{one} / {other}")),
            Err(FailureKind::NoProcessor { part, .. }) => Err(format!("none: {part}")),
            Err(_) => unreachable!("no other error"),
        }
    }

    #[test]
    fn scopes_that_meet_come_to_what_they_have_in_common() {
        assert_eq!(met(&[]), Ok(vec![0, 1, 2]));
        assert_eq!(met(&["kind:cpu", "any - worker:1", "worker:2 | worker:1"]), Ok(vec![2]));
    }

    #[test]
    fn two_that_do_not_meet_are_named_whatever_stands_between_them() {
        assert_eq!(
            met(&["kind:cpu", "worker:0", "host", "worker:1"]),
            Err("the scope of argument 1 (worker 0) / the scope of argument 3 (worker 1)".into())
        );
    }

    #[test]
    fn where_any_two_meet_the_last_one_is_named_against_those_before() {
        assert_eq!(
            met(&["worker:0 | worker:1", "worker:1 | worker:2", "worker:0 | worker:2"]),
            Err("its scope and the scope of argument 1 together ((worker 0 or worker 1) that are also (worker 1 or worker 2)) / \
                 the scope of argument 2 (worker 0 or worker 2)"
                .into())
        );
    }

    #[test]
    fn one_that_selects_nothing_is_named_alone() {
        assert_eq!(met(&["worker:0", "kind:vulkan"]), Err("none: the scope of argument 1 (processors of kind `vulkan`)".into()));
    }
}
