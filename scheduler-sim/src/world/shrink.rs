//! From a scenario in which something is wrong to the least one.

use super::failure::Failure;
use super::run::run;
use super::script::Script;
use super::work::{Where, Work};

/// Runs at most, to make one scenario smaller.
const RUNS_MAX: u32 = 2_000;

/// What is left of a scenario.
#[derive(Debug)]
pub struct Shrunk {
    /// The least script that was found.
    pub script: Script,
    /// What is wrong in it.
    pub failure: Failure,
    /// How many runs that took.
    pub runs: u32,
}

/// Makes a script in which something goes wrong as small as it can, as long as it goes wrong in the same way: without tasks, without things that go wrong by intention, without
/// edges, options and workers.
#[must_use]
pub fn shrink(script: Script, failure: Failure) -> Shrunk {
    let mut shrunk = Shrunk { script, failure, runs: 0 };
    loop {
        let before = size(&shrunk.script);
        shrunk.drop_tasks();
        shrunk.drop_chaos();
        shrunk.drop_details();
        if size(&shrunk.script) >= before || shrunk.runs >= RUNS_MAX {
            return shrunk;
        }
    }
}

/// Takes the last device out, if no task needs it.
fn drop_device(script: &mut Script) {
    let last = script.devices.len().saturating_sub(1);
    let needs_it = |task: &super::ScriptTask| match task.work.launched_at() {
        Some(Where::Device(device)) => device as usize == last,
        Some(Where::Devices) => last == 0,
        Some(Where::Anywhere) | None => false,
    };
    if !script.tasks.iter().any(needs_it) {
        script.devices.truncate(last);
    }
}

fn size(script: &Script) -> usize {
    let edges: usize = script.tasks.iter().map(|task| task.inputs.len() + task.after.len()).sum();
    let others = script.tasks.iter().filter(|task| task.work != Work::Number || task.is_released).count();
    script.tasks.len() + edges + script.chaos.len() + script.columns.len() + script.devices.len() + others
}

impl Shrunk {
    /// Takes a smaller script if it goes wrong in the same way.
    fn attempt(&mut self, script: Script) -> bool {
        if self.runs >= RUNS_MAX || script == self.script {
            return false;
        }
        self.runs += 1;
        match run(script.clone()) {
            Err(failure) if failure.kind() == self.failure.kind() => {
                self.script = script;
                self.failure = failure;
                true
            }
            _ => false,
        }
    }

    /// Without stretches of tasks, long ones first.
    fn drop_tasks(&mut self) {
        let mut length = self.script.tasks.len().div_ceil(2).max(1);
        loop {
            let mut first = 0;
            while first < self.script.tasks.len() {
                let stretch = first as u32..(first + length) as u32;
                if !self.attempt(self.script.without(|task| stretch.contains(&task))) {
                    first += length;
                }
            }
            if length == 1 {
                return;
            }
            length = length.div_ceil(2);
        }
    }

    fn drop_chaos(&mut self) {
        for index in (0..self.script.chaos.len()).rev() {
            let mut script = self.script.clone();
            script.chaos.remove(index);
            self.attempt(script);
        }
    }

    fn drop_details(&mut self) {
        let mut plain = self.script.clone();
        plain.draws = false;
        self.attempt(plain);
        let mut plain = self.script.clone();
        plain.policy = None;
        self.attempt(plain);
        for change in [
            |script: &mut Script| script.devices_first = false,
            |script: &mut Script| script.fetches_late = false,
            |script: &mut Script| script.expects_costs = false,
            drop_device,
        ] {
            let mut script = self.script.clone();
            change(&mut script);
            self.attempt(script);
        }
        // The first worker goes: the last ones may stand for processes.
        while self.script.columns.len() > 1 && self.script.columns.len() > self.script.processes {
            let mut fewer = self.script.clone();
            fewer.columns = fewer.columns[1..].into();
            if !self.attempt(fewer) {
                break;
            }
        }
        for task in 0..self.script.tasks.len() {
            for change in [
                |task: &mut super::ScriptTask| task.priority = 0,
                |task: &mut super::ScriptTask| task.timeout_ns = None,
                |task: &mut super::ScriptTask| task.processors = 1,
                |task: &mut super::ScriptTask| task.pause_ns = 0,
                |task: &mut super::ScriptTask| task.is_released = false,
                |task: &mut super::ScriptTask| task.work = Work::Number,
                |task: &mut super::ScriptTask| task.after.truncate(task.after.len().saturating_sub(1)),
                |task: &mut super::ScriptTask| task.inputs.truncate(task.inputs.len().saturating_sub(1)),
            ] {
                let mut script = self.script.clone();
                change(&mut script.tasks[task]);
                self.attempt(script);
            }
        }
    }
}
