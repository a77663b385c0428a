//! `cancel`: whoever waits for a cancelled task has its error at once; its body stops when it looks, and a task that has not begun never will.
//!
//! Every body here runs until it is told to stop, so the sample ends only because that reaches all of them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use poniard::{BoxError, FailureKind, Task, TaskError};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "cancel",
    summary: "tasks that run until they are told to stop: one, a whole group, one with a deadline",
    options: &[SampleOption { name: "size", meaning: "number of tasks in the group, default 100" }],
    kernels: false,
    run,
};

const TIMEOUT: Duration = Duration::from_millis(20);
/// A body that nobody told to stop gives up, so that the check fails and nothing hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What some bodies did.
#[derive(Debug, Default)]
struct Bodies {
    begun: AtomicUsize,
    stopped: AtomicUsize,
}

impl Bodies {
    /// A body with nothing to compute: `check_cancelled` is what any long one calls now and then.
    fn run(&self, tell: Option<mpsc::Sender<()>>) -> Result<u64, BoxError> {
        self.begun.fetch_add(1, SeqCst);
        // Nobody listens any more once the first one has begun.
        let _ = tell.map(|tell| tell.send(()));
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            poniard::check_cancelled().inspect_err(|_| {
                self.stopped.fetch_add(1, SeqCst);
            })?;
            std::thread::yield_now();
        }
        Err("nobody told it to stop".into())
    }
}

/// What became of some tasks that were spawned to be ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fates {
    /// How many there are.
    tasks: usize,
    /// How many bodies began, and how many of them were told to stop.
    begun: usize,
    stopped: usize,
    /// How many tasks have the error that they should have.
    ended: usize,
}

impl Fates {
    /// Nothing of the tasks runs any more.
    fn of(bodies: &Bodies, tasks: &[Task<u64>], expected: fn(&TaskError) -> bool) -> Self {
        Self {
            tasks: tasks.len(),
            begun: bodies.begun.load(SeqCst),
            stopped: bodies.stopped.load(SeqCst),
            ended: tasks.iter().filter(|task| task.is_finished() && task.wait().is_err_and(|error| expected(&error))).count(),
        }
    }

    fn are_right(self) -> bool {
        self.stopped == self.begun && self.begun <= self.tasks && self.ended == self.tasks
    }
}

fn is_cancelled(error: &TaskError) -> bool {
    matches!(error.kind(), FailureKind::Cancelled)
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 100, limits::MOST_TASKS)?;
    let runtime = context.runtime;
    let done = |parts| context.progress.advance(parts, 4);

    // One task, and two that would take its result.
    let (tell, listen) = mpsc::channel();
    let bodies = Arc::new(Bodies::default());
    let endless = {
        let bodies = Arc::clone(&bodies);
        runtime.task(move || bodies.run(Some(tell)), ()).name("endless").spawn()
    };
    let waiting = [2, 3].map(|factor| runtime.task(|x: u64, factor: u64| x * factor, (&endless, factor)).name("waiting").spawn());
    // Only so that the sample can say that it ran.
    let began = listen.recv_timeout(PATIENCE).is_ok();
    let was_cancelled = endless.cancel();
    let dependent = |error: &TaskError| matches!(error.kind(), FailureKind::Dependency(_)) && error.root_task() == "endless";
    let unbegun = waiting.iter().filter(|task| task.wait().is_err_and(|error| dependent(&error))).count();
    // Whoever waits has known for long; this waits for the bodies.
    runtime.wait_idle();
    let single = Fates::of(&bodies, &[endless], is_cancelled);
    done(1);

    // Many, of which some have begun.
    let (tell, listen) = mpsc::channel();
    let bodies = Arc::new(Bodies::default());
    let mut tasks = Vec::new();
    let group = runtime.group(|| {
        for _ in 0..size {
            let (bodies, tell) = (Arc::clone(&bodies), tell.clone());
            tasks.push(runtime.spawn(move || bodies.run(Some(tell)), ()));
        }
    });
    let group_began = listen.recv_timeout(PATIENCE).is_ok();
    group.cancel();
    let failure_count = group.wait().map_or_else(|error| error.failure_count(), |()| 0);
    runtime.wait_idle();
    let many = Fates::of(&bodies, &tasks, is_cancelled);
    done(2);

    let bodies = Arc::new(Bodies::default());
    let slow = {
        let bodies = Arc::clone(&bodies);
        runtime.task(move || bodies.run(None), ()).name("slow").timeout(TIMEOUT).spawn()
    };
    let late = slow.wait().map_or_else(|error| error.reason(), |()| "it has a result".into());
    runtime.wait_idle();
    let slow = Fates::of(&bodies, &[slow], |error| matches!(error.kind(), FailureKind::DeadlineExceeded));
    done(3);

    // Too late: the result is there.
    let quick = runtime.spawn(|| 42u64, ());
    quick.wait()?;
    let too_late = !quick.cancel() && *quick.fetch()? == 42;
    done(4);

    let lines = vec![
        format!("one task:  cancelled while it ran; its body was told, and the {unbegun} tasks that wanted its result never began"),
        format!("a group:   of {size} tasks {} had begun and were told, {} never began", many.begun, size - many.begun.min(size)),
        format!("deadline:  after {} ms: {late}", TIMEOUT.as_millis()),
        "finished:  cancelling a task that has a result changes nothing".into(),
    ];
    let told = [
        (began, "the single task did not begin"),
        (was_cancelled, "cancelling the single task had no effect"),
        (unbegun == waiting.len(), "a task that wanted the single task's result has another error than that it was not run"),
        (group_began, "no task of the group began"),
        (failure_count == size, "the group counts another number of failures than it has tasks"),
        (too_late, "a task that had finished was cancelled"),
    ];
    Ok(Outcome {
        lines,
        values: vec![("size", size.into()), ("begun", many.begun.into()), ("deadline", late.into())],
        check: check(&told, [single, many, slow]),
        output: None,
    })
}

