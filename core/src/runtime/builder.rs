//! Opens backends and starts a runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use poniard_interface::{Backend, BackendInfo, Execution, MemorySpace, Settings, WorkerId};

use super::host::{HostLink, Log};
use super::report::Refused;
use super::{Handle, Runtime};
use crate::plugin::{self, PluginSearch};
use crate::worker::shared::{ProcessorRecord, Shared};
use crate::worker::slot::Slot;

/// Chooses backends, number of threads and settings of a [`Runtime`].
///
/// Without a choice it uses the backends that are linked into the program, and no plugin file.
#[derive(Clone, Default)]
#[must_use = "nothing is started before `build` is called"]
pub struct RuntimeBuilder {
    search: Option<PluginSearch>,
    linked: Vec<Arc<dyn Backend>>,
    without_builtin: bool,
    only: Vec<String>,
    settings: Settings,
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("search", &self.search)
            .field("linked", &self.linked.iter().map(|backend| backend.info()).collect::<Vec<_>>())
            .field("without_builtin", &self.without_builtin)
            .field("only", &self.only)
            .field("settings", &self.settings)
            .finish()
    }
}

/// A backend in use.
pub(crate) struct BackendRecord {
    pub(crate) info: BackendInfo,
    pub(crate) file: Option<PathBuf>,
    pub(crate) rustc: String,
    pub(crate) spaces: Vec<Box<dyn MemorySpace>>,
}

/// The backends in use, and what was found besides.
pub(crate) struct Backends {
    pub(crate) records: Vec<BackendRecord>,
    pub(crate) found: FoundBesides,
}

impl Deref for Backends {
    type Target = [BackendRecord];

    fn deref(&self) -> &[BackendRecord] {
        &self.records
    }
}

/// What building a runtime learned and did not use.
#[derive(Default)]
pub(crate) struct FoundBesides {
    pub(crate) refused: Vec<Refused>,
    pub(crate) searched: Vec<(PathBuf, &'static str)>,
    pub(crate) log: Arc<Log>,
}

/// A runtime could not be built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildError {
    kind: BuildErrorKind,
    text: String,
}

/// Why a runtime could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// A backend refuses a setting, for instance zero threads, or the machine refuses the backend.
    Setting,
    /// There is no processor: no backend was found, or all were refused.
    NoProcessor,
    /// A backend that was asked for by name was not found.
    UnknownBackend,
    /// No thread of a worker could be started.
    Start,
}

impl BuildError {
    fn new(kind: BuildErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Why.
    pub fn kind(&self) -> BuildErrorKind {
        self.kind
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BuildError {}

/// A backend that was found, not opened yet.
struct Candidate {
    backend: Arc<dyn Backend>,
    info: BackendInfo,
    file: Option<PathBuf>,
    rustc: String,
}

impl RuntimeBuilder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Loads plugin files as `search` says. A plugin replaces a built-in backend of the same name.
    pub fn plugins(mut self, search: PluginSearch) -> Self {
        self.search = Some(search);
        self
    }

    /// Uses a backend of another crate that is linked into the program. It replaces a built-in one of the same name.
    pub fn linked(mut self, backend: impl Backend + 'static) -> Self {
        self.linked.push(Arc::new(backend));
        self
    }

    /// Whether the backends that come with this library are used; they are, unless this says no.
    pub fn builtin(mut self, used: bool) -> Self {
        self.without_builtin = !used;
        self
    }

    /// Uses only the backends that are named, by one call for each.
    pub fn backend(mut self, name: impl Into<String>) -> Self {
        self.only.push(name.into());
        self
    }

    /// Number of threads of the threads backend. The same as the setting `threads`.
    pub fn threads(self, count: usize) -> Self {
        self.setting("threads", count.to_string())
    }

    /// A setting for the backends; each reads those that it documents.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.set(name, value);
        self
    }

    /// Finds and opens the backends, and starts the workers.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing, where it was looked for and what was refused.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let mut found = FoundBesides::default();
        let candidates = self.candidates(&mut found);
        let candidates = self.chosen(candidates, &found)?;
        let link = Arc::new(OnceLock::new());
        let mut records = Vec::new();
        let mut processors = Vec::new();
        for candidate in candidates {
            let Candidate { backend, info, file, rustc } = candidate;
            let host = Arc::new(HostLink::new(info.name.clone(), Arc::clone(&found.log), Arc::clone(&link)));
            match backend.open(&self.settings, host) {
                Ok(opened) => {
                    let place = records.len();
                    processors.extend(opened.processors.into_iter().map(|processor| ProcessorRecord {
                        info: processor.info(),
                        processor,
                        backend: place,
                    }));
                    records.push(BackendRecord { info, file, rustc, spaces: opened.spaces });
                }
                Err(error) => match file {
                    // A plugin that does not open is no reason to do without the others, unless it was asked for or the user's setting is at fault.
                    Some(file) if !self.only.contains(&info.name) && !error.reason.starts_with("setting ") => {
                        found.refused.push(Refused {
                            reason: format!("{}: the backend `{}` is not used: {error}", file.display(), info.name),
                            file,
                        });
                    }
                    _ => {
                        return Err(BuildError::new(
                            BuildErrorKind::Setting,
                            format!("the backend `{}` was not opened: {}", info.name, error.reason),
                        ));
                    }
                },
            }
        }
        if processors.is_empty() {
            return Err(no_processor(&found, &records));
        }
        // Inline processors first: their places are those of their slots. The sort is stable, so the order of each backend stays.
        processors.sort_by_key(|record| !matches!(record.info.execution, Execution::Inline));
        let slot_count = processors.iter().take_while(|record| matches!(record.info.execution, Execution::Inline)).count();
        let slots = (0..slot_count).map(|slot| Slot::new(slot, victims(&processors[..slot_count], slot))).collect();
        crate::worker::prepare();
        let shared = Arc::new(Shared::new(processors, Backends { records, found }, slots));
        // Nobody else has the cell.
        let _ = link.set(Arc::downgrade(&shared));
        for worker in 0..slot_count {
            let record = &shared.processors[worker];
            if let Err(error) = record.processor.start(WorkerId(worker as u32)) {
                let text = format!("worker {} could not be started: {}", record.info.name, error.reason);
                shared.shut_down();
                return Err(BuildError::new(BuildErrorKind::Start, text));
            }
        }
        Ok(Runtime { handle: Handle { shared } })
    }

