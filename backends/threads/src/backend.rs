//! The threads backend: settings and the machine's processors in, inline processors out.

use std::sync::Arc;

use poniard_interface::{Backend, BackendInfo, HostServices, OpenError, Opened, Processor, Settings};

use crate::processor::{ThreadOptions, ThreadProcessor};
use crate::settings::ThreadSettings;
use crate::topology::Topology;

/// Opens one inline processor for each thread that the settings ask for.
///
/// The processors are in order of their NUMA nodes, so that neighbours in the list are neighbours in the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadsBackend;

impl ThreadsBackend {
    /// The backend. Looks at nothing yet.
    pub fn new() -> Self {
        Self
    }
}

impl Backend for ThreadsBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "threads".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn settings(&self) -> Vec<String> {
        ThreadSettings::NAMES.map(Into::into).into()
    }

    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let settings = ThreadSettings::read(settings)?;
        // A thread that is not pinned is near no node: the kernel moves it.
        let topology = if settings.pin { Topology::of_this_machine(&*host) } else { Topology::unknown() };
        let processors = (0..settings.threads)
            .map(|index| {
                let place = topology.place(index);
                let options = ThreadOptions {
                    index,
                    name: format!("{}-{index}", settings.name),
                    stack_bytes: settings.stack_bytes,
                    cpu: place.map(|place| place.cpu),
                    numa_node: place.and_then(|place| place.numa_node),
                };
                Box::new(ThreadProcessor::new(options, Arc::clone(&host))) as Box<dyn Processor>
            })
            .collect();
        Ok(Opened { processors, spaces: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use poniard_interface::{Completion, Execution, LogLevel, ProcessorKind, RunError, SpaceId, TaskId, WorkerId};
    use rustix::thread::sched_getaffinity;

    use super::*;

    /// Notes which threads came and where they may run.
    #[derive(Default)]
    struct Notes {
        workers: Mutex<Vec<(u32, String, u32)>>,
        messages: Mutex<Vec<String>>,
    }

    impl HostServices for Notes {
        fn worker_main(&self, worker: WorkerId) {
            let name = std::thread::current().name().unwrap().to_owned();
            self.workers.lock().unwrap().push((worker.0, name, sched_getaffinity(None).unwrap().count()));
        }
        fn run(&self, _: TaskId) -> Result<(), RunError> {
            Err(RunError::new("no tasks here"))
        }
        fn complete(&self, _: &[Completion]) {}
        fn log(&self, _: LogLevel, message: &str) {
            self.messages.lock().unwrap().push(message.to_owned());
        }
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new();
        for (name, value) in pairs {
            settings.set(*name, *value);
        }
        settings
    }

    fn open(pairs: &[(&str, &str)]) -> (Arc<Notes>, Vec<Box<dyn Processor>>) {
        let notes = Arc::new(Notes::default());
        let opened = ThreadsBackend::new().open(&settings(pairs), Arc::clone(&notes) as Arc<dyn HostServices>).unwrap();
        assert!(opened.spaces.is_empty());
        (notes, opened.processors)
    }

    #[test]
    fn processors_are_inline_cpu_threads_of_host_memory() {
        let (_, processors) = open(&[("threads", "3")]);
        let infos: Vec<_> = processors.iter().map(|processor| processor.info()).collect();
        assert_eq!(infos.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["threads-0", "threads-1", "threads-2"]);
        for info in infos {
            assert_eq!((info.kind, info.execution, info.space), (ProcessorKind::cpu(), Execution::Inline, SpaceId::HOST));
            assert_eq!(info.numa_node, None, "a thread that is not pinned is near no node");
        }
    }

    #[test]
    fn threads_are_named_and_further_starts_are_numbered() {
        let (notes, processors) = open(&[("threads", "2"), ("threads.name", "crew")]);
        processors[0].start(WorkerId(7)).unwrap();
        processors[1].start(WorkerId(8)).unwrap();
        processors[1].start(WorkerId(8)).unwrap();
        processors[1].start(WorkerId(8)).unwrap();
        for processor in &processors {
            processor.stop().unwrap();
        }
        let mut workers: Vec<_> = notes.workers.lock().unwrap().iter().map(|(worker, name, _)| (*worker, name.clone())).collect();
        workers.sort();
        let expected = [(7, "crew-0"), (8, "crew-1"), (8, "crew-1+1"), (8, "crew-1+2")].map(|(worker, name)| (worker, name.to_owned()));
        assert_eq!(workers, expected);
        assert!(processors[0].start(WorkerId(7)).unwrap_err().reason.contains("stopped"));
        assert!(processors[0].submit(&[]).is_err(), "an inline processor takes no batches");
    }

    #[test]
    fn pinned_threads_stay_on_one_processor_even_when_there_are_more_threads() {
        let allowed = sched_getaffinity(None).unwrap().count() as usize;
        let count = (allowed + 1).to_string();
        let (notes, processors) = open(&[("threads", &count), ("threads.pin", "true")]);
        for (index, processor) in processors.iter().enumerate() {
            processor.start(WorkerId(index as u32)).unwrap();
        }
        for processor in &processors {
            processor.stop().unwrap();
        }
        let workers = notes.workers.lock().unwrap();
        assert_eq!(workers.len(), allowed + 1);
        // A sandbox may forbid pinning: then there is a warning for it, and the threads work all the same.
        let warnings = notes.messages.lock().unwrap();
        assert!(workers.iter().all(|(_, _, cpus)| *cpus == 1) || !warnings.is_empty());
    }

    #[test]
    fn bad_settings_are_refused() {
        let host: Arc<dyn HostServices> = Arc::new(Notes::default());
        let error = ThreadsBackend::new().open(&settings(&[("threads", "0")]), host).unwrap_err();
        assert!(error.reason.contains("`threads` is `0`: at least 1"), "{error}");
    }
}