/// Every task ended as it was told to, and no body that began was left running. `told` has what else is to hold, and what is wrong where it does not.
fn check(told: &[(bool, &str)], fates: [Fates; 3]) -> Check {
    let (begun, stopped) = fates.iter().fold((0, 0), |(begun, stopped), fates| (begun + fates.begun, stopped + fates.stopped));
    let wrong: Vec<String> = (told.iter().filter(|(holds, _)| !holds).map(|(_, wrong)| (*wrong).to_owned()))
        .chain(["the single task", "the group", "the task with a deadline"].into_iter().zip(fates).filter_map(|(what, fates)| {
            let Fates { tasks, begun, stopped, ended } = fates;
            let text = format!("of {what}, {stopped} of {begun} bodies were told to stop, and {ended} of {tasks} tasks have the error that they should have");
            (!fates.are_right()).then_some(text)
        }))
        .collect();
    let text = format!("{stopped} of {begun} bodies that began were told to stop, and each task has the error that it should have");
    Check { passed: wrong.is_empty(), text: if wrong.is_empty() { text } else { wrong.join("; ") } }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [None, Some(1), Some(2), Some(3000)] {
            Trial { size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 39, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn says_that_the_deadline_has_passed() {
        assert!(Trial::default().passes(&SAMPLE).lines[2].contains("its deadline has passed"));
    }

    #[test]
    fn check_notices_a_body_that_runs_on_and_a_task_without_its_error() {
        let fine = Fates { tasks: 3, begun: 2, stopped: 2, ended: 3 };
        let wrong = |told: &[(bool, &str)], fates| {
            let check = check(told, fates);
            assert!(!check.passed);
            check.text
        };
        assert!(check(&[(true, "no")], [fine; 3]).passed);
        assert_eq!(wrong(&[(true, "one"), (false, "two")], [fine; 3]), "two");
        let text = wrong(&[], [fine, Fates { stopped: 1, ..fine }, fine]);
        assert_eq!(text, "of the group, 1 of 2 bodies were told to stop, and 3 of 3 tasks have the error that they should have");
        assert!(wrong(&[], [fine, fine, Fates { ended: 2, ..fine }]).starts_with("of the task with a deadline, 2 of 2"));
        assert!(wrong(&[], [Fates { begun: 4, stopped: 4, ..fine }, fine, fine]).contains("the single task"));
    }
}
