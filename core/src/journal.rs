//! The journal of a runtime: which tasks were spawned, after which others, and when and where each ran. Off unless it is asked for.
//!
//! A runtime that keeps one gives every task options with its number, and has it hand on an inheritance, so that the tasks that it spawns take the way of those with options as
//! well. So a runtime that keeps none pays nothing in the short ways, and one look at a field elsewhere.

use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ambient;
use crate::clock::{now_ns, thread_cpu_ns};
use crate::options::{Priority, TaskOptions};
use crate::task::record::Header;

/// What a runtime has noted of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry {
    /// The task's name; its function's, if it has none of its own.
    pub name: String,
    /// Its function.
    pub code: &'static str,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// How urgent it was.
    pub priority: Priority,
    /// The task that spawned it, by its position in the journal; `None` for the program itself.
    pub spawner: Option<usize>,
    /// The tasks that it came after, by their positions: those whose results it takes, and those before it in some order. Each once, by rising position.
    pub after: Vec<usize>,
    /// When it was spawned, in ns from the first spawn.
    pub spawned_ns: u64,
    /// When and where its body ran; `None` if it has not run on a worker: it was cancelled, a device has run it, or it is not over.
    pub ran: Option<JournalSpan>,
}

/// When and where a task's body ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalSpan {
    /// When it began, in ns from the first spawn.
    pub began_ns: u64,
    /// When it was over: with whatever it waited for, and what ran meanwhile on top of it.
    pub ended_ns: u64,
    /// How long its thread had a core meanwhile, in ns, where the system tells. Less than went by where the machine did something else, and where it waited.
    pub cpu_ns: Option<u64>,
    /// The processor, by its place in [`Report`](crate::Report): inline ones first.
    pub processor: usize,
}

#[derive(Debug)]
struct Spawned {
    name: Option<String>,
    code: &'static str,
    location: &'static Location<'static>,
    priority: Priority,
    spawner: Option<usize>,
    at_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ran {
    number: usize,
    began_ns: u64,
    ended_ns: u64,
    cpu_ns: Option<u64>,
}

/// What is noted, as it comes in.
#[derive(Debug)]
pub(crate) struct Journal {
    spawned: Mutex<Vec<Spawned>>,
    /// Tasks, and one that each comes after.
    edges: Mutex<Vec<(usize, usize)>>,
    /// For each processor: nobody else writes there, so the lock is free.
    ran: Vec<Mutex<Vec<Ran>>>,
}

/// A task's number, and where it is noted.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    number: usize,
    journal: Arc<Journal>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    pub(crate) fn new(processor_count: usize) -> Arc<Self> {
        Arc::new(Self { spawned: Mutex::default(), edges: Mutex::default(), ran: (0..processor_count).map(|_| Mutex::default()).collect() })
    }

    /// Notes a task about to be spawned, in its options.
    pub(crate) fn enter(
        self: &Arc<Self>,
        options: Option<Box<TaskOptions>>,
        code: &'static str,
        location: &'static Location<'static>,
    ) -> Box<TaskOptions> {
        let mut options = options.unwrap_or_default();
        let spawned = Spawned {
            name: options.name.clone(),
            code,
            location,
            priority: options.priority.unwrap_or_default(),
            spawner: ambient::spawner(),
            at_ns: now_ns(),
        };
        let mut all = locked(&self.spawned);
        let number = all.len();
        all.push(spawned);
        drop(all);
        options.ties.noted = Some(Box::new(Noted { number, journal: Arc::clone(self) }));
        ambient::hand_on(&mut options, number);
        options
    }

    /// What the clock said when the first task was spawned; 0 if none was.
    pub(crate) fn first_ns(&self) -> u64 {
        locked(&self.spawned).first().map_or(0, |first| first.at_ns)
    }

    /// What was noted so far, in the order of the spawns.
    pub(crate) fn entries(&self) -> Vec<JournalEntry> {
        let spawned = locked(&self.spawned);
        let first_ns = spawned.first().map_or(0, |first| first.at_ns);
        let since = |at_ns: u64| at_ns.saturating_sub(first_ns);
        let mut entries: Vec<JournalEntry> = spawned
            .iter()
            .map(|one| JournalEntry {
                name: one.name.clone().unwrap_or_else(|| one.code.to_owned()),
                code: one.code,
                location: one.location,
                priority: one.priority,
                spawner: one.spawner,
                after: Vec::new(),
                spawned_ns: since(one.at_ns),
                ran: None,
            })
            .collect();
        drop(spawned);
        // Whoever was spawned since has edges and spans, too.
        let known = entries.len();
        locked(&self.edges).iter().filter(|(task, _)| *task < known).for_each(|(task, after)| entries[*task].after.push(*after));
        entries.iter_mut().for_each(|entry| {
            entry.after.sort_unstable();
            entry.after.dedup();
        });
        for (processor, ran) in self.ran.iter().enumerate() {
            for Ran { number, began_ns, ended_ns, cpu_ns } in locked(ran).iter().filter(|ran| ran.number < known) {
                entries[*number].ran =
                    Some(JournalSpan { began_ns: since(*began_ns), ended_ns: since(*ended_ns), cpu_ns: *cpu_ns, processor });
            }
        }
        entries
    }
}

impl Noted {
    /// What a task is known by, if a journal is kept.
    pub(crate) fn of(task: &Header) -> Option<&Self> {
        task.options().and_then(|options| options.ties.noted.as_deref())
    }

