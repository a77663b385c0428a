//! The protocols of the rings, of sleep and of tickets, in every order of steps that loom finds worth trying (`docs/VERIFYING.md`, "Interleavings").
//!
//! The threads of a test play the host, the worker process, and the monitor; between the first two is what lies between processes otherwise, with rings of two
//! words and two tickets. Loom finds words that are reached by both sides at once, and sides that wait for ever, as no sleep has a limit unless a test says so.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loom::thread::spawn;
use poniard_interface::{Caller, CallerLink, Completion, HostServices, Image, LogLevel, RunError, Settings, TaskId, Wanted, WorkerId};

use crate::labour::labour;
use crate::line::Line;
use crate::monitor::Monitor;
use crate::output::Output;
use crate::pool::Pool;
use crate::process::Process;
use crate::ring::{End, Frame, FrameKind, RingError, Side, Watch};
use crate::settings::ProcessSettings;
use crate::shared_memory::SharedMemory;
use crate::worker::Worker;

/// Runs `body` once for each way in which its threads can meet, of those with at most so many interruptions of a thread that could go on.
fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.check(body);
}

fn line() -> Arc<Line> {
    Arc::new(Line::new(SharedMemory::default()))
}

fn ends(line: &Arc<Line>) -> (End, End) {
    (End::new(Arc::clone(line), Side::Host, false), End::new(Arc::clone(line), Side::Worker, false))
}

/// Waits until there is what it waits for, or the other side is gone.
struct Patience<'a>(&'a Line, Side);

impl Watch for Patience<'_> {
    type Reason = ();

    fn slice(&self) -> Duration {
        Duration::MAX
    }

    fn tick(&mut self) -> Result<(), ()> {
        Ok(())
    }

    fn gone(&mut self, _: bool) -> Result<(), ()> {
        let gone = match self.1 {
            Side::Host => self.0.is_dead(),
            Side::Worker => self.0.is_closed(),
        };
        if gone { Err(()) } else { Ok(()) }
    }
}

/// Has a worker process send frames with these bytes, of which the host gets each.
fn sends(preemptions: usize, frames: &'static [&'static [u8]]) {
    model(preemptions, move || {
        let line = line();
        let (mut host, mut worker) = ends(&line);
        let sender = spawn({
            let line = Arc::clone(&line);
            move || {
                for bytes in frames {
                    worker.write(FrameKind::Reply, bytes, &mut Patience(&line, Side::Worker)).unwrap();
                }
            }
        });
        for bytes in frames {
            let frame = host.read(&mut Patience(&line, Side::Host));
            assert_eq!(frame, Ok(Frame { kind: FrameKind::Reply, bytes: bytes.to_vec() }));
        }
        assert!(!host.has_unread());
        sender.join().unwrap();
    });
}

#[test]
fn frames_arrive_whole_and_in_order() {
    // A word is read before it is written, or written again before it is read; a side that waits for data, or for room, is not woken.
    sends(2, &[&[1], &[], &[2, 3]]);
}

#[test]
fn a_frame_that_is_longer_than_the_ring_goes_through() {
    // As above, between the pieces of one frame.
    sends(3, &[&[4; 25]]);
}

#[test]
fn what_was_written_before_a_death_counts() {
    // The host sees that the process is dead, and not what it had written; or it sleeps for ever.
    model(4, || {
        let line = line();
        let (mut host, mut worker) = ends(&line);
        let process = spawn({
            let line = Arc::clone(&line);
            move || {
                worker.write_quietly(FrameKind::Reply, &[], &mut Patience(&line, Side::Worker)).unwrap();
                // As the monitor, which the kernel tells of the death.
                line.set_dead();
            }
        });
        assert!(host.read(&mut Patience(&line, Side::Host)).is_ok());
        assert_eq!(host.read(&mut Patience(&line, Side::Host)), Err(RingError::GaveUp(())));
        process.join().unwrap();
    });
}

#[test]
fn a_death_is_not_missed() {
    // A host that waits, for room or for data, is not told, or by the process's last frame only.
    for waits_for_room in [false, true] {
        model(2, move || {
            let line = line();
            let (mut host, mut worker) = ends(&line);
            let monitor = spawn({
                let line = Arc::clone(&line);
                move || line.set_dead()
            });
            let process = spawn({
                let line = Arc::clone(&line);
                move || match waits_for_room {
                    true => drop(worker.read(&mut Patience(&line, Side::Worker))),
                    false => worker.write(FrameKind::Reply, &[], &mut Patience(&line, Side::Worker)).unwrap(),
                }
            });
            let mut watch = Patience(&line, Side::Host);
            if waits_for_room {
                while host.write(FrameKind::Call, &[1], &mut watch).is_ok() {}
            } else {
                while host.read(&mut watch).is_ok() {}
            }
            monitor.join().unwrap();
            process.join().unwrap();
        });
    }
}

#[test]
fn a_close_is_not_missed() {
    // A worker process that waits, for room or for data, is not told.
    for waits_for_room in [false, true] {
        model(4, move || {
            let line = line();
            let (mut host, mut worker) = ends(&line);
            let process = spawn({
                let line = Arc::clone(&line);
                move || {
                    let mut watch = Patience(&line, Side::Worker);
                    if waits_for_room {
                        while worker.write(FrameKind::Reply, &[1], &mut watch).is_ok() {}
                    } else {
                        while worker.read(&mut watch).is_ok() {}
                    }
                }
            });
            let mut watch = Patience(&line, Side::Host);
            match waits_for_room {
                true => drop(host.read(&mut watch)),
                false => host.write(FrameKind::Call, &[], &mut watch).unwrap(),
            }
            line.close();
            process.join().unwrap();
        });
    }
}

