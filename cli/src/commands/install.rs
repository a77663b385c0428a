//! `poniard install`: the command and its plugins as files of an installation.
//!
//! All files are filled under temporary names first and renamed together at the end, plugins before the command: an installation that fails for want of
//! room or rights changes nothing but folders that it made.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use poniard::PluginKind;
use poniard::plugin::load_policies;

use super::{Devices, build_runtime, search};
use crate::console::{self, Console};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::{InstallOptions, RuntimeOptions};
use crate::output::OutputFile;
use crate::report::{counted, digits};

/// The permissions of commands and libraries, less the user's mask.
const MODE: u32 = 0o777;

/// Installs the running command and the plugins that it found.
pub fn install(options: &InstallOptions, console: &mut Console) -> Result<(), Failure> {
    if options.prefix.as_os_str().is_empty() {
        return Err(Failure::usage("--prefix: an empty path names no folder"));
    }
    let command = std::env::current_exe()
        .map_err(|error| Failure::input(format_args!("the running command's own file could not be found: {error}")))?;
    let plugins = loadable_plugins(&options.plugins)?;

    let bin = make_folder(&options.prefix, "bin")?;
    let lib = make_folder(&options.prefix, "lib/poniard")?;
    let mut staged = Vec::new();
    for (name, file) in &plugins {
        staged.push(stage(file, lib.join(name))?);
    }
    staged.push(stage(&command, bin.join("poniard"))?);

    for (file, bytes) in staged {
        let path = file.path().to_owned();
        file.commit()?;
        console.line(format_args!("installed {} ({} bytes)", path.display(), digits(bytes)))?;
    }
    console.line(format_args!("{} installed: try {} samples", counted(plugins.len() as u64, "plugin"), bin.join("poniard").display()))
}

/// The plugin files that loaded, by the name to install them under.
fn loadable_plugins(given: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Failure> {
    // Loading them is the only way to know that they can be loaded.
    let runtime = build_runtime(&RuntimeOptions { plugins: given.to_vec(), ..RuntimeOptions::default() }, Devices::Unneeded)?;
    let backends = runtime.report().backends.into_iter().filter_map(|backend| Some((PluginKind::Backend, backend.file?, backend.name)));
    let policies =
        load_policies(&search(given)?).loaded.into_iter().map(|policy| (PluginKind::Policy, policy.file, policy.name.to_owned()));
    let mut plugins: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (kind, file, plugin) in backends.chain(policies) {
        let name = installed_name(&file, kind, &plugin);
        if let Some(other) = plugins.get(&name) {
            console::warn(format_args!("{} is left out: {} has the same name", file.display(), other.display()));
            continue;
        }
        plugins.insert(name, file);
    }
    if plugins.is_empty() {
        return Err(Failure::new(ExitCode::NoBackend, "no plugin file was found to install"));
    }
    Ok(plugins)
}

/// What the loader looks for in a folder: a file given by `--plugin` may have any name, an installed one may not.
fn installed_name(file: &Path, kind: PluginKind, plugin: &str) -> String {
    match file.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.starts_with(kind.file_prefix()) && name.ends_with(".so") => name.to_owned(),
        _ => format!("{}{plugin}.so", kind.file_prefix()),
    }
}

/// Makes the folder `name` of `prefix`.
fn make_folder(prefix: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = prefix.join(name);
    match std::fs::create_dir_all(&folder) {
        Ok(()) => Ok(folder),
        Err(error) => Err(Failure::new(ExitCode::Output, format_args!("the folder {} could not be made: {error}", folder.display()))),
    }
}

/// Copies `source` to a temporary file that will become `target`.
fn stage(source: &Path, target: PathBuf) -> Result<(OutputFile, u64), Failure> {
    let unreadable = |error: std::io::Error| Failure::input(format_args!("{} could not be read: {error}", source.display()));
    let contents = File::open(source).map_err(unreadable)?;
    let expected = contents.metadata().map_err(unreadable)?.len();
    let mut file = OutputFile::replace(&target, MODE)?;
    let bytes = file.fill(contents)?;
    if bytes != expected {
        return Err(Failure::input(format_args!("{} changed while it was copied", source.display())));
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use poniard::PluginKind;

    use super::installed_name;

    #[test]
    fn plugins_get_names_that_the_loader_looks_for() {
        assert_eq!(
            installed_name(Path::new("/a/libponiard_backend_vulkan.so"), PluginKind::Backend, "vulkan"),
            "libponiard_backend_vulkan.so"
        );
        assert_eq!(installed_name(Path::new("/a/mine.so"), PluginKind::Backend, "example"), "libponiard_backend_example.so");
        assert_eq!(installed_name(Path::new("/a/mine.so"), PluginKind::Policy, "longest-first"), "libponiard_policy_longest-first.so");
    }
}
