//! Policies from plugin files.
//!
//! A program that uses one needs no other, so one that is asked for by name is looked for by the names of files, and no other file is loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use poniard_interface::header::PluginKind;

use super::error::{LoadError, LoadErrorKind};
use super::search::{PluginSearch, SearchPlace};
use super::{RefusedPlugin, files, io_kind, refusal};
use crate::policy::{ChosenPolicy, MakePolicy, Policy};

/// What [`load_policies`] came back with.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FoundPolicies {
    /// The policies, in search order, at most one of each name.
    pub loaded: Vec<LoadedPolicy>,
    /// The files and folders that could not be used, in search order.
    pub refused: Vec<RefusedPlugin>,
    /// Where was looked, in search order; places that do not exist included.
    pub searched: Vec<SearchPlace>,
}

/// A policy out of a plugin file; its code stays mapped until the program ends.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadedPolicy {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The plugin's version.
    pub version: String,
    /// The plugin file, as it was found.
    pub file: PathBuf,
    /// The compiler that built it, as `rustc --version` prints it.
    pub rustc: String,
    pub(crate) maker: MakePolicy,
}

impl LoadedPolicy {
    /// Makes one, for a [`Board`](crate::policy::Board). If it panics later, or decides what cannot be, the default policy goes on in its place and `warn` is told so, once.
    pub fn make(&self, warn: impl Fn(String) + Send + 'static) -> Box<dyn Policy> {
        ChosenPolicy::Stranger { name: self.name, make: Arc::clone(&self.maker) }.make(warn)
    }
}

impl fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPolicy")
            .field("name", &self.name)
            .field("summary", &self.summary)
            .field("version", &self.version)
            .field("file", &self.file)
            .field("rustc", &self.rustc)
            .finish_non_exhaustive()
    }
}

/// Loads every policy that `search` finds.
///
/// Of two of one name the first in search order is loaded and the other is refused; one file found through two places is loaded once. A file that the search names itself and that is a
/// backend is passed over. Never fails as a whole: what cannot be used is in [`FoundPolicies::refused`].
pub fn load_policies(search: &PluginSearch) -> FoundPolicies {
    let mut found = FoundPolicies { searched: search.places(), ..FoundPolicies::default() };
    let mut file_of_name = BTreeMap::new();
    for file in files(&found.searched, PluginKind::Policy) {
        match file {
            Ok((file, path, name)) => match load_file(&file, &path, name.as_deref(), &file_of_name) {
                Ok(loaded) => {
                    file_of_name.insert(loaded.name.to_owned(), file);
                    found.loaded.push(loaded);
                }
                Err(LoadErrorKind::OtherKind { .. }) if name.is_none() => {}
                Err(kind) => found.refused.push(refusal(file, kind)),
            },
            Err(refused) => found.refused.push(refused),
        }
    }
    found
}

/// Loads the policy that [`RuntimeBuilder::policy`](crate::RuntimeBuilder::policy) would take from a plugin file: that of a path, if there is a `/` in `name`, otherwise the one of that
/// name, if `search` finds one. No other file is loaded.
///
/// # Errors
/// [`LoadError`] when it cannot be used, or when two files have the name.
pub fn named_policy(search: &PluginSearch, name: &str) -> Result<Option<LoadedPolicy>, LoadError> {
    if name.contains('/') { load_policy(Path::new(name)).map(Some) } else { find_policy(search, name) }
}

/// Loads the policy of one file, whatever the file is called.
///
/// # Errors
/// [`LoadError`] when it cannot be used.
pub(crate) fn load_policy(file: &Path) -> Result<LoadedPolicy, LoadError> {
    let failed = |kind| LoadError { file: file.to_owned(), kind };
    let path = file.canonicalize().map_err(|error| failed(io_kind("find", error)))?;
    load_file(file, &path, None, &BTreeMap::new()).map_err(failed)
}

/// Loads the policy that is called `name`, if `search` finds one.
///
/// # Errors
/// [`LoadError`] when it cannot be used, or when two files have it: which one is meant is for the user to say.
fn find_policy(search: &PluginSearch, name: &str) -> Result<Option<LoadedPolicy>, LoadError> {
    let places = search.places();
    let mut named = files(&places, PluginKind::Policy).filter_map(Result::ok).filter(|file| is_called(file).as_deref() == Some(name));
    let Some((file, path, file_name)) = named.next() else { return Ok(None) };
    if let Some((second, ..)) = named.next() {
        let kind = LoadErrorKind::Duplicate { kind: PluginKind::Policy, name: name.into(), first: file };
        return Err(LoadError { file: second, kind });
    }
    match load_file(&file, &path, file_name.as_deref(), &BTreeMap::new()) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(kind) => Err(LoadError { file, kind }),
    }
}

/// What the policies are called that `search` finds, by the names of their files, sorted.
pub fn policy_names(search: &PluginSearch) -> Vec<String> {
    let mut names: Vec<_> = files(&search.places(), PluginKind::Policy).filter_map(|file| is_called(&file.ok()?)).collect();
    names.sort();
    names.dedup();
    names
}

/// What the policy of a file is called, as far as one can say without running any of it. `None` if it is none.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn is_called((_, path, name): &super::File) -> Option<String> {
    let told = || super::file::describe(path, PluginKind::Policy, None).ok().map(|described| described.identity.name());
    name.clone().or_else(told)
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn is_called((_, _, name): &super::File) -> Option<String> {
    name.clone()
}

/// Takes one file, found as `file`, through the gates; see `load_file` of backends.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn load_file(
    file: &Path,
    path: &Path,
    name: Option<&str>,
    file_of_name: &BTreeMap<String, PathBuf>,
) -> Result<LoadedPolicy, LoadErrorKind> {
    use poniard_interface::stable::import_policy;

    let kind = PluginKind::Policy;
    let described = super::file::describe(path, kind, name)?;
    let name = described.identity.name();
    if let Some(first) = file_of_name.get(&name) {
        return Err(LoadErrorKind::Duplicate { kind, name, first: first.clone() });
    }
    let opened = super::library::open_policy(path, &described)?;
    if opened.policy.name() != name {
        return Err(LoadErrorKind::OwnName { kind, expected: name, found: opened.policy.name().into() });
    }
    Ok(LoadedPolicy {
        name: opened.policy.name(),
        summary: opened.summary,
        version: described.identity.version(),
        file: file.to_owned(),
        rustc: described.identity.rustc(),
        maker: Arc::new(move || import_policy((opened.create)()).map(|(policy, _)| policy)),
    })
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn load_file(_: &Path, _: &Path, _: Option<&str>, _: &BTreeMap<String, PathBuf>) -> Result<LoadedPolicy, LoadErrorKind> {
    Err(LoadErrorKind::UnsupportedHost { host: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH) })
}
