//! Opens backends and starts a runtime.
//!
//! One file because each setting is a method, a name, a check and what is made of it.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use poniard_interface::{Backend, BackendInfo, LogLevel, PluginKind, Processor, Settings, WorkerId};

use super::host::{HostLink, Log};
use super::report::Refused;
use super::{Handle, Runtime};
use crate::function::TaskFn;
use crate::options::TaskOptions;
use crate::placement::{Placement, PlacementChoices};
use crate::plugin::{self, LoadedPolicy, PluginSearch};
use crate::policy::{ChosenPolicy, MakePolicy, POLICIES, Policy, UnknownPolicy};
use crate::residency::DeviceSpace;
use crate::spill::Folder;
use crate::worker::shared::{Choices, ProcessorRecord, Shared};
use crate::worker::sleep::IdlePolicy;
use crate::worker::slot::Slot;
use crate::{arena, machine, model, spill};

/// The setting of `RuntimeBuilder::processes_at_most`.
const PROCESSES_MOST: &str = "processes.most";

/// The setting of `RuntimeBuilder::memory_limit`.
const MEMORY_LIMIT: &str = "memory.limit";
/// The setting of `RuntimeBuilder::memory_spill`.
const MEMORY_SPILL: &str = "memory.spill";
/// The setting of `RuntimeBuilder::memory_spill_limit`.
const MEMORY_SPILL_LIMIT: &str = "memory.spill_limit";
/// The setting of `RuntimeBuilder::memory_spill_compress`.
const MEMORY_SPILL_COMPRESS: &str = "memory.spill_compress";
const MEMORY: [&str; 4] = [MEMORY_LIMIT, MEMORY_SPILL, MEMORY_SPILL_LIMIT, MEMORY_SPILL_COMPRESS];

/// What is said of the memory of buffers. It is the whole process's.
struct MemoryChoices {
    limit_bytes: Option<u64>,
    folder: Option<Folder>,
    spill_limit_bytes: Option<u64>,
    compresses: Option<bool>,
}

impl MemoryChoices {
    fn apply(self) {
        // Where to spill before there is cause to.
        if let Some(folder) = self.folder {
            spill::set_folder(folder);
        }
        if let Some(bytes) = self.spill_limit_bytes {
            spill::set_limit(bytes);
        }
        if let Some(compresses) = self.compresses {
            spill::set_compress(compresses);
        }
        if let Some(bytes) = self.limit_bytes {
            arena::set_limit(bytes);
        }
    }
}

/// The settings of placement: the policy's name, where its random numbers begin, whether explanations, a journal and a decision log are kept, whether software devices count as real ones, for tests, and whether a
/// launch goes to a device whenever one can run it; and where models of costs are kept.
const PLACEMENT_POLICY: &str = "placement.policy";
const PLACEMENT_SEED: &str = "placement.seed";
const PLACEMENT_EXPLAIN: &str = "placement.explain";
const PLACEMENT_JOURNAL: &str = "placement.journal";
const PLACEMENT_DECISIONS: &str = "placement.decisions";
const PLACEMENT_SOFTWARE: &str = "placement.software";
const PLACEMENT_DEVICES: &str = "placement.devices";
const PLACEMENT_MODELS: &str = "placement.models";
const PLACEMENT: [&str; 8] = [
    PLACEMENT_POLICY,
    PLACEMENT_SEED,
    PLACEMENT_EXPLAIN,
    PLACEMENT_JOURNAL,
    PLACEMENT_DECISIONS,
    PLACEMENT_SOFTWARE,
    PLACEMENT_DEVICES,
    PLACEMENT_MODELS,
];

