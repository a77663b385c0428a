//! The processes backend: settings in, inline processors out; and in a fork server, the other way round.

use std::sync::Arc;

use poniard_interface::{Backend, BackendInfo, HostServices, Image, OpenError, Opened, Settings};

use crate::settings::ProcessSettings;

/// Opens one inline processor for each worker process that the settings allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessBackend;

impl ProcessBackend {
    /// The backend. Starts nothing yet.
    pub fn new() -> Self {
        Self
    }
}

impl Backend for ProcessBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "process".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn settings(&self) -> Vec<String> {
        ProcessSettings::NAMES.map(Into::into).into()
    }

    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let settings = ProcessSettings::read(settings)?;
        if settings.most == 0 {
            return Ok(Opened::default());
        }
        open_processors(settings, host)
    }

    fn serve(&self, argument: &str, image: Arc<dyn Image>) -> Result<i32, OpenError> {
        serve(argument, image)
    }
}

#[cfg(target_os = "linux")]
fn open_processors(settings: ProcessSettings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
    use poniard_interface::Processor;

    use crate::pool::Pool;
    use crate::processor::ProcessProcessor;

    let pool = Arc::new(Pool::new(settings, Arc::clone(&host)));
    let processors = (0..settings.most)
        .map(|index| Box::new(ProcessProcessor::new(index, Arc::clone(&pool), Arc::clone(&host))) as Box<dyn Processor>)
        .collect();
    Ok(Opened { processors, spaces: Vec::new() })
}

#[cfg(not(target_os = "linux"))]
fn open_processors(settings: ProcessSettings, _: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
    Err(OpenError::new(format!("setting `processes` is `{}`: worker processes need Linux", settings.processes)))
}

#[cfg(target_os = "linux")]
fn serve(argument: &str, image: Arc<dyn Image>) -> Result<i32, OpenError> {
    crate::serve::serve(argument, &*image)
}

#[cfg(not(target_os = "linux"))]
fn serve(_: &str, _: Arc<dyn Image>) -> Result<i32, OpenError> {
    Err(OpenError::new("worker processes need Linux"))
}

#[cfg(test)]
mod tests {
    use poniard_interface::{Completion, Execution, LogLevel, ProcessorKind, RunError, SpaceId, TaskId, WorkerId};

    use super::*;

    struct Host;

    impl HostServices for Host {
        fn worker_main(&self, _: WorkerId) {}
        fn run(&self, _: TaskId) -> Result<(), RunError> {
            Err(RunError::new("no tasks here"))
        }
        fn complete(&self, _: &[Completion]) {}
        fn log(&self, _: LogLevel, _: &str) {}
    }

    fn open(processes: Option<&str>) -> Result<Opened, OpenError> {
        let mut settings = Settings::new();
        if let Some(processes) = processes {
            settings.set("processes", processes);
        }
        ProcessBackend::new().open(&settings, Arc::new(Host))
    }

    #[test]
    fn there_are_no_processors_unless_asked_for() {
        assert!(open(None).unwrap().processors.is_empty());
        assert!(open(Some("0")).unwrap().processors.is_empty());
    }

    #[test]
    fn processors_are_inline_in_host_memory() {
        let opened = open(Some("3")).unwrap();
        let infos: Vec<_> = opened.processors.iter().map(|processor| processor.info()).collect();
        assert_eq!(infos.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["processes-0", "processes-1", "processes-2"]);
        for info in infos {
            assert_eq!((info.kind, info.execution, info.space), (ProcessorKind::cpu(), Execution::Remote, SpaceId::HOST));
        }
        for processor in &opened.processors {
            processor.stop().unwrap();
            assert!(processor.start(WorkerId(0)).unwrap_err().reason.contains("stopped"));
        }
    }

    #[test]
    fn bad_settings_and_arguments_are_refused() {
        let error = open(Some("many")).unwrap_err();
        assert!(error.reason.starts_with("setting `processes` is `many`"), "{error}");
    }
}
