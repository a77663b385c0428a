//! The program of a script: it spawns everything, and waits for it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use poniard::platform::{Platform as _, situation};
use poniard::policy::Estimate;
use poniard::{
    Buffer, ExpectedCosts, Gather, Handle, Mutable, Priority, Runtime, Scope, Task, TaskBuilder, TaskOptions, buffer, read, write,
};

use super::failure::Failure;
use super::kernel::Kernels;
use super::scene::{Scene, Spawned};
use super::script::{Chaos, ScriptTask};
use super::work::{Where, Work, initial, word};
use super::{SimBackend, World, machine, verdict};

/// The costs of one task, as a policy sees them.
#[derive(Debug)]
struct Costs {
    row: Box<[u64]>,
    columns: Arc<[u32]>,
    rank_ns: u64,
}

impl ExpectedCosts for Costs {
    fn on(&self, processor: usize) -> Option<Estimate> {
        let mean_ns = self.row[self.columns[processor] as usize];
        Some(Estimate { mean_ns, spread_ns: 0, count: 1 << 20 })
    }

    fn rank_ns(&self) -> Option<u64> {
        Some(self.rank_ns)
    }
}

fn compute(inputs: Gather<'_, u64>, task: u32) -> Result<u64, String> {
    Scene::here().number(task, &inputs, &[])
}

fn all<'a>(buffers: Gather<'a, Buffer<u64>>) -> Vec<&'a Buffer<u64>> {
    buffers.iter().collect()
}

struct Program<'a> {
    scene: &'a Scene,
    kernels: Kernels,
    cells: Vec<Mutable<Buffer<u64>>>,
    /// Of each processor its column of costs.
    columns: Arc<[u32]>,
    /// Tasks that others will not name any more, whose handles go when they have finished.
    releasing: Vec<u32>,
    /// Of each task the last one that names it.
    last_uses: Vec<u32>,
}

/// Runs it as a world's first thread.
pub(super) fn play(scene: &Rc<Scene>) {
    let script = &scene.script;
    let Some(mut runtime) = begin(scene) else { return };
    let filled = |(cell, words): (u32, &u32)| Mutable::new(buffer::from_fn(*words as usize, |index| word(initial(cell), index)));
    let mut program = Program {
        scene,
        kernels: Kernels::new(),
        cells: (0..).zip(script.cells.iter()).map(filled).collect(),
        columns: script.columns.iter().copied().chain(script.devices.iter().map(|device| device.column)).collect(),
        releasing: Vec::new(),
        last_uses: last_uses(scene),
    };
    let world = World::here();
    for number in 0..script.tasks.len() as u32 {
        if script.chaos.iter().any(|chaos| matches!(chaos, Chaos::Restart { task } if *task == number)) {
            end(scene, runtime);
            match begin(scene) {
                Some(next) => runtime = next,
                None => return,
            }
        }
        let task = &script.tasks[number as usize];
        world.compute(world.now_ns() + task.pause_ns);
        let spawned_ns = world.now_ns();
        let spawned = program.spawn(&runtime, number, task);
        scene.spawned.borrow_mut().push(Some(spawned));
        if let Some(timeout_ns) = task.timeout_ns {
            scene.deadlines.borrow_mut().push((number, spawned_ns + timeout_ns));
        }
        program.release(number);
    }
    runtime.wait_idle();
    scene.deadlines.take();
    if script.fetches_late {
        // What only devices had is on the host then.
        end(scene, runtime);
        verdict::check(scene, &program.cells);
        program.forget();
    } else {
        verdict::check(scene, &program.cells);
        program.forget();
        look_at_memory(scene, &runtime.handle());
        end(scene, runtime);
    }
}

