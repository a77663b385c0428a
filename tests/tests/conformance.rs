//! The facts that are true of every backend, about the backends of the workspace; and that the suite notices a backend that breaks them.
//!
//! `cargo test -p poniard-tests --test conformance -- --nocapture` says what is skipped and why.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use poniard::plugin::PluginSearch;
use poniard::{
    Backend, BackendInfo, Completion, Execution, HostServices, OpenError, Opened, Processor, ProcessorInfo, ProcessorKind, Runtime,
    RuntimeBuilder, Settings, SpaceId, StopError, SubmitError, TaskDescriptor, TaskId,
};
use poniard_backend_vulkan::VulkanBackend;
use poniard_tests::caught_panic;
use poniard_tests::conformance::{FACTS, Promises, Runs, Sources, Subject, check};
use poniard_tests::device::{FakeDevice, FakeDevices, Flaw};

mod threads {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "threads",
        || Runtime::builder().threads(2),
        Promises {
            runs_everything: true,
            taken_ahead: Some(0),
            bad_settings: &[("threads", "0"), ("threads", "many"), ("threads.pin", "perhaps"), ("threads.stack_bytes", "1")],
            has_own_settings: true,
            ..Promises::default()
        },
    ));
}

mod processes {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "process",
        || Runtime::builder().threads(1).processes(2),
        Promises {
            apart: true,
            survives_deaths: true,
            ends_bodies: true,
            taken_ahead: Some(0),
            bad_settings: &[("processes", "many"), ("processes", "1025"), ("processes.spin", "perhaps")],
            has_own_settings: true,
            ..Promises::default()
        },
    ));
}

/// Threads beside the machine's Vulkan devices, if it has some.
mod threads_beside_devices {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "threads",
        || with_vulkan("true").setting("vulkan.validation", "false"),
        Promises {
            runs_everything: true,
            taken_ahead: Some(0),
            bad_settings: &[("threads", "0"), ("threads", "many")],
            has_own_settings: true,
            ..Promises::default()
        },
    ));
}

/// Two threads and the machine's devices, which work in the host's memory, or in their own.
fn with_vulkan(import: &str) -> RuntimeBuilder {
    Runtime::builder()
        .threads(2)
        .linked(VulkanBackend::new())
        .setting("vulkan.software", "true")
        .setting("vulkan.validation", "true")
        .setting("vulkan.cache", "")
        .setting("vulkan.import", import)
}

/// What is true of Vulkan devices.
const OF_VULKAN: Promises = Promises {
    runs: Runs::Kernels(Sources::WGSL),
    may_be_absent: true,
    bad_settings: &[("vulkan.memory", "0"), ("vulkan.software", "perhaps"), ("vulkan.deadline_ms", "soon")],
    has_own_settings: true,
    ..HONEST
};

mod vulkan_with_the_memory_of_the_host {
    use super::*;

    poniard_tests::conformance!(Subject::new("vulkan", || with_vulkan("true"), OF_VULKAN));
}

mod vulkan_with_memory_of_its_own {
    use super::*;

    poniard_tests::conformance!(Subject::new("vulkan", || with_vulkan("false"), OF_VULKAN));
}

mod vulkan_with_two_lanes {
    use super::*;

    /// On one queue: it is tested that things wait for each other, and not that they run at the same time.
    fn split() -> RuntimeBuilder {
        with_vulkan("false").setting("vulkan.transfer", "emulated").setting("vulkan.without", "mapping")
    }

    poniard_tests::conformance!(Subject::new("vulkan", split, OF_VULKAN));
}

/// The backend that authors begin with, from its plugin file.
mod example {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "example",
        || {
            let file = std::env::current_exe().expect("a test has a file").with_file_name("libponiard_plugin_example.so");
            Runtime::builder().builtin(false).plugins(PluginSearch::none().with_path(file))
        },
        Promises { runs_everything: true, ..Promises::default() },
    ));
}

