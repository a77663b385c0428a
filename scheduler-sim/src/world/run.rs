//! A script played by the runtime itself in a world.

use std::rc::Rc;

use poniard::platform::Platform as _;

use super::World;
use super::failure::Failure;
use super::program::play;
use super::scene::Scene;
use super::script::{Chaos, Script};
use super::verdict::check_order;
use crate::schedule::Schedule;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Where and when each task ran, the last time. One that did not has nobody as its processor. Devices have the numbers behind those of the workers.
    pub schedule: Schedule,
    /// Tasks without a result, as something went wrong.
    pub failed: Vec<u32>,
    /// When all was over, in nanoseconds.
    pub end_ns: u64,
    /// How many events there were.
    pub events: u64,
    /// How often the body of a task was begun.
    pub attempts: u64,
    /// How often a device has done a launch.
    pub launches: u64,
    /// How often a result was computed again that had been lost with a device.
    pub repeats: u64,
}

/// Has the runtime play a script in a world of its own.
///
/// # Errors
/// [`Failure`]: the runtime does not do what it promises, or cannot be built.
pub fn run(script: Script) -> Result<Ran, Failure> {
    let world = World::new(script.seed, script.draws);
    run_in(script, &world)
}

/// The same in a world at hand, in which nobody has been.
pub(super) fn run_in(script: Script, world: &Rc<World>) -> Result<Ran, Failure> {
    for chaos in &script.chaos {
        match *chaos {
            Chaos::LateWakes { by_ns, of_256 } => world.delay_wakes(by_ns, of_256),
            Chaos::ClockJump { at_ns, by_ns } => world.jump(at_ns, by_ns),
            _ => {}
        }
    }
    let (scene, _clear) = Scene::enter(script);
    let played = world.run(
        {
            let scene = Rc::clone(&scene);
            move || play(&scene)
        },
        |at_ns| scene.watch(at_ns),
    );
    // What is wrong in the first place may be why nobody gets on.
    if let Some(failure) = scene.failure.take() {
        return Err(failure);
    }
    played?;
    let schedule = scene.schedule.take();
    let failed = scene.failed.take();
    check_order(&scene, &schedule, &failed).map_err(Failure::Schedule)?;
    let attempts = scene.courses.borrow().iter().map(|course| u64::from(course.attempts)).sum();
    let (launches, repeats) = (scene.launches.get(), scene.repeats.get());
    Ok(Ran { failed, end_ns: world.now_ns(), events: world.event_count(), schedule, attempts, launches, repeats })
}