/// Chooses backends, number of threads and settings of a [`Runtime`].
///
/// Without a choice it uses the backends that are linked into the program, and no plugin file.
#[derive(Clone, Default)]
#[must_use = "nothing is started before `build` is called"]
pub struct RuntimeBuilder {
    search: Option<PluginSearch>,
    linked: Vec<Arc<dyn Backend>>,
    linked_policies: Vec<(&'static str, MakePolicy)>,
    without_builtin: bool,
    only: Vec<String>,
    settings: Settings,
    choices: Choices,
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("search", &self.search)
            .field("linked", &self.linked.iter().map(|backend| backend.info()).collect::<Vec<_>>())
            .field("linked_policies", &self.linked_policies.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("without_builtin", &self.without_builtin)
            .field("only", &self.only)
            .field("settings", &self.settings)
            .field("choices", &self.choices)
            .finish()
    }
}

/// A backend in use.
pub(crate) struct BackendRecord {
    pub(crate) info: BackendInfo,
    pub(crate) file: Option<PathBuf>,
    pub(crate) rustc: String,
    pub(crate) spaces: Vec<Arc<DeviceSpace>>,
    /// The backend itself, to read kernels' sources; none in a worker process.
    pub(crate) backend: Option<Arc<dyn Backend>>,
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
#[derive(Clone, Default)]
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
    /// A backend refuses a setting, for instance zero threads, or none that is used reads it.
    Setting,
    /// There is no processor: no backend was found, or all were refused.
    NoProcessor,
    /// A backend that was asked for, by name or by a setting of its own, was not found.
    UnknownBackend,
    /// A backend that is needed could not be opened, or a thread of it not started.
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

    /// Loads plugin files as `search` says. A plugin replaces a built-in backend of the same name. A policy is loaded if it is the one that [`policy`](Self::policy) names.
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

    /// What a worker does that finds nothing to do.
    ///
    /// ```
    /// use poniard::{IdlePolicy, Runtime};
    ///
    /// let runtime = Runtime::builder().idle_policy(IdlePolicy::Quiet).build()?;
    /// assert_eq!(*runtime.spawn(|| 1u64, ()).fetch()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle_policy(mut self, policy: IdlePolicy) -> Self {
        self.choices.idle_policy = policy;
        self
    }

    /// Number of threads of the threads backend. The same as the setting `threads`.
    pub fn threads(self, count: usize) -> Self {
        self.setting("threads", count.to_string())
    }

    /// Number of worker processes of the processes backend, besides the threads: none, unless this says otherwise. The same as the setting `processes`.
    ///
    /// They run the tasks that can travel (see the crate's chapter on processes), and are started when the first one does.
    pub fn processes(self, count: usize) -> Self {
        self.setting("processes", count.to_string())
    }

    /// Number of worker processes that there can be later on, by [`Handle::set_processes`]; without this, as many as to begin with. The same as the setting `processes.most`.
    pub fn processes_at_most(self, count: usize) -> Self {
        self.setting(PROCESSES_MOST, count.to_string())
    }