/// What a backend does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: all facts are true of it.
    None,
    /// Of many tasks one is never answered.
    Loses,
    /// Of many tasks one is answered, and was not run.
    Forgets,
    /// A batch is refused where the processor is busy.
    RefusesWhenBusy,
    /// Tasks are answered twice.
    AnswersTwice,
    /// The second processor does nothing.
    OneIsDead,
    /// Both processors have one name.
    SameName,
    /// Its bad settings are taken.
    TakesAnySetting,
    /// Others' settings are refused.
    RefusesOthersSettings,
    /// Processors do not stop cleanly.
    StopFails,
    /// It can be opened once.
    OnlyOnce,
}

/// A backend that breaks a fact: two queued processors with a thread each.
struct StandIn(Fault);

struct Queue {
    name: &'static str,
    fault: Fault,
    host: Arc<dyn HostServices>,
    busy: Arc<AtomicU64>,
    thread: Mutex<Option<(Sender<TaskId>, JoinHandle<()>)>>,
}

impl Backend for StandIn {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "stand-in".into(), version: "1".into() }
    }

    fn settings(&self) -> Vec<String> {
        vec!["stand-in".into()]
    }

    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        static OPENED: AtomicBool = AtomicBool::new(false);
        let fault = self.0;
        if fault == Fault::OnlyOnce && OPENED.swap(true, Ordering::Relaxed) {
            return Err(OpenError::new("it was opened before"));
        }
        for (name, value) in settings.iter() {
            let own = name == "stand-in" || name.starts_with("stand-in.");
            let refused = if own { fault != Fault::TakesAnySetting } else { fault == Fault::RefusesOthersSettings };
            if refused {
                return Err(OpenError::new(format!("setting `{name}` is `{value}`: there is none")));
            }
        }
        let names = if fault == Fault::SameName { ["one", "one"] } else { ["one", "two"] };
        let processor = |name| {
            let (host, busy) = (Arc::clone(&host), Arc::default());
            Box::new(Queue { name, fault, host, busy, thread: Mutex::default() }) as Box<dyn Processor>
        };
        Ok(Opened { processors: names.map(processor).into(), spaces: Vec::new() })
    }
}

impl Processor for Queue {
    fn info(&self) -> ProcessorInfo {
        let execution = Execution::Queued { depth: 8 };
        ProcessorInfo { name: self.name.into(), kind: ProcessorKind::cpu(), execution, space: SpaceId::HOST, numa_node: None, device: None }
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        if self.fault == Fault::RefusesWhenBusy && self.busy.load(Ordering::Relaxed) > 0 {
            return Err(SubmitError::new("busy"));
        }
        self.busy.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let mut thread = self.thread.lock().expect("not poisoned");
        let (tasks, _) = thread.get_or_insert_with(|| {
            let (tasks, inbox) = channel();
            let (name, fault, host, busy) = (self.name, self.fault, Arc::clone(&self.host), Arc::clone(&self.busy));
            (tasks, std::thread::spawn(move || execute(name, fault, &*host, &busy, &inbox)))
        });
        batch.iter().try_for_each(|task| tasks.send(task.id)).map_err(|_| SubmitError::new("the thread is gone"))
    }

    fn stop(&self) -> Result<(), StopError> {
        let running = self.thread.lock().expect("not poisoned").take();
        if let Some((tasks, thread)) = running {
            drop(tasks);
            thread.join().map_err(|_| StopError::new("the thread panicked"))?;
        }
        if self.fault == Fault::StopFails { Err(StopError::new("it will not")) } else { Ok(()) }
    }
}

/// One thread of a [`Queue`].
fn execute(name: &str, fault: Fault, host: &dyn HostServices, busy: &AtomicU64, inbox: &Receiver<TaskId>) {
    for (count, task) in inbox.iter().enumerate() {
        let last_of_many = count == 40;
        if fault == Fault::OneIsDead && name == "two" || fault == Fault::Loses && last_of_many {
            continue;
        }
        if !(fault == Fault::Forgets && last_of_many) {
            host.run(task).expect("it is in flight");
        }
        busy.fetch_sub(1, Ordering::Relaxed);
        let done = [Completion::done(task)];
        host.complete(&done);
        if fault == Fault::AnswersTwice {
            host.complete(&done);
        }
    }
}

/// A runtime with nothing but the stand-in.
fn alone(fault: Fault) -> RuntimeBuilder {
    Runtime::builder().builtin(false).linked(StandIn(fault))
}