/// Begins a runtime, and what goes wrong with it.
fn begin(scene: &Rc<Scene>) -> Option<Runtime> {
    let script = &scene.script;
    let backend = SimBackend { workers: script.columns.len(), processes: script.processes, devices: script.devices.clone() };
    let builder = Runtime::builder().builtin(false).linked(backend).devices_always(script.devices_first).models(None);
    let builder = match &script.policy {
        Some(policy) => builder.policy(policy).setting("placement.seed", script.seed.to_string()),
        None => builder,
    };
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            scene.fail(Failure::Build(error));
            return None;
        }
    };
    scene.handle.replace(Some(runtime.handle()));
    let world = World::here();
    let now_ns = world.now_ns();
    for chaos in &script.chaos {
        if let Chaos::Cancel { at_ns } = *chaos
            && at_ns >= now_ns
        {
            let (scene, handle) = (Rc::clone(scene), runtime.handle());
            world.spawn(
                "canceller",
                Box::new(move || {
                    World::here().compute(at_ns);
                    scene.is_cancelled.set(true);
                    handle.cancel_all();
                }),
            );
        }
    }
    Some(runtime)
}

/// Ends a runtime: waits for its tasks and its threads. Nothing is left on its devices.
fn end(scene: &Scene, runtime: Runtime) {
    if scene.script.policy.is_some()
        && let Some(text) = runtime.report().messages.iter().find_map(|message| message.strip_prefix("warning: the policy `"))
    {
        scene.fail(Failure::Policy(format!("the policy `{text}")));
    }
    scene.handle.replace(None);
    drop(runtime);
    for (number, device) in machine::devices().into_iter().enumerate() {
        let used_bytes = device.used_bytes();
        if used_bytes > 0 {
            let what = format!("{used_bytes} bytes of device {number} are taken, and the runtime has ended");
            scene.fail(Failure::Memory { at_ns: World::here().now_ns(), what });
        }
    }
}

/// All tasks and cells are gone, and the runtime is there: nothing is left on its devices but what it looks for itself.
fn look_at_memory(scene: &Scene, handle: &Handle) {
    for (number, queue) in situation(handle).queues.into_iter().enumerate() {
        if queue.reserved_bytes > 0 || queue.under_way > 0 {
            let what = format!(
                "{} bytes of device {number} count as taken, and {} launches as under way, and there are neither tasks nor buffers",
                queue.reserved_bytes, queue.under_way
            );
            scene.fail(Failure::Memory { at_ns: World::here().now_ns(), what });
        }
    }
}

/// Of each task the last one that names it: itself, if none does.
fn last_uses(scene: &Scene) -> Vec<u32> {
    let mut last_uses: Vec<u32> = (0..scene.script.tasks.len() as u32).collect();
    for (number, needs) in (0..).zip(&scene.needs) {
        needs.all().for_each(|source| last_uses[source as usize] = number);
    }
    last_uses
}

