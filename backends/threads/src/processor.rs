//! A thread that the runtime borrows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use poniard_interface::{
    Execution, HostServices, LogLevel, Processor, ProcessorInfo, ProcessorKind, SpaceId, StartError, StopError, WorkerId,
};
use rustix::thread::{CpuSet, sched_setaffinity};

/// How a processor's threads are made.
#[derive(Clone, Debug)]
pub(crate) struct ThreadOptions {
    /// Its place among the backend's processors.
    pub(crate) index: usize,
    /// The name of its first thread.
    pub(crate) name: String,
    /// The stack of each thread, in bytes.
    pub(crate) stack_bytes: usize,
    /// The processor of the machine that its threads stay on; `None` lets the kernel move them.
    pub(crate) cpu: Option<usize>,
    /// The NUMA node of `cpu`, where the machine has several.
    pub(crate) numa_node: Option<u32>,
}

/// An inline processor: each start is a thread that calls the runtime's worker loop once.
pub(crate) struct ThreadProcessor {
    options: ThreadOptions,
    host: Arc<dyn HostServices>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    started: usize,
    stopped: bool,
}

impl std::fmt::Debug for ThreadProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadProcessor").field("options", &self.options).field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl ThreadProcessor {
    /// A processor without a thread yet.
    pub(crate) fn new(options: ThreadOptions, host: Arc<dyn HostServices>) -> Self {
        Self { options, host, threads: Mutex::new(Threads::default()) }
    }

    /// No step under this lock leaves the list half changed, so a panic elsewhere does not make it useless.
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Processor for ThreadProcessor {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: format!("threads-{}", self.options.index),
            kind: ProcessorKind::cpu(),
            execution: Execution::Inline,
            space: SpaceId::HOST,
            numa_node: self.options.numa_node,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let mut threads = self.threads();
        if threads.stopped {
            return Err(StartError::new("the processor was stopped"));
        }
        // Helpers of a worker that waited come and go: those that are gone would keep their stacks until they are joined.
        let (gone, running) = std::mem::take(&mut threads.running).into_iter().partition(JoinHandle::is_finished);
        threads.running = running;
        let gone: Vec<JoinHandle<()>> = gone;
        for thread in gone {
            if thread.join().is_err() {
                self.host.log(LogLevel::Warning, &format!("a thread of `{}` panicked", self.options.name));
            }
        }
        let name = match threads.started {
            0 => self.options.name.clone(),
            further => format!("{}+{further}", self.options.name),
        };
        let host = Arc::clone(&self.host);
        let cpu = self.options.cpu;
        let body = move || {
            if let Some(cpu) = cpu {
                pin(cpu, &*host);
            }
            host.worker_main(worker);
        };
        let thread = thread::Builder::new().name(name.clone()).stack_size(self.options.stack_bytes).spawn(body).map_err(|error| {
            StartError::new(format!("cannot start the thread `{name}` with a stack of {} bytes: {error}", self.options.stack_bytes))
        })?;
        threads.running.push(thread);
        threads.started += 1;
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let running = {
            let mut threads = self.threads();
            threads.stopped = true;
            std::mem::take(&mut threads.running)
        };
        // Joined outside the lock, so that a thread that asks for another one while it ends gets an answer.
        let mut panicked = 0;
        for thread in running {
            // A runtime dropped by one of its own tasks stops us from one of our threads: that one ends by itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                panicked += 1;
            }
        }
        match panicked {
            0 => Ok(()),
            count => Err(StopError::new(format!("{count} of the threads of `{}` panicked", self.options.name))),
        }
    }
}

/// Keeps the calling thread on `cpu`. A thread that cannot be pinned works all the same.
fn pin(cpu: usize, host: &dyn HostServices) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        host.log(LogLevel::Warning, &format!("cannot pin the thread `{name}` to processor {cpu}: {error}; it runs unpinned"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use poniard_interface::{Completion, RunError, TaskId};

    use super::*;

    /// A host whose worker loop is what the test wants.
    struct Host<F>(F, Mutex<Sender<String>>);

    impl<F: Fn() + Send + Sync> HostServices for Host<F> {
        fn worker_main(&self, _: WorkerId) {
            (self.0)();
        }
        fn run(&self, _: TaskId) -> Result<(), RunError> {
            Err(RunError::new("no tasks here"))
        }
        fn complete(&self, _: &[Completion]) {}
        fn log(&self, _: LogLevel, message: &str) {
            self.1.lock().unwrap().send(message.to_owned()).unwrap();
        }
    }

    fn processor(cpu: Option<usize>, worker: impl Fn() + Send + Sync + 'static) -> (Arc<ThreadProcessor>, Receiver<String>) {
        let (sender, messages) = channel();
        let options = ThreadOptions { index: 0, name: "test-0".into(), stack_bytes: 256 << 10, cpu, numa_node: None };
        (Arc::new(ThreadProcessor::new(options, Arc::new(Host(worker, Mutex::new(sender))))), messages)
    }

    #[test]
    fn threads_that_ended_are_joined_when_another_one_starts() {
        let (processor, _messages) = processor(None, || ());
        for _ in 0..20 {
            processor.start(WorkerId(0)).unwrap();
            while processor.threads().running.iter().any(|thread| !thread.is_finished()) {
                thread::yield_now();
            }
        }
        assert_eq!(processor.threads().running.len(), 1);
        processor.stop().unwrap();
        assert_eq!(processor.threads().running.len(), 0);
    }

    #[test]
    fn a_thread_of_the_processor_may_stop_it() {
        let (to_worker, from_test) = channel::<Arc<ThreadProcessor>>();
        let (to_test, from_worker) = channel();
        let from_test = Mutex::new(from_test);
        let (processor, _messages) = processor(None, move || {
            let processor = from_test.lock().unwrap().recv().unwrap();
            to_test.send(processor.stop()).unwrap();
        });
        processor.start(WorkerId(0)).unwrap();
        to_worker.send(Arc::clone(&processor)).unwrap();
        let stopped = from_worker.recv_timeout(std::time::Duration::from_secs(20)).expect("a thread that joins itself waits for ever");
        assert_eq!(stopped, Ok(()));
    }

    #[test]
    fn a_panic_on_a_thread_is_an_error_of_stop() {
        let (processor, _messages) = processor(None, || panic!("a worker that breaks its word"));
        processor.start(WorkerId(0)).unwrap();
        let error = processor.stop().unwrap_err();
        assert!(error.reason.contains("1 of the threads of `test-0` panicked"), "{error}");
    }

    #[test]
    fn a_thread_that_cannot_be_pinned_works_and_says_so() {
        // The last processor that the set can name: no machine that the tests run on has it.
        let cpu = CpuSet::MAX_CPU - 1;
        let (to_test, from_worker) = channel();
        let (processor, messages) = processor(Some(cpu), move || to_test.send("worked").unwrap());
        processor.start(WorkerId(0)).unwrap();
        processor.stop().unwrap();
        assert_eq!(from_worker.try_recv(), Ok("worked"));
        let message = messages.try_recv().unwrap();
        assert!(message.contains("cannot pin the thread `test-0`") && message.contains(&cpu.to_string()), "{message}");
    }
}
