//! The conformance suite: the facts that are true of every backend, each a test.
//!
//! A backend's author says what there is to test and what it [promises](Promises), and has [`conformance!`](macro@crate::conformance) make one `#[test]` of each fact. Tasks
//! leave their marks in files ([`Marks`]), so that a fact is the same for a backend that runs them in the program and for one that does not. What a fact needs
//! and the backend does not promise is skipped, with the reason.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use poniard::{ProcessorIdentity, Runtime, RuntimeBuilder, Scope, TaskBuilder, TaskOptions};

pub use crate::marks::Marks;
pub use kernels::Sources;

mod data;
mod deaths;
mod ending;
mod executing;
mod failing;
mod kernels;
mod load;
mod nesting;
mod opening;
mod ordering;
mod scoping;
mod stopping;

/// What is tested: a backend in a runtime.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The backend's name. Tasks that are to run there have its processors as their scope.
    pub backend: &'static str,
    /// A new runtime in which the backend has at least one processor. Others may be there, too.
    pub builder: fn() -> RuntimeBuilder,
    /// What the backend promises.
    pub promises: Promises,
    /// How long one fact may take; one that takes longer hangs.
    pub limit: Duration,
}

/// What a backend promises, besides what every backend has to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promises {
    /// What it runs.
    pub runs: Runs,
    /// It may have no processors, for want of a device: then nothing is looked at.
    pub may_be_absent: bool,
    /// It runs every task. Otherwise only those whose function, arguments and result travel.
    pub runs_everything: bool,
    /// Its tasks run in processes other than the program's, which end with the runtime.
    pub apart: bool,
    /// A task whose process ends is run again, and nothing else is lost. Only for a backend that is `apart`.
    pub survives_deaths: bool,
    /// A body that goes on after it was told to stop is ended.
    pub ends_bodies: bool,
    /// Of the ready tasks on one processor the most urgent is the next, but for so many that it may have taken before. Nothing: it promises no order.
    pub taken_ahead: Option<usize>,
    /// Settings that it refuses: name and value.
    pub bad_settings: &'static [(&'static str, &'static str)],
    /// It refuses settings that it does not know and that begin with its own name and a point, as it has settings that do.
    pub has_own_settings: bool,
}

/// What a backend runs. There are facts for each, and some for all.
#[derive(Clone, Copy, Debug, Default)]
pub enum Runs {
    /// Functions of the host.
    #[default]
    Functions,
    /// Kernels, which these sources are in its language.
    Kernels(Sources),
}

impl Subject {
    /// The backend in the runtimes of `builder`; each fact may take a minute.
    pub const fn new(backend: &'static str, builder: fn() -> RuntimeBuilder, promises: Promises) -> Self {
        Self { backend, builder, promises, limit: Duration::from_secs(60) }
    }

    fn is_absent(&self) -> bool {
        let has_none = |runtime: Runtime| runtime.processors_in(&Scope::backend(self.backend)).is_empty();
        self.promises.may_be_absent && (self.builder)().build().is_ok_and(has_none)
    }

    /// A new runtime, and where the backend's tasks run.
    pub(crate) fn stage(&self) -> Stage {
        self.stage_of((self.builder)())
    }

    pub(crate) fn stage_of(&self, builder: RuntimeBuilder) -> Stage {
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("the runtime is not built: {error}"),
        };
        let scope = Scope::backend(self.backend);
        let processors = runtime.processors_in(&scope);
        assert!(!processors.is_empty(), "the backend `{}` has no processors", self.backend);
        let there = TaskOptions::new().scope(scope.clone());
        let first = TaskOptions::new().scope(scope.and(Scope::processor(&processors[0].name)));
        Stage { runtime, there, first, processors }
    }
}

/// A runtime, and where the backend's tasks run in it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    /// On any processor of the backend.
    pub(crate) there: TaskOptions,
    /// On its first one.
    pub(crate) first: TaskOptions,
    pub(crate) processors: Vec<ProcessorIdentity>,
}

impl Stage {
    /// A task that is to run on a processor of the backend.
    #[track_caller]
    pub(crate) fn task<F, A>(&self, function: F, args: A) -> TaskBuilder<'_, F, A> {
        self.runtime.task(function, args).options(&self.there)
    }

    /// One that is to run on its first processor.
    #[track_caller]
    pub(crate) fn task_on_first<F, A>(&self, function: F, args: A) -> TaskBuilder<'_, F, A> {
        self.runtime.task(function, args).options(&self.first)
    }
}

/// What became of a fact: it holds, or it was not looked at. One that does not hold panics.
pub(crate) type Proof = Result<(), Unpromised>;