impl Program<'_> {
    fn number(&self, task: u32) -> Task<u64> {
        match &self.scene.spawned.borrow()[task as usize] {
            Some(Spawned::Number(task)) => task.clone(),
            _ => unreachable!("it returns a number, and is not released before this"),
        }
    }

    fn buffer(&self, task: u32) -> Task<Buffer<u64>> {
        match &self.scene.spawned.borrow()[task as usize] {
            Some(Spawned::Buffer(task)) => task.clone(),
            _ => unreachable!("it returns a buffer, and is not released before this"),
        }
    }

    /// A task with all that is said of it.
    fn dress<'r, F, A>(&self, mut builder: TaskBuilder<'r, F, A>, number: u32, task: &ScriptTask) -> TaskBuilder<'r, F, A> {
        if self.scene.script.expects_costs {
            let row = if task.estimates.is_empty() { &task.costs } else { &task.estimates };
            let costs = Costs { row: row.clone(), columns: Arc::clone(&self.columns), rank_ns: task.rank_ns };
            builder = builder.options(&TaskOptions::new().expected(Arc::new(costs)));
        }
        match task.priority {
            0 => {}
            1.. => builder = builder.priority(Priority::High),
            _ => builder = builder.priority(Priority::Low),
        }
        if task.workers() != 1 {
            builder = builder.occupancy(task.workers());
        }
        if let Some(timeout_ns) = task.timeout_ns {
            builder = builder.timeout(Duration::from_nanos(timeout_ns));
        }
        if let Some(Where::Device(device)) = task.work.launched_at() {
            builder = builder.scope(Scope::processor(format!("sim-device-{device}")));
        }
        for source in &self.scene.needs[number as usize].after {
            let spawned = self.scene.spawned.borrow()[*source as usize].clone();
            builder = match &spawned {
                Some(Spawned::Number(task)) => builder.after(task),
                Some(Spawned::Buffer(task)) => builder.after(task),
                Some(Spawned::Nothing(task)) => builder.after(task),
                None => unreachable!("it is not released before this"),
            };
        }
        builder
    }

    fn spawn(&self, runtime: &Runtime, number: u32, task: &ScriptTask) -> Spawned {
        let needs = &self.scene.needs[number as usize];
        let numbers: Vec<Task<u64>> = needs.numbers.iter().map(|source| self.number(*source)).collect();
        let buffers: Vec<Task<Buffer<u64>>> = needs.buffers.iter().map(|source| self.buffer(*source)).collect();
        let has_host = usize::from(task.work.launched_at() == Some(Where::Anywhere));
        let launched = u64::from(number);
        match task.work {
            Work::Number if buffers.is_empty() => {
                let failures = self.scene.failures[number as usize];
                let builder = self.dress(runtime.task(compute, (numbers, number)), number, task);
                let fails = failures > 0 && failures < u32::MAX;
                Spawned::Number(if fails { builder.retries(failures + 1).spawn() } else { builder.spawn() })
            }
            Work::Number => {
                let body =
                    move |numbers: Gather<'_, u64>, buffers: Gather<'_, Buffer<u64>>| Scene::here().number(number, &numbers, &all(buffers));
                Spawned::Number(self.dress(runtime.task(body, (numbers, buffers)), number, task).spawn())
            }
            Work::Fill { .. } => {
                let body =
                    move |numbers: Gather<'_, u64>, buffers: Gather<'_, Buffer<u64>>| Scene::here().fill(number, &numbers, &all(buffers));
                Spawned::Buffer(self.dress(runtime.task(body, (numbers, buffers)), number, task).spawn())
            }
            Work::Look { cell } => {
                let body = move |numbers: Gather<'_, u64>, cell: &Buffer<u64>| Scene::here().number(number, &numbers, &[cell]);
                let arguments = (numbers, read(&self.cells[cell as usize]));
                Spawned::Number(self.dress(runtime.task(body, arguments), number, task).spawn())
            }
            Work::Kernel { words, .. } => {
                let words = words as usize;
                Spawned::Buffer(match &buffers[..] {
                    [] => self.dress(runtime.task(self.kernels.make[has_host].over(words), (launched,)), number, task).spawn(),
                    [x] => self.dress(runtime.task(self.kernels.map[has_host].over(words), (x, launched)), number, task).spawn(),
                    [x, y, ..] => self.dress(runtime.task(self.kernels.join[has_host].over(words), (x, y, launched)), number, task).spawn(),
                })
            }
            Work::Update { cell, .. } => {
                let words = self.scene.script.cells[cell as usize] as usize;
                let cell = write(&self.cells[cell as usize]);
                Spawned::Nothing(match &buffers[..] {
                    [] => self.dress(runtime.task(self.kernels.change[has_host].over(words), (cell, launched)), number, task).spawn(),
                    [x, ..] => {
                        self.dress(runtime.task(self.kernels.merge[has_host].over(words), (cell, x, launched)), number, task).spawn()
                    }
                })
            }
        }
    }

    /// Drops the handles of tasks that have finished and that no later task names.
    fn release(&mut self, number: u32) {
        let script = &self.scene.script;
        let named = self.scene.needs[number as usize].all().chain([number]);
        let is_last = |source: &u32| script.tasks[*source as usize].is_released && self.last_uses[*source as usize] == number;
        self.releasing.extend(named.filter(is_last));
        let scene = self.scene;
        self.releasing.retain(|task| {
            let is_finished = scene.spawned.borrow()[*task as usize].as_ref().is_some_and(Spawned::is_finished);
            if is_finished {
                scene.release(*task);
            }
            !is_finished
        });
    }

    /// Drops everything that the program has.
    fn forget(self) {
        let spawned = self.scene.spawned.take();
        drop(spawned);
        drop(self.cells);
    }
}
