//! The subcommands, one in each file, and what they share.

pub mod adversary;
mod bench;
pub mod compare;
mod completions;
mod decider;
pub mod explore;
mod install;
mod kernels;
pub mod machine;
mod models;
pub mod pictures;
pub mod platform;
mod policies;
pub mod predict;
mod processors;
mod record;
pub mod replay;
mod room;
pub mod run;
mod samples;
mod simulate;
mod soak;
mod stream;

use std::ops::Deref;
use std::path::PathBuf;

use poniard::plugin::PluginSearch;
use poniard::{BackendReport, Runtime};

use crate::console::{self, Console};
use crate::failure::Failure;
use crate::options::{Command, Options, RuntimeOptions};

/// Does what the command line says.
///
/// # Errors
/// [`Failure`] says what went wrong, and what to exit with.
pub fn dispatch(options: &Options, console: &mut Console) -> Result<(), Failure> {
    match &options.command {
        Command::Run(options) => run::run(options, console),
        Command::Samples(options) => samples::samples(options, console),
        Command::Kernels(options) => kernels::kernels(options, console),
        Command::Policies(options) => policies::policies(options, console),
        Command::Processors(options) => processors::processors(options, console),
        Command::Simulate(options) if options.soak.soak => soak::play(&options.soak, options.seed, options.json, console),
        Command::Simulate(options) => simulate::simulate(options, console),
        Command::Compare(options) => compare::compare(options, console),
        Command::Adversary(options) => adversary::adversary(options, console),
        Command::Explore(options) => explore::explore(options, console),
        Command::Predict(options) => predict::predict(options, console),
        Command::Replay(options) => replay::replay(options, console),
        Command::Platform(options) => platform::platform(options, console),
        Command::Models(options) => models::models(options, console),
        Command::Bench(options) => bench::bench(options, console),
        Command::Completions(options) => completions::completions(options, console),
        Command::Install(options) => install::install(options, console),
    }
}

/// Checks that what `--plugin` names is there.
fn check_plugin_paths(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        if let Err(error) = std::fs::metadata(path) {
            return Err(Failure::usage(format_args!("--plugin {}: {error}", path.display())));
        }
    }
    Ok(())
}

/// Where plugin files are looked for: first at the paths that `--plugin` names, which have to be there.
fn search(paths: &[PathBuf]) -> Result<PluginSearch, Failure> {
    check_plugin_paths(paths)?;
    Ok(paths.iter().fold(PluginSearch::standard(), |search, path| search.with_path(path)))
}

/// Backends whose processors are devices, which run kernels and nothing else: who names these alone wants them besides the threads.
const DEVICE_BACKENDS: [&str; 1] = ["vulkan"];

/// Whether a command has a use for devices. To look for them takes up to a third of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Devices {
    Sought,
    /// They are not looked for unless the user asks for them.
    Unneeded,
}

/// The backends to use, if not all that are found, and the settings: those that the user gives, and those that follow from them.
fn chosen(options: &RuntimeOptions, devices: Devices) -> (Vec<String>, Vec<(String, String)>) {
    let (mut backends, mut settings) = (options.backends.clone(), options.settings.clone());
    if !backends.is_empty() && backends.iter().all(|name| DEVICE_BACKENDS.contains(&name.as_str())) {
        backends.push("threads".into());
    }
    let mut assume = |name: &str, value: &str| {
        if settings.iter().all(|(given, _)| given != name) {
            settings.push((name.into(), value.into()));
        }
    };
    if backends.iter().any(|name| name == "vulkan") {
        assume("vulkan.software", "true");
        assume("placement.devices", "always");
    } else if backends.is_empty() && devices == Devices::Unneeded {
        assume("vulkan.devices", "none");
    }
    (backends, settings)
}