/// The backend does not promise what the fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpromised {
    /// Why not, as the end of a sentence that begins with "skipped:".
    pub reason: &'static str,
}

impl fmt::Display for Unpromised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

/// Ends a fact that is about something that the backend does not promise.
pub(crate) fn promised(promised: bool, reason: &'static str) -> Proof {
    if promised { Ok(()) } else { Err(Unpromised { reason }) }
}

/// Something that is true of every backend, or of every one that promises what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// What it is about: `data`, `deaths`.
    pub topic: &'static str,
    /// The fact, a sentence in the form of a function's name.
    pub name: &'static str,
    proof: fn(&Subject) -> Proof,
}

/// Why a fact is not true of a backend: what a panic said, or that it hangs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{fact}` is not true of the backend `{backend}`: {reason}")]
pub struct Untrue {
    /// The fact.
    pub fact: &'static str,
    /// The backend.
    pub backend: &'static str,
    /// How that was seen.
    pub reason: String,
}

impl Fact {
    /// Looks whether it is true of `subject`; where it was not looked at, why not. On a thread of its own, which stays when the fact hangs.
    ///
    /// # Errors
    /// [`Untrue`] when it is not.
    pub fn look(&self, subject: &Subject) -> Result<Result<(), Unpromised>, Untrue> {
        let (give, take) = mpsc::channel();
        let (proof, subject) = (self.proof, *subject);
        let reason = match (self.topic, subject.promises.runs) {
            ("opening", _) | ("kernels", Runs::Kernels(_)) => None,
            ("kernels", Runs::Functions) => Some("it runs no kernels"),
            (_, Runs::Functions) => None,
            (_, Runs::Kernels(_)) => Some("it runs nothing but kernels"),
        };
        let reason = reason.or_else(|| subject.is_absent().then_some("it has no processors here"));
        if let Some(reason) = reason {
            return Ok(Err(Unpromised { reason }));
        }
        // An error is as good: nobody waits any more.
        let prove = move || give.send(catch_unwind(AssertUnwindSafe(|| proof(&subject)))).is_ok();
        let reason = match std::thread::Builder::new().name(self.name.into()).spawn(prove) {
            Err(error) => format!("no thread to look on: {error}"),
            Ok(_) => match take.recv_timeout(subject.limit) {
                Ok(Ok(proof)) => return Ok(proof),
                Ok(Err(panic)) => text_of(&*panic),
                Err(_) => format!("it takes more than {:?}", subject.limit),
            },
        };
        Err(Untrue { fact: self.name, backend: subject.backend, reason })
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}

/// The list of all facts, by topic: hands it to the macro in brackets. There is no other one.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_facts {
    ([$($callback:tt)*] $($arguments:tt)*) => {
        $($callback)* {
            $($arguments)*
            opening {
                processors_have_names_of_their_own
                a_bad_setting_is_refused_by_its_name
            }
            executing {
                every_processor_runs_tasks_and_says_which_it_is
                functions_of_every_sort_run
                closures_that_have_captured_something_run
                a_task_runs_once_however_many_ask
                tasks_run_in_the_program
                tasks_run_in_other_processes
                the_report_counts_what_ran
            }
            failing {
                an_error_comes_back_with_its_causes
                a_panic_is_the_error_of_its_task_and_the_processor_goes_on
                what_depends_on_a_failed_task_is_not_run_and_names_it
                failures_among_many_are_where_they_belong
                a_task_is_tried_again
            }
            stopping {
                a_cancelled_task_that_has_not_begun_never_begins
                a_body_is_told_that_it_is_cancelled
                a_deadline_ends_a_task_and_its_body_is_told
                a_body_that_does_not_stop_is_ended
            }
            data {
                numbers_and_text_come_and_go
                collections_come_and_go
                own_types_come_and_go
                arrays_of_ndarray_come_and_go
                buffers_of_every_size_come_and_go
                an_argument_by_value_leaves_others_theirs
                a_value_is_shared_by_many_tasks
                results_are_gathered
                a_mutable_is_read
                a_mutable_is_written
                results_outlive_the_runtime
            }
            nesting {
                a_body_spawns_and_waits
                a_body_joins_and_loops
                what_a_body_spawns_and_leaves_is_run
            }
            scoping {
                a_scope_keeps_tasks_there
                a_task_goes_where_its_argument_is
                a_task_for_no_processor_is_an_error
                what_does_not_travel_is_refused_there_and_runs_elsewhere
            }
            ordering {
                what_a_task_depends_on_has_run_before
                a_task_comes_after_another_without_its_result
                a_sequence_keeps_its_order
                urgent_tasks_come_first
            }
            load {
                ten_thousand_tasks_run_once_each
                a_long_chain_gives_the_right_result
                layers_of_tasks_give_the_right_results
                buffers_go_from_task_to_task
            }
            deaths {
                a_task_whose_process_is_killed_runs_again
                a_task_whose_process_exits_runs_again
                a_task_whose_process_aborts_runs_again
                a_task_whose_stack_overflows_runs_again
                a_task_that_ends_every_process_fails_and_says_so
                a_task_to_be_begun_once_is_not_begun_again
            }
            kernels {
                every_processor_runs_kernels_and_the_report_counts_them
                buffers_of_kernels_have_every_length
                a_kernel_has_several_results
                a_kernel_takes_numbers_of_every_type
                a_kernel_changes_in_place
                a_kernel_overwrites
                a_result_that_is_added_to_begins_at_zero
                kernels_and_functions_take_turns
                a_long_chain_of_kernels_gives_the_right_result
                layers_of_kernels_give_the_right_results
                many_threads_spawn_kernels
                a_refused_kernel_disturbs_no_others
                a_kernel_whose_argument_failed_is_not_run
                a_cancelled_kernel_has_no_result
                two_runtimes_have_kernels_at_once
                the_end_waits_for_kernels_whose_results_outlive_it
                kernels_give_no_warning
            }
            ending {
                settings_of_others_are_ignored
                the_end_waits_for_tasks
                nothing_is_spawned_after_the_end
                a_shutdown_ends_what_has_not_begun
                runtimes_come_one_after_another
                two_runtimes_work_together
                a_clean_run_gives_no_warning
                no_process_outlives_the_runtime
            }
        }
    };
}