    /// All backends that there are: built-in ones, replaced and followed by plugins.
    fn candidates(&self, found: &mut FoundBesides) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if !self.without_builtin {
            candidates.extend(builtin());
        }
        for backend in &self.linked {
            let info = backend.info();
            candidates.retain(|known: &Candidate| known.info.name != info.name);
            candidates.push(Candidate { backend: Arc::clone(backend), info, file: None, rustc: poniard_interface::header::RUSTC.into() });
        }
        if let Some(search) = &self.search {
            let plugins = plugin::load(search);
            found.searched = plugins.searched.into_iter().map(|place| (place.path, place.reason)).collect();
            found.refused =
                plugins.refused.into_iter().map(|refused| Refused { reason: refused.error.to_string(), file: refused.file }).collect();
            for loaded in plugins.loaded {
                candidates.retain(|known: &Candidate| known.info.name != loaded.info.name);
                candidates.push(Candidate {
                    backend: loaded.backend.into(),
                    info: loaded.info,
                    file: Some(loaded.file),
                    rustc: loaded.rustc,
                });
            }
        }
        candidates
    }

    /// Those among them that were asked for.
    fn chosen(&self, candidates: Vec<Candidate>, found: &FoundBesides) -> Result<Vec<Candidate>, BuildError> {
        if self.only.is_empty() {
            return Ok(candidates);
        }
        let names: Vec<_> = candidates.iter().map(|candidate| candidate.info.name.clone()).collect();
        if let Some(missing) = self.only.iter().find(|name| !names.contains(name)) {
            let there = if names.is_empty() { "none was found".into() } else { format!("found: {}", names.join(", ")) };
            return Err(BuildError::new(
                BuildErrorKind::UnknownBackend,
                format!("no backend is called `{missing}`; {there}. {}", places(found)),
            ));
        }
        Ok(candidates.into_iter().filter(|candidate| self.only.contains(&candidate.info.name)).collect())
    }
}

/// The backends linked into this program.
fn builtin() -> Vec<Candidate> {
    #[cfg(feature = "threads")]
    {
        let backend = poniard_backend_threads::ThreadsBackend::new();
        let info = backend.info();
        vec![Candidate { backend: Arc::new(backend), info, file: None, rustc: poniard_interface::header::RUSTC.into() }]
    }
    #[cfg(not(feature = "threads"))]
    Vec::new()
}

fn no_processor(found: &FoundBesides, records: &[BackendRecord]) -> BuildError {
    let what = if records.is_empty() {
        "no backend was found, so there is nothing to run tasks on".into()
    } else {
        let names: Vec<_> = records.iter().map(|record| record.info.name.as_str()).collect();
        format!("the backends found ({}) have no processors on this machine", names.join(", "))
    };
    BuildError::new(BuildErrorKind::NoProcessor, format!("{what}. {}", places(found)))
}

/// Where was looked, and what was refused there.
fn places(found: &FoundBesides) -> String {
    let mut text = if found.searched.is_empty() {
        "No place was searched for plugin files.".into()
    } else {
        let places: Vec<_> = found.searched.iter().map(|(path, reason)| format!("{} ({reason})", path.display())).collect();
        format!("Searched for {}<name>.so in: {}.", poniard_interface::header::FILE_PREFIX, places.join("; "))
    };
    if !found.searched.is_empty() && std::env::var_os(plugin::BACKEND_PATH_VARIABLE).is_none() {
        text.push_str(&format!(" The variable {}, which names more places, is not set.", plugin::BACKEND_PATH_VARIABLE));
    }
    for refused in &found.refused {
        text.push_str("\nRefused: ");
        text.push_str(&refused.reason);
    }
    text
}

/// Whom the worker of `slot` steals from: the workers of its NUMA node, then the others, node by node.
fn victims(processors: &[ProcessorRecord], slot: usize) -> Vec<Vec<usize>> {
    let own = processors[slot].info.numa_node;
    let mut groups: BTreeMap<(bool, Option<u32>), Vec<usize>> = BTreeMap::new();
    for (other, record) in processors.iter().enumerate().filter(|(other, _)| *other != slot) {
        let node = record.info.numa_node;
        groups.entry((node != own, node)).or_default().push(other);
    }
    groups.into_values().collect()
}