/// What is true of the stand-in.
const HONEST: Promises = Promises {
    runs: Runs::Functions,
    may_be_absent: false,
    runs_everything: true,
    apart: false,
    survives_deaths: false,
    ends_bodies: false,
    taken_ahead: None,
    bad_settings: &[("stand-in", "1")],
    has_own_settings: true,
};

/// Checks that the suite sees by `fact` what is wrong with a backend, and says it in these words.
fn check_noticed(builder: fn() -> RuntimeBuilder, promises: Promises, fact: &str, words: &str) {
    // Short, as some of them hang.
    let subject = Subject { limit: Duration::from_secs(5), ..Subject::new("stand-in", builder, promises) };
    let known = FACTS.iter().find(|known| known.name == fact).unwrap_or_else(|| panic!("no fact `{fact}`"));
    let text = known.look(&subject).map(|proof| panic!("`{fact}` gives {proof:?}")).unwrap_err().to_string();
    assert!(text.starts_with(&format!("`{fact}` is not true of the backend `stand-in`: ")) && text.contains(words), "{text}");
}

#[test]
fn a_backend_without_a_fault_passes() {
    check(&Subject::new("stand-in", || alone(Fault::None), HONEST));
}

#[test]
fn every_fault_is_noticed_by_the_fact_that_it_breaks() {
    check_noticed(|| alone(Fault::Loses), HONEST, "failures_among_many_are_where_they_belong", "more than 5s");
    check_noticed(|| alone(Fault::Forgets), HONEST, "layers_of_tasks_give_the_right_results", "without having run it");
    check_noticed(|| alone(Fault::RefusesWhenBusy), HONEST, "ten_thousand_tasks_run_once_each", "busy");
    check_noticed(|| alone(Fault::AnswersTwice), HONEST, "a_clean_run_gives_no_warning", "not in flight");
    check_noticed(|| alone(Fault::OneIsDead), HONEST, "every_processor_runs_tasks_and_says_which_it_is", "more than 5s");
    check_noticed(|| alone(Fault::SameName), HONEST, "processors_have_names_of_their_own", "two have one name");
    check_noticed(|| alone(Fault::TakesAnySetting), HONEST, "a_bad_setting_is_refused_by_its_name", "the setting `stand-in` may be `1`");
    check_noticed(|| alone(Fault::RefusesOthersSettings), HONEST, "settings_of_others_are_ignored", "setting `somebody-else`");
    check_noticed(|| alone(Fault::StopFails), HONEST, "a_clean_run_gives_no_warning", "it will not");
    check_noticed(|| alone(Fault::OnlyOnce), HONEST, "runtimes_come_one_after_another", "it was opened before");
}

/// Kernels in the language of the devices that are stand-ins.
const OF_STAND_INS: Sources = Sources {
    scale: "scale\nin x f32\nout z f32\nscalar a f32",
    add: "add\nin x f32\nin y f32\nout z f32",
    bump: "bump\ninout x f32",
    copy: "copy\nin x f32\nout z f32",
    both: "both\nin x f32\nout y f32\nout z f32",
    count: "count\nin x f32\ninout z f32",
    numbers: "numbers\nout z f32\nscalar a f32\nscalar b u32\nscalar c i32\nscalar d u64\nscalar e i64\nscalar f f64\nscalar g f16",
    refused: "refused\nin x f32\nout z f32",
};

/// Two threads and two devices that are stand-ins, with a flaw.
fn devices(flaw: Flaw) -> RuntimeBuilder {
    let devices = ["one", "two"].map(|name| FakeDevice::new(name, 4 << 20).with_flaw(flaw));
    Runtime::builder().threads(2).linked(FakeDevices::new(devices))
}

const OF_DEVICES: Promises = Promises { runs: Runs::Kernels(OF_STAND_INS), bad_settings: &[], has_own_settings: false, ..HONEST };

#[test]
fn devices_without_a_flaw_pass() {
    check(&Subject::new("fake", || devices(Flaw::None), OF_DEVICES));
    let importing = || {
        let devices = ["one", "two"].map(|name| FakeDevice::new(name, 4 << 20).importing());
        Runtime::builder().threads(2).linked(FakeDevices::new(devices))
    };
    check(&Subject::new("fake", importing, OF_DEVICES));
}