    /// The task's position in the journal.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The task comes after another one.
    pub(crate) fn comes_after(&self, other: &Header) {
        if let Some(other) = Self::of(other) {
            self.follows(other);
        }
    }

    /// The task comes after one of another journal or of this one, in which case that is noted.
    pub(crate) fn follows(&self, other: &Self) {
        if Arc::ptr_eq(&self.journal, &other.journal) {
            locked(&self.journal.edges).push((self.number, other.number));
        }
    }
}

/// Runs the body of a task with these options on a processor, and notes that if it is to be noted.
pub(crate) fn around<R>(options: &TaskOptions, processor: usize, body: impl FnOnce() -> R) -> R {
    let Some(noted) = &options.ties.noted else { return body() };
    let (began_ns, before) = (now_ns(), thread_cpu_ns());
    let result = body();
    let cpu_ns = before.zip(thread_cpu_ns()).map(|(before, after)| after - before);
    let ended_ns = now_ns();
    if let Some(ran) = noted.journal.ran.get(processor) {
        locked(ran).push(Ran { number: noted.number, began_ns, ended_ns, cpu_ns });
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use crate::{Mutable, Priority, Runtime, ViewMut, read, spawn, write};

    fn runtime(journal: bool) -> Runtime {
        Runtime::builder().threads(2).processes(0).models(None).journal(journal).build().unwrap()
    }

    #[test]
    fn it_says_what_came_after_what_and_who_spawned_it() {
        let runtime = runtime(true);
        let one = runtime.task(|| 1, ()).name("one").priority(Priority::High).spawn();
        let two = runtime.spawn(|one: &u32| one + 1, (&one,));
        let ordered = runtime.task(|| (), ()).after(&two).name("ordered").spawn();
        let place = Mutable::new(0);
        let changes: Vec<_> = (0..2).map(|_| runtime.spawn(|place: &mut u32| *place += 1, (write(&place),))).collect();
        let outer = runtime.task(|| spawn(|| 7, ()).take(), ()).name("outer").spawn();
        assert_eq!(outer.take().unwrap(), 7);
        ordered.wait().unwrap();
        runtime.wait_idle();
        drop(changes);
        let journal = runtime.journal();
        let after: Vec<&[usize]> = journal.iter().map(|entry| &entry.after[..]).collect();
        let expected: [&[usize]; 7] = [&[], &[0], &[1], &[], &[3], &[], &[]];
        assert_eq!(after, expected);
        assert_eq!((journal[0].name.as_str(), journal[0].priority, journal[2].name.as_str()), ("one", Priority::High, "ordered"));
        assert!(journal[1].code.contains("it_says_what_came_after_what"), "{}", journal[1].code);
        assert_eq!((journal[6].spawner, journal[5].spawner), (Some(5), None));
        for (number, entry) in journal.iter().enumerate() {
            let ran = entry.ran.as_ref().unwrap();
            assert!(
                entry.spawned_ns <= ran.began_ns && ran.began_ns <= ran.ended_ns && ran.cpu_ns.is_some() && ran.processor < 2,
                "{entry:?}"
            );
            for before in &entry.after {
                assert!(journal[*before].ran.as_ref().unwrap().ended_ns <= ran.began_ns, "{number} after {before}");
            }
        }
    }

    /// Who has ended is waited for by nobody, and still came first.
    #[test]
    fn an_order_is_noted_although_nobody_had_to_wait() {
        let runtime = runtime(true);
        let place = Mutable::new(vec![0u32; 4]);
        let (left, right) = (place.part(ndarray::s![0..2]).unwrap(), place.part(ndarray::s![1..4]).unwrap());
        let mut last = Vec::new();
        runtime.spawn(|place: &mut Vec<u32>| place[0] = 1, (write(&place),)).wait().unwrap();
        // More than a history keeps of those that have ended.
        for _ in 0..40 {
            runtime.spawn(|place: &Vec<u32>| place[0], (read(&place),)).wait().unwrap();
        }
        for part in [&left, &right] {
            runtime.spawn(|mut part: ViewMut<'_, u32>| *part.get_mut([0]).unwrap() += 1, (write(part),)).wait().unwrap();
        }
        last.push(runtime.spawn(|place: &mut Vec<u32>| place[0], (write(&place),)));
        assert_eq!(last.pop().unwrap().take().unwrap(), 2);
        let journal = runtime.journal();
        let after = |number: usize| journal[number].after.clone();
        assert!((1..=40).all(|reader| after(reader) == [0]));
        let first: Vec<usize> = (0..=40).collect();
        assert_eq!(after(41), first);
        assert_eq!(after(42), (0..=41).collect::<Vec<_>>());
        assert_eq!(after(43), (0..=42).collect::<Vec<_>>());
    }

    #[test]
    fn what_has_not_run_has_no_time_and_without_it_there_is_nothing() {
        let with = runtime(true);
        let (go, wait) = channel::<()>();
        let busy = with.spawn(move || wait.recv().is_ok(), ());
        let never = with.task(|_: bool| (), (&busy,)).name("never").spawn();
        never.cancel();
        go.send(()).unwrap();
        assert!(busy.take().unwrap());
        with.wait_idle();
        let journal = with.journal();
        assert_eq!((journal[1].name.as_str(), &journal[1].ran), ("never", &None));
        assert!(journal[0].ran.is_some());
        let without = runtime(false);
        without.spawn(|| (), ()).wait().unwrap();
        assert!(without.journal().is_empty());
    }
}