macro_rules! array_of_facts {
    ($($topic:ident { $($fact:ident)* })*) => {
        /// All facts, in an order in which the first that is not true says most.
        pub const FACTS: &[Fact] = &[$($(Fact { topic: stringify!($topic), name: stringify!($fact), proof: $topic::$fact }),*),*];
    };
}
conformance_facts!([array_of_facts!]);

/// Makes a `#[test]` of each fact, about the [`Subject`] that the expression gives. For a module of its own in a file of tests.
///
/// ```
/// mod threads {
///     use poniard::Runtime;
///     use poniard_tests::conformance::{Promises, Subject};
///
///     poniard_tests::conformance!(Subject::new(
///         "threads",
///         || Runtime::builder().threads(2),
///         Promises { runs_everything: true, taken_ahead: Some(0), bad_settings: &[("threads", "0")], has_own_settings: true, ..Promises::default() },
///     ));
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($subject:expr $(,)?) => {
        $crate::conformance_facts! { [$crate::conformance_tests!] ($subject) }
    };
}

/// A test of each fact.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (($subject:expr) $($topic:ident { $($fact:ident)* })*) => {
        $($(
            #[test]
            fn $fact() {
                let test = concat!(module_path!(), "::", stringify!($fact));
                $crate::conformance::test(&$subject, stringify!($fact), test, env!("CARGO_PKG_NAME"));
            }
        )*)*
    };
}

/// What a test of one fact does: `test` is its path with the crate's name, `package` the crate's.
///
/// # Panics
/// When the fact is not true of `subject`; the text says how to look at this one again.
#[doc(hidden)]
pub fn test(subject: &Subject, fact: &str, test: &str, package: &str) {
    let Some(fact) = FACTS.iter().find(|known| known.name == fact) else { panic!("there is no fact `{fact}`") };
    match fact.look(subject) {
        Ok(Ok(())) => {}
        Ok(Err(unpromised)) => say(format_args!("skipped: {unpromised}")),
        Err(untrue) => {
            let (program, path) = test.split_once("::").unwrap_or(("", test));
            panic!("{untrue}\nonly this one: cargo test -p {package} --test {program} -- --exact {path}");
        }
    }
}

/// Looks at all facts, prints a line for each, and lists those that are not true in its panic. For programs that are no tests; tests have
/// [`conformance!`](macro@crate::conformance).
///
/// # Panics
/// When a fact is not true of `subject`.
pub fn check(subject: &Subject) {
    let mut untrue = Vec::new();
    for fact in FACTS {
        let Fact { topic, name, .. } = fact;
        match fact.look(subject) {
            Ok(Ok(())) => say(format_args!("{topic}: {name} ... ok")),
            Ok(Err(unpromised)) => say(format_args!("{topic}: {name} ... skipped: {unpromised}")),
            Err(error) => {
                say(format_args!("{topic}: {name} ... UNTRUE"));
                untrue.push(error.to_string());
            }
        }
    }
    assert!(untrue.is_empty(), "{} of {} facts are not true:\n{}", untrue.len(), FACTS.len(), untrue.join("\n"));
}

#[expect(clippy::print_stdout, reason = "tests report on standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}