#[test]
fn every_flaw_of_a_device_is_noticed_by_the_fact_that_it_breaks() {
    for (builder, fact, words) in [
        (|| devices(Flaw::LeavesTheLast), "buffers_of_kernels_have_every_length", "element 256 of 257 is "),
        (|| devices(Flaw::CopiesNoSecond), "layers_of_kernels_give_the_right_results", "element 0 of 70 is "),
        (|| devices(Flaw::ForgetsCopiesOfRefused), "a_refused_kernel_disturbs_no_others", "element 0 of 400 is "),
        (|| devices(Flaw::RefusesAfterRefusal), "a_refused_kernel_disturbs_no_others", "no such feature"),
        (|| devices(Flaw::RefusesEmpty), "buffers_of_kernels_have_every_length", "no such feature"),
        (|| devices(Flaw::SwapsResults), "a_kernel_has_several_results", "element 0 of 100 is 0, and should be 1"),
        (|| devices(Flaw::OneNumber), "a_kernel_takes_numbers_of_every_type", "element 1 of 7 is 0, and should be 3000000000"),
        (|| devices(Flaw::DoesNotZero), "a_result_that_is_added_to_begins_at_zero", "element 0 of 1 is "),
        (|| devices(Flaw::ChangesNothing), "a_kernel_changes_in_place", "element 0 of 500 is 0, and should be 1"),
        (|| devices(Flaw::WritesAll), "a_kernel_overwrites", "left: (-2.0, -2.0, 0.0, "),
        (|| devices(Flaw::Loses), "many_threads_spawn_kernels", "more than 5s"),
        (|| devices(Flaw::AnswersTwice), "kernels_give_no_warning", "not in flight"),
    ] as [(fn() -> RuntimeBuilder, &str, &str); 12]
    {
        let subject = Subject { limit: Duration::from_secs(5), ..Subject::new("fake", builder, OF_DEVICES) };
        let known = FACTS.iter().find(|known| known.name == fact).unwrap_or_else(|| panic!("no fact `{fact}`"));
        let text = known.look(&subject).map(|proof| panic!("`{fact}` gives {proof:?}")).unwrap_err().to_string();
        assert!(text.starts_with(&format!("`{fact}` is not true of the backend `fake`: ")) && text.contains(words), "{text}");
    }
}

#[test]
fn what_is_claimed_and_not_so_is_noticed() {
    let alone = || alone(Fault::None);
    let apart = Promises { apart: true, ..HONEST };
    check_noticed(alone, apart, "tasks_run_in_other_processes", "runs its tasks in the program");
    check_noticed(alone, apart, "a_scope_keeps_tasks_there", "one");
    // It would end the tests.
    let survives = Promises { survives_deaths: true, ..apart };
    for how in ["is_killed", "exits", "aborts"] {
        check_noticed(alone, survives, &format!("a_task_whose_process_{how}_runs_again"), "it runs in the program itself");
    }
    let only_what_travels = Promises { runs_everything: false, ..HONEST };
    check_noticed(alone, only_what_travels, "what_does_not_travel_is_refused_there_and_runs_elsewhere", "it cannot travel");
    let in_order = Promises { taken_ahead: Some(8), ..HONEST };
    check_noticed(alone, in_order, "urgent_tasks_come_first", "2 (urgent) comes before 1 before 0");
}

#[test]
fn a_check_of_all_facts_lists_those_that_are_not_true() {
    let text = caught_panic(|| check(&Subject::new("stand-in", || alone(Fault::StopFails), HONEST))).text;
    let (count, untrue) = text.split_once('\n').expect("a line for each");
    assert_eq!(count, format!("1 of {} facts are not true:", FACTS.len()));
    assert!(untrue.starts_with("`a_clean_run_gives_no_warning` is not true of the backend `stand-in`: "), "{text}");
}

#[test]
fn no_two_facts_have_one_name() {
    let names: BTreeSet<_> = FACTS.iter().map(|fact| fact.name).collect();
    assert!(names.len() == FACTS.len() && FACTS.len() > 40, "{names:?}");
}