    /// How many bytes the memory of buffers may take, what is kept for the next ones included. The same as the setting `memory.limit`, whose value may have a unit: `2GiB`.
    ///
    /// Buffers are the whole process's, and so is the limit: that of the runtime built last counts. Without one it is seven eighths of what the machine has, or what the control
    /// groups of the process allow. Where there is no room, results that are not needed just now go to the disk ([`memory_spill`](Self::memory_spill)); when that is not enough, allocating
    /// is an [`AllocateError`](crate::AllocateError), until buffers have been dropped.
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.setting(MEMORY_LIMIT, bytes.to_string())
    }

    /// The policy that decides where and when ready tasks run, for all tasks that are spawned and all nodes of compiled graphs. The same as the setting
    /// `placement.policy`; `placement.seed` is where its random numbers begin.
    ///
    /// `name` is one of [`policy::POLICIES`](crate::policy::POLICIES), that of a plugin file `libponiard_policy_<name>.so` which [`plugins`](Self::plugins) finds, or the path of such a
    /// file, of any name, with a `/` in it.
    ///
    /// Without this, tasks that every worker may run are shared out by work stealing, which costs nanoseconds, and only launches of kernels that devices can run as well are placed,
    /// by [`policy::DEFAULT`](crate::policy::DEFAULT). With it every spawned task and every node is placed, which costs about a microsecond; parts of `join` and the like are shared out as before.
    pub fn policy(self, name: impl Into<String>) -> Self {
        self.setting(PLACEMENT_POLICY, name)
    }

    /// A policy of the program's own, as [`policy`](Self::policy) has one by name. It is made anew for each runtime, and stands in for a built-in one of its name.
    ///
    /// If it panics, or decides what cannot be, the default policy goes on in its place and [`Report::messages`](crate::Report::messages) has a warning.
    ///
    /// ```
    /// use poniard::Runtime;
    /// use poniard::policy::{Decision, End, Place, Policy, ReadyTask, View, Why};
    ///
    /// #[derive(Debug)]
    /// struct NewestFirst;
    ///
    /// impl Policy for NewestFirst {
    ///     fn name(&self) -> &'static str {
    ///         "newest-first"
    ///     }
    ///     fn place(&mut self, _: &ReadyTask<'_>, _: &mut View<'_>) -> Decision {
    ///         Decision::shared(Why::FirstFree)
    ///     }
    ///     fn end(&self, _: usize, _: &[Place]) -> End {
    ///         End { last_level: false, last_within: true }
    ///     }
    /// }
    /// let runtime = Runtime::builder().linked_policy(|| NewestFirst).models(None).build()?;
    /// assert_eq!(*runtime.spawn(|| 1u64, ()).fetch()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// When `make` or the policy's `name` does, which are called here once.
    pub fn linked_policy<P: Policy + 'static>(mut self, make: impl Fn() -> P + Send + Sync + 'static) -> Self {
        let name = make().name();
        self.linked_policies.push((name, Arc::new(move || Ok(Box::new(make()) as Box<dyn Policy>))));
        self.policy(name)
    }

    /// Whether launches of kernels go to a device whenever one can run them, also where the host would be faster. The same as the setting `placement.devices`, which is `auto` or `always`.
    pub fn devices_always(self, always: bool) -> Self {
        self.setting(PLACEMENT_DEVICES, if always { "always" } else { "auto" })
    }

    /// The folder in which what tasks cost on this machine is kept from one program to the next, if tasks are placed at all; `None`: it is not kept. The same as the setting
    /// `placement.models`, which is a folder or `off`. Without this it is `poniard/models` in `XDG_CACHE_HOME` or `~/.cache`.
    pub fn models(self, folder: Option<PathBuf>) -> Self {
        self.setting(PLACEMENT_MODELS, folder.map_or_else(|| "off".to_owned(), |folder| folder.to_string_lossy().into_owned()))
    }

    /// Keeps why tasks were placed where they ran, for [`Handle::explanations`]. The same as the setting `placement.explain`. Cost: a few hundred bytes and a microsecond for each
    /// of the first 100 000 tasks that are placed.
    pub fn explain(self, explain: bool) -> Self {
        self.setting(PLACEMENT_EXPLAIN, explain.to_string())
    }

    /// Keeps which tasks were spawned, after which others, and when and where each ran, for [`Handle::journal`]. The same as the setting `placement.journal`. Cost: a few hundred
    /// bytes and some two microseconds for each task.
    pub fn journal(self, journal: bool) -> Self {
        self.setting(PLACEMENT_JOURNAL, journal.to_string())
    }

    /// Keeps all that the policy was asked and told, and what was decided, for [`Handle::decision_log`]. The same as the setting `placement.decisions`. Cost: some hundred bytes for each task that
    /// is placed and for each look of a worker at those that wait.
    pub fn decision_log(self, decision_log: bool) -> Self {
        self.setting(PLACEMENT_DECISIONS, decision_log.to_string())
    }

    /// The folder for results that are on the disk, as there is no room in memory. The same as the setting `memory.spill`. Without one it is the first of `$TMPDIR` (or `/tmp`) and
    /// `/var/tmp` that is on a disk and not in memory itself. The value `off` of the setting, or [`without_spill`](Self::without_spill), says that nothing goes there.
    ///
    /// Nothing is written before memory is short, and nothing is left when the program ends. As the limit, it is the whole process's.
    ///
    /// ```
    /// use poniard::{Runtime, buffer};
    ///
    /// let runtime = Runtime::builder().memory_limit(64 << 20).memory_spill("/var/tmp").build()?;
    /// let parts: Vec<_> = (0..8).map(|i| runtime.spawn(move || buffer::from_fn(2 << 20, |_| i as f64), ())).collect();
    /// let sums = parts.iter().map(|part| runtime.spawn(|part: &poniard::Buffer<f64>| part.iter().sum::<f64>(), (part,)));
    /// assert_eq!(sums.map(|sum| sum.take()).sum::<Result<f64, _>>()?, 28.0 * (2 << 20) as f64);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memory_spill(self, folder: impl Into<PathBuf>) -> Self {
        // The names of folders in settings are text.
        self.setting(MEMORY_SPILL, folder.into().to_string_lossy())
    }

    /// Nothing goes to the disk: above the limit, allocating is an error. The same as the setting `memory.spill` with the value `off`.
    pub fn without_spill(self) -> Self {
        self.setting(MEMORY_SPILL, "off")
    }

    /// How many bytes of results may be on the disk at once; as many as it takes, unless this says otherwise. The same as the setting `memory.spill_limit`, whose value may have a unit.
    pub fn memory_spill_limit(self, bytes: u64) -> Self {
        self.setting(MEMORY_SPILL_LIMIT, bytes.to_string())
    }

    /// Whether results that nobody has looked at yet are compressed (LZ4) on their way to the disk; they are not, unless this says so. The same as the setting `memory.spill_compress`, `true` or
    /// `false`, and the whole process's. What does not shrink by an eighth is written as it is, as is what somebody has looked at: a reference to its elements may be left, which is read on the disk.
    ///
    /// Cost: what LZ4 takes, some milliseconds for a block of 4 MiB, and as much memory besides as the block takes on the disk, for as long. Worth it where the disk is slow, or small.
    pub fn memory_spill_compress(self, compress: bool) -> Self {
        self.setting(MEMORY_SPILL_COMPRESS, compress.to_string())
    }

    /// A setting for the backends, each of which reads those that it documents, or one of those that begin with `memory.` or `placement.`. One that nobody reads is an error when the runtime is built.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.set(name, value);
        self
    }

    /// Options of all tasks of a function that is spawned on the runtime; of those, what nothing else says: see [`TaskOptions`]. The last call for a function
    /// counts. Cost: spawns on a runtime with such defaults look `function` up in a map; on one without, nothing.
    ///
    /// The function is known by its type, so it is an `fn` or a closure that captures nothing. A pointer to a function does not compile, since all of
    /// one signature are of one type.
    ///
    /// ```
    /// use poniard::{Priority, Runtime, TaskOptions};
    ///
    /// fn log(line: String) -> usize {
    ///     line.len()
    /// }
    /// let runtime = Runtime::builder().defaults(log, TaskOptions::new().name("logging").priority(Priority::Low)).build()?;
    /// assert_eq!(runtime.spawn(log, ("done".to_owned(),)).name(), "logging");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn defaults<M, F: TaskFn<M>>(mut self, function: F, options: TaskOptions) -> Self {
        const { assert!(size_of::<F>() == 0, "defaults belong to an `fn` or to a closure that captures nothing") };
        drop(function);
        self.choices.defaults.insert(TypeId::of::<F>(), options);
        self
    }

    /// Finds and opens the backends, and starts the workers.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing, where it was looked for and what was refused.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let memory = self.read_memory()?;
        let choices = Choices { placement: self.read_placement()?, ..self.choices.clone() };
        let mut found = FoundBesides::default();
        let candidates = self.candidates(&mut found);
        let mut candidates = self.chosen(candidates, &found)?;
        crate::worker::prepare();
        loop {
            let link = Arc::new(OnceLock::new());
            let (records, processors) = self.open(&mut candidates, &mut found, &link)?;
            if !candidates.is_empty() {
                self.check_settings(&candidates, &found)?;
            }
            if processors.is_empty() {
                return Err(no_processor(&found, &records));
            }
            match start(records, processors, found.clone(), choices.clone(), self.process_count(), &link) {
                Ok(shared) => {
                    if let Some(warning) = shared.placement.as_ref().and_then(Placement::load) {
                        shared.backends.found.log.push(LogLevel::Warning, warning);
                    }
                    memory.apply();
                    return Ok(Runtime { handle: Handle { shared } });
                }
                Err((backend, reason)) => {
                    // The others are opened anew, for a runtime without this one.
                    let Some(place) = candidates.iter().position(|candidate| candidate.info.name == backend) else {
                        unreachable!("a processor belongs to a backend that was opened")
                    };
                    let candidate = candidates.remove(place);
                    self.set_aside(&candidate, &reason, BuildErrorKind::Start, &mut found)?;
                }
            }
        }
    }

    /// How many worker processes there are to be at first. The backend has read the settings by now, and opened a processor for each that there can be.
    fn process_count(&self) -> usize {
        let first = || self.settings.parse("processes").ok().flatten().unwrap_or(0);
        self.settings.get(PROCESSES_MOST).map_or(usize::MAX, |_| first())
    }

    /// What the settings say about placement.
    fn read_placement(&self) -> Result<PlacementChoices, BuildError> {
        let bad = |text: String| BuildError::new(BuildErrorKind::Setting, text);
        if let Some((name, _)) = self.settings.iter().find(|(name, _)| name.starts_with("placement.") && !PLACEMENT.contains(name)) {
            return Err(bad(format!("there is no setting `{name}`; there are `{}`", PLACEMENT.join("`, `"))));
        }
        let policy = self.settings.get(PLACEMENT_POLICY).map(|name| self.find_policy(name)).transpose();
        let policy = policy.map_err(|reason| bad(format!("setting `{PLACEMENT_POLICY}`: {reason}")))?;
        let switch = |name: &str| self.settings.parse::<bool>(name).map(Option::unwrap_or_default).map_err(|error| bad(error.reason));
        Ok(PlacementChoices {
            policy,
            seed: self.settings.parse(PLACEMENT_SEED).map_err(|error| bad(error.reason))?.unwrap_or_default(),
            explain: switch(PLACEMENT_EXPLAIN)?,
            journal: switch(PLACEMENT_JOURNAL)?,
            decisions: switch(PLACEMENT_DECISIONS)?,
            software: switch(PLACEMENT_SOFTWARE)?,
            models: match self.settings.get(PLACEMENT_MODELS) {
                None => model::store::default_folder(),
                Some("off") => None,
                Some("") => return Err(bad(format!("setting `{PLACEMENT_MODELS}` is empty: expected `off` or a folder"))),
                Some(folder) => Some(folder.into()),
            },
            devices_first: match self.settings.get(PLACEMENT_DEVICES) {
                None | Some("auto") => false,
                Some("always") => true,
                Some(other) => return Err(bad(format!("setting `{PLACEMENT_DEVICES}` is `{other}`: expected `auto` or `always`"))),
            },
        })
    }

    /// The policy of a name, or of a path; in words why it cannot be had. A plugin file is loaded only if it is the one that is asked for.
    fn find_policy(&self, name: &str) -> Result<ChosenPolicy, String> {
        if let Some((name, make)) = self.linked_policies.iter().rev().find(|(linked, _)| *linked == name) {
            return Ok(ChosenPolicy::Stranger { name, make: Arc::clone(make) });
        }
        if let Some(known) = POLICIES.iter().find(|known| known.name == name) {
            return Ok(ChosenPolicy::BuiltIn(*known));
        }
        let found = match &self.search {
            _ if name.contains('/') => plugin::load_policy(Path::new(name)).map(Some),
            Some(search) => plugin::named_policy(search, name),
            None => Ok(None),
        };
        match found.map_err(|error| error.to_string())? {
            Some(LoadedPolicy { name, maker, .. }) => Ok(ChosenPolicy::Stranger { name, make: maker }),
            None => {
                let linked = self.linked_policies.iter().map(|(name, _)| (*name).to_owned());
                let in_files = self.search.iter().flat_map(plugin::policy_names);
                let unknown = UnknownPolicy::new(name, linked.chain(in_files).collect());
                let places = self.search.iter().flat_map(PluginSearch::places);
                let places: Vec<_> = places.map(|place| format!("{} ({})", place.path.display(), place.reason)).collect();
                match places.as_slice() {
                    [] => Err(format!("{unknown}; no place was searched for plugin files")),
                    _ => Err(format!("{unknown}; searched for {}{name}.so in: {}", PluginKind::Policy.file_prefix(), places.join("; "))),
                }
            }
        }
    }

    /// What the settings say of the memory of buffers.
    fn read_memory(&self) -> Result<MemoryChoices, BuildError> {
        let bad = |text: String| BuildError::new(BuildErrorKind::Setting, text);
        if let Some((name, _)) = self.settings.iter().find(|(name, _)| name.starts_with("memory.") && !MEMORY.contains(name)) {
            return Err(bad(format!("there is no setting `{name}`; there are `{}`", MEMORY.join("`, `"))));
        }
        let wrong = |name: &str, text: &str, reason: String| bad(format!("setting `{name}` is `{text}`: {reason}"));
        let bytes = |name: &'static str| {
            let parse = |text: &str| machine::parse_bytes(text).map_err(|reason| wrong(name, text, reason));
            self.settings.get(name).map(parse).transpose()
        };
        let folder = |text: &str| {
            let folder = if text == "off" { Folder::Off } else { Folder::Named(text.into()) };
            folder.check().map(|()| folder).map_err(|reason| wrong(MEMORY_SPILL, text, reason))
        };
        Ok(MemoryChoices {
            limit_bytes: bytes(MEMORY_LIMIT)?,
            folder: self.settings.get(MEMORY_SPILL).map(folder).transpose()?,
            spill_limit_bytes: bytes(MEMORY_SPILL_LIMIT)?,
            compresses: self.settings.parse(MEMORY_SPILL_COMPRESS).map_err(|error| bad(error.reason))?,
        })
    }

    /// Opens the backends; those that do not open are taken off the list.
    fn open(
        &self,
        candidates: &mut Vec<Candidate>,
        found: &mut FoundBesides,
        link: &Arc<OnceLock<Weak<Shared>>>,
    ) -> Result<(Vec<BackendRecord>, Vec<ProcessorRecord>), BuildError> {
        let mut records = Vec::new();
        let mut processors = Vec::new();
        for candidate in std::mem::take(candidates) {
            let file = candidate.file.clone();
            let host = Arc::new(HostLink::new(candidate.info.name.clone(), file, Arc::clone(&found.log), Arc::clone(link)));
            match candidate.backend.open(&self.settings, host) {
                Ok(opened) => {
                    let backend = records.len();
                    let record = |processor: Box<dyn Processor>| ProcessorRecord {
                        lost: OnceLock::new(),
                        info: processor.info(),
                        processor,
                        backend,
                    };
                    processors.extend(opened.processors.into_iter().map(record));
                    let (info, file, rustc) = (candidate.info.clone(), candidate.file.clone(), candidate.rustc.clone());
                    let spaces = opened.spaces.into_iter().map(|space| Arc::new(DeviceSpace::new(space))).collect();
                    records.push(BackendRecord { info, file, rustc, spaces, backend: Some(Arc::clone(&candidate.backend)) });
                    candidates.push(candidate);
                }
                Err(error) => {
                    let kind = if error.reason.starts_with("setting `") { BuildErrorKind::Setting } else { BuildErrorKind::Start };
                    self.set_aside(&candidate, &format!("it was not opened: {}", error.reason), kind, found)?;
                }
            }
        }
        Ok((records, processors))
    }

    /// Goes on without a backend, which is then among the refused ones; an error where the user would not want that.
    fn set_aside(&self, candidate: &Candidate, reason: &str, kind: BuildErrorKind, found: &mut FoundBesides) -> Result<(), BuildError> {
        let name = &candidate.info.name;
        match &candidate.file {
            // A plugin that does not work is no reason to do without the others, unless it was asked for or a setting of the user is at fault.
            Some(file) if !self.only.contains(name) && !reason.contains("setting `") => {
                let reason = format!("the backend `{name}` of the plugin `{}` is not used: {reason}", file.display());
                found.refused.push(Refused { file: file.clone(), reason });
                Ok(())
            }
            _ => Err(BuildError::new(kind, format!("the backend `{name}` cannot be used: {reason}"))),
        }
    }

    /// A setting that no backend reads would be a wish that nobody hears. `candidates` are those that have been opened.
    fn check_settings(&self, candidates: &[Candidate], found: &FoundBesides) -> Result<(), BuildError> {
        let known: Vec<(String, &str)> = candidates
            .iter()
            .flat_map(|candidate| candidate.backend.settings().into_iter().map(|name| (name, candidate.info.name.as_str())))
            .collect();
        let is_known = |name: &str| MEMORY.contains(&name) || PLACEMENT.contains(&name) || known.iter().any(|(known, _)| known == name);
        // No processes and no devices can be had everywhere.
        let is_none = |name: &str, value: &str| matches!((name, value), ("processes" | PROCESSES_MOST, "0") | ("vulkan.devices", "none"));
        let unheard = self.settings.iter().find(|(name, value)| !is_known(name) && !is_none(name, value));
        let Some((name, value)) = unheard else { return Ok(()) };
        let used: Vec<_> = candidates.iter().map(|candidate| candidate.info.name.as_str()).collect();
        let family = name.split('.').next().unwrap_or(name);
        if let Some((_, backend)) = FAMILIES.iter().find(|(known, backend)| *known == family && !used.contains(backend)) {
            let text = format!(
                "setting `{name}` is `{value}`, and the backend `{backend}`, which reads it, is not in use; in use: {}. {}",
                used.join(", "),
                places(found)
            );
            return Err(BuildError::new(BuildErrorKind::UnknownBackend, text));
        }
        let like = known.iter().map(|(known, backend)| (strsim::osa_distance(name, known), known, backend)).min();
        let hint = match like {
            Some((..=3, like, backend)) => format!("did you mean `{like}`, of the backend `{backend}`?"),
            None => "they know none".into(),
            _ => format!("there are `{}`", known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("`, `")),
        };
        Err(BuildError::new(BuildErrorKind::Setting, format!("setting `{name}` is known to no backend in use; {hint}")))
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

/// Settings that users know without a backend, by methods of the builder and options of the command: what their names begin with, and whose they are.
const FAMILIES: [(&str, &str); 3] = [("threads", "threads"), ("processes", "process"), ("vulkan", "vulkan")];

/// Makes the runtime and starts its workers; if one does not start, says which backend is to blame and why.
fn start(
    records: Vec<BackendRecord>,
    mut processors: Vec<ProcessorRecord>,
    found: FoundBesides,
    choices: Choices,
    process_count: usize,
    link: &OnceLock<Weak<Shared>>,
) -> Result<Arc<Shared>, (String, String)> {
    // Inline processors first: their places are those of their slots. The sort is stable, so the order of each backend stays.
    processors.sort_by_key(|record| !record.info.execution.has_workers());
    let slot_count = processors.iter().take_while(|record| record.info.execution.has_workers()).count();
    let slots = (0..slot_count).map(|slot| Slot::new(slot, victims(&processors[..slot_count], slot))).collect();
    let shared = Arc::new(Shared::new(processors, Backends { records, found }, slots, choices));
    // The cell is new and nobody else sets it.
    let _ = link.set(Arc::downgrade(&shared));
    if let Some(placement) = &shared.placement {
        placement.belong_to(&shared);
    }
    if let Some(record) = shared.keep_dormant(process_count) {
        let backend = shared.backends[record.backend].info.name.clone();
        return Err((backend, "setting `processes` is `0`, and there would be no other processor to begin with".into()));
    }
    for worker in (0..slot_count).filter(|worker| !shared.slots[*worker].is_dormant()) {
        let record = &shared.processors[worker];
        if let Err(error) = record.processor.start(WorkerId(worker as u32)) {
            shared.shut_down();
            let reason = format!("its worker {} did not start: {}", record.info.name, error.reason);
            return Err((shared.backends[record.backend].info.name.clone(), reason));
        }
    }
    Ok(shared)
}

/// The backends linked into this program.
fn builtin() -> Vec<Candidate> {
    let candidate = |backend: Box<dyn Backend>| {
        let info = backend.info();
        Candidate { backend: backend.into(), info, file: None, rustc: poniard_interface::header::RUSTC.into() }
    };
    builtin_backends().into_iter().map(candidate).collect()
}

fn builtin_backends() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "threads")]
        Box::new(poniard_backend_threads::ThreadsBackend::new()),
        #[cfg(feature = "processes")]
        Box::new(poniard_backend_process::ProcessBackend::new()),
        #[cfg(feature = "vulkan")]
        Box::new(poniard_backend_vulkan::VulkanBackend::new()),
    ]
}

/// The backend of a name that is linked into this program.
pub(crate) fn builtin_backend(name: &str) -> Option<Box<dyn Backend>> {
    builtin_backends().into_iter().find(|backend| backend.info().name == name)
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
        format!("Searched for {}<name>.so in: {}.", PluginKind::Backend.file_prefix(), places.join("; "))
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