/// A runtime as the options want it. Backends come from plugin files only; each file that was refused is a warning.
fn build_runtime(options: &RuntimeOptions, devices: Devices) -> Result<WatchedRuntime, Failure> {
    let mut builder = Runtime::builder().builtin(false).plugins(search(&options.plugins)?);
    let (backends, settings) = chosen(options, devices);
    for backend in backends {
        builder = builder.backend(backend);
    }
    if let Some(policy) = &options.policy {
        builder = builder.policy(policy);
    }
    if let Some(threads) = options.threads {
        builder = builder.threads(threads.get());
    }
    if let Some(limit) = &options.memory_limit {
        builder = builder.setting("memory.limit", limit);
    }
    if let Some(processes) = options.processes {
        builder = builder.processes(processes.into());
    }
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let runtime = builder.build()?;
    let told_count = warn_of(&runtime, 0);
    for refused in runtime.report().refused {
        console::warn(refused.reason);
    }
    Ok(WatchedRuntime { runtime, told_count })
}

/// A runtime whose warnings are passed on: those from its beginning at once, those that came later when it goes, as lines in the middle of a result would be lost in it.
struct WatchedRuntime {
    runtime: Runtime,
    /// How many messages have been looked at.
    told_count: usize,
}

impl WatchedRuntime {
    /// Says why there is no device, where the user asked for some.
    fn remark_missing_devices(&self, options: &RuntimeOptions) {
        let report = self.report();
        for backend in report.backends.iter().filter(|backend| options.backends.contains(&backend.name)) {
            missing_devices(backend, &report.messages).for_each(console::remark);
        }
    }
}

/// What a backend of devices has said that has none: `vulkan: none found (no Vulkan driver is installed)`.
fn missing_devices<'a>(backend: &BackendReport, messages: &'a [String]) -> impl Iterator<Item = &'a str> {
    let is_without = backend.processors.is_empty() && DEVICE_BACKENDS.contains(&backend.name.as_str());
    let prefix = format!("backend {}: ", backend.name);
    messages.iter().filter(move |_| is_without).filter_map(move |message| message.strip_prefix(&prefix))
}

impl Deref for WatchedRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

impl Drop for WatchedRuntime {
    fn drop(&mut self) {
        warn_of(&self.runtime, self.told_count);
    }
}

/// Passes on the warnings among the messages of a runtime, but for so many of the first; gives how many messages there are.
fn warn_of(runtime: &Runtime, told_count: usize) -> usize {
    let messages = runtime.report().messages;
    for warning in messages.iter().skip(told_count).filter_map(|message| message.strip_prefix("warning: ")) {
        console::warn(warning);
    }
    messages.len()
}

#[cfg(test)]
mod tests {
    use super::{Devices, chosen};
    use crate::options::RuntimeOptions;

    /// The backends and settings of a command that names `backends` and sets `settings`, each as words.
    fn check(backends: &[&str], settings: &[(&str, &str)], devices: Devices, expected: (&str, &str)) {
        let options = RuntimeOptions {
            backends: backends.iter().map(|name| (*name).into()).collect(),
            settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..RuntimeOptions::default()
        };
        let (backends, settings) = chosen(&options, devices);
        let settings: Vec<_> = settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!((backends.join(" ").as_str(), settings.join(" ").as_str()), expected);
    }

    #[test]
    fn devices_are_used_besides_threads_and_only_where_there_is_a_use() {
        use Devices::{Sought, Unneeded};
        check(&[], &[], Sought, ("", ""));
        check(&[], &[], Unneeded, ("", "vulkan.devices=none"));
        check(&[], &[("vulkan.devices", "0")], Unneeded, ("", "vulkan.devices=0"));
        check(&["threads"], &[], Sought, ("threads", ""));
        check(&["threads"], &[], Unneeded, ("threads", ""));
        for devices in [Sought, Unneeded] {
            check(&["vulkan"], &[], devices, ("vulkan threads", "vulkan.software=true placement.devices=always"));
            check(&["vulkan", "process"], &[], devices, ("vulkan process", "vulkan.software=true placement.devices=always"));
            check(
                &["vulkan"],
                &[("vulkan.software", "false")],
                devices,
                ("vulkan threads", "vulkan.software=false placement.devices=always"),
            );
        }
    }
}