#[test]
fn data_does_not_ring_for_room() {
    // The host, which has read the request, wakes whoever waits for the answer.
    model(4, || {
        let line = line();
        let (mut host, mut worker) = ends(&line);
        let process = spawn({
            let line = Arc::clone(&line);
            move || {
                let mut watch = Patience(&line, Side::Worker);
                worker.write(FrameKind::Request, &[1], &mut watch).unwrap();
                worker.read(&mut watch).unwrap();
            }
        });
        let mut watch = Patience(&line, Side::Host);
        host.read(&mut watch).unwrap();
        assert_eq!(line.memory.worker_bell.wakes(), 0);
        host.write(FrameKind::Answer, &[], &mut watch).unwrap();
        process.join().unwrap();
    });
}

/// A runtime that is never asked for anything.
struct NoHost;

impl HostServices for NoHost {
    fn worker_main(&self, _: WorkerId) {}
    fn run(&self, _: TaskId) -> Result<(), RunError> {
        Err(RunError::new("no tasks here"))
    }
    fn complete(&self, _: &[Completion]) {}
    fn log(&self, _: LogLevel, _: &str) {}
}

/// What the host holds for the worker process, which is a thread here: a process that does nothing, the same for all runs of a test.
struct Idle(Child);

impl Idle {
    fn start() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Executes calls: notes them, asks the host in those that begin with `q`, and replies with what it got and something more.
struct Program {
    executed: Mutex<Vec<Vec<u8>>>,
    more: &'static [u8],
}

impl Program {
    fn executed(&self) -> Vec<Vec<u8>> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Image for Program {
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).push(call.to_vec());
        if call.first() == Some(&b'q') {
            assert_eq!(link.ask(&[]), Some(b"!".to_vec()));
        }
        [call, self.more].concat()
    }
}

/// Has calls to make, in their order; one that comes back is made again.
#[derive(Default)]
struct Tasks {
    waiting: VecDeque<Vec<u8>>,
    /// Oldest first.
    sent: Vec<Vec<u8>>,
}

impl Caller for Tasks {
    fn answer(&mut self, _: &[u8]) -> Vec<u8> {
        b"!".to_vec()
    }

    fn wanted(&mut self) -> Wanted {
        Wanted::Yes
    }

    fn begins(&mut self, _: u32) {}

    fn ahead(&mut self) -> Option<Vec<u8>> {
        let call = self.waiting.pop_front()?;
        self.sent.push(call.clone());
        Some(call)
    }

    fn came_back(&mut self, count: usize) {
        let back = self.sent.split_off(self.sent.len() - count);
        back.into_iter().rev().for_each(|call| self.waiting.push_front(call));
    }
}

/// Has a worker process execute these calls, with both sides' whole code but for the start and the end of the process. The first `hurried` times that the host
/// sleeps, it loses patience at once.
fn executes(preemptions: usize, hurried: usize, more: &'static [u8], calls: &'static [&'static [u8]]) {
    let idle = Idle::start();
    let number = idle.0.id();
    // What has nothing to do with the rings, once for all.
    let output = Arc::new(Output::create(String::new()).unwrap().0);
    let monitor = Arc::new(Monitor::start().unwrap());
    model(preemptions, move || {
        let line = line();
        line.memory.host_bell.hurry(hurried);
        let program = Arc::new(Program { executed: Mutex::default(), more });
        let process = spawn({
            let (line, program) = (Arc::clone(&line), Arc::clone(&program));
            move || labour(line, &*program, false)
        });
        let pool = Arc::new(Pool::new(ProcessSettings::read(&Settings::new()).unwrap(), Arc::new(NoHost)));
        // Where loom has found something nothing is to touch its objects any more, as the end of a `Worker` does.
        let (process_found, output) = (Process::find(number).unwrap(), Arc::clone(&output));
        let worker = Worker::new(process_found, Arc::clone(&line), output, false, (Arc::clone(&monitor), 0), pool);
        let mut worker = ManuallyDrop::new(worker);
        let mut tasks = Tasks { waiting: calls.iter().map(|call| call.to_vec()).collect(), sent: Vec::new() };
        for expected in calls {
            let reply = match worker.next(&mut tasks).unwrap() {
                Some(reply) => {
                    tasks.sent.remove(0);
                    reply
                }
                None => {
                    let call = tasks.waiting.pop_front().unwrap();
                    worker.call(&call, &mut tasks).unwrap()
                }
            };
            assert_eq!(reply, [*expected, more].concat());
        }
        worker.settle(&mut tasks).unwrap();
        line.close();
        assert_eq!(process.join().unwrap(), 0);
        assert_eq!(program.executed(), calls);
        line.set_dead();
        ManuallyDrop::into_inner(worker).end(Duration::ZERO);
    });
    drop(idle);
}

#[test]
fn wake_ups_that_are_put_off_come() {
    // Both sides sleep: the host has not rung for a call, or the worker process not for a reply. Each reply fills the ring, so it waits for room, too.
    executes(2, 0, b".", &[b"", b"", b"2"]);
}

#[test]
fn a_call_in_front_of_an_answer_is_put_aside() {
    // As above, with calls that come while an answer is waited for.
    executes(2, 0, b"", &[b"q", b"", b"2"]);
}

#[test]
fn a_call_begins_or_comes_back() {
    // A call is executed twice or never, or in another's place, or has two frames or none; a ticket is used again before its call has begun.
    executes(2, 2, b"", &[b"", b"", b"", b"3"]);
}
