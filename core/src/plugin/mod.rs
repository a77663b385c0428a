//! Backends and policies from plugin files, found and loaded at run time.
//!
//! A plugin is a shared object `libponiard_backend_<name>.so` or `libponiard_policy_<name>.so`. [`load`] looks for such files where a [`PluginSearch`] says, and hands back the
//! backends together with every file that it refused and why: a bad file never ends the program and never hides the others. [`load_policies`] does the same for policies.
//!
//! A file passes three gates, each of which makes the next one safe. `file` reads the ELF structure and the plugin's header from the disk, since
//! the dynamic linker dies of a truncated file and runs the constructors of a foreign one. `library` then lets the dynamic linker map it. The layout
//! check of [`poniard_interface::stable`] at last compares the two sides' types, before anything of the plugin is called.
//!
//! A library is never unloaded: threads of it may still run, and no sound way exists to unload one that has thread-local destructors.

mod error;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod file;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod library;
mod policies;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use poniard_interface::header::PluginKind;
use poniard_interface::{Backend, BackendInfo};

pub use error::{LoadError, LoadErrorKind};
pub(crate) use policies::load_policy;
pub use policies::{FoundPolicies, LoadedPolicy, load_policies, named_policy, policy_names};
pub use search::{BACKEND_PATH_VARIABLE, PluginSearch, SearchPlace};

/// What [`load`] came back with.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// The backends, in search order, at most one of each name.
    pub loaded: Vec<LoadedBackend>,
    /// The files and folders that could not be used, in search order.
    pub refused: Vec<RefusedPlugin>,
    /// Where was looked, in search order; places that do not exist included.
    pub searched: Vec<SearchPlace>,
}

/// A backend out of a plugin file.
#[non_exhaustive]
pub struct LoadedBackend {
    /// The backend; its code stays mapped until the program ends.
    pub backend: Box<dyn Backend>,
    /// Its name and version.
    pub info: BackendInfo,
    /// The plugin file, as it was found.
    pub file: PathBuf,
    /// The compiler that built it, as `rustc --version` prints it.
    pub rustc: String,
}

impl fmt::Debug for LoadedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedBackend")
            .field("info", &self.info)
            .field("file", &self.file)
            .field("rustc", &self.rustc)
            .finish_non_exhaustive()
    }
}

/// A file or a folder that could not be used.
#[derive(Debug)]
#[non_exhaustive]
pub struct RefusedPlugin {
    /// Which.
    pub file: PathBuf,
    /// Why, and what to do about it.
    pub error: LoadError,
}

/// Loads every plugin that `search` finds.
///
/// Of two plugins of one name the first in search order wins and the other is refused; one file found through two places is loaded once.
/// Never fails as a whole: what cannot be used is in [`Found::refused`].
pub fn load(search: &PluginSearch) -> Found {
    let mut found = Found { searched: search.places(), ..Found::default() };
    let mut file_of_name = BTreeMap::new();
    for file in files(&found.searched, PluginKind::Backend) {
        let (file, canonical, name) = match file {
            Ok(file) => file,
            Err(refused) => {
                found.refused.push(refused);
                continue;
            }
        };
        match load_file(&canonical, name.as_deref(), &file_of_name) {
            Ok((backend, rustc)) => {
                let info = backend.info();
                file_of_name.insert(info.name.clone(), file.clone());
                found.loaded.push(LoadedBackend { backend, info, file, rustc });
            }
            // Somebody named it for what it is.
            Err(LoadErrorKind::OtherKind { .. }) if name.is_none() => {}
            Err(kind) => found.refused.push(refusal(file, kind)),
        }
    }
    found
}

/// A file to be tried: as found, its absolute path, and the name that it must have.
type File = (PathBuf, PathBuf, Option<String>);

/// The files to be tried, in search order, each once, and the places that cannot be looked at.
fn files(places: &[SearchPlace], kind: PluginKind) -> impl Iterator<Item = Result<File, RefusedPlugin>> {
    let mut seen = BTreeSet::new();
    let found = places.iter().flat_map(move |place| match search::candidates(place, kind) {
        Ok(candidates) => candidates.into_iter().map(Ok).collect(),
        Err(kind) => vec![Err(refusal(place.path.clone(), kind))],
    });
    found.filter_map(move |candidate| match candidate {
        Ok(search::Candidate { file, name }) => {
            // A dangling link has no canonical path; opening it gives the better error.
            let canonical = file.canonicalize().unwrap_or_else(|_| file.clone());
            seen.insert(canonical.clone()).then_some(Ok((file, canonical, name)))
        }
        Err(refused) => Some(Err(refused)),
    })
}

/// Loads the plugin of one file, whatever it is called.
///
/// # Errors
/// [`LoadError`] when it cannot be used.
pub(crate) fn load_one(file: &Path) -> Result<Box<dyn Backend>, LoadError> {
    let failed = |kind| LoadError { file: file.to_owned(), kind };
    let path = file.canonicalize().map_err(|error| failed(io_kind("find", error)))?;
    load_file(&path, None, &BTreeMap::new()).map(|(backend, _)| backend).map_err(failed)
}

fn refusal(file: PathBuf, kind: LoadErrorKind) -> RefusedPlugin {
    RefusedPlugin { error: LoadError { file: file.clone(), kind }, file }
}

/// Takes one file through the gates. `path` is absolute, or the dynamic linker would look for it in places of its own. `name` is what the file must
/// be called within, where its file name says so.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn load_file(
    path: &Path,
    name: Option<&str>,
    file_of_name: &BTreeMap<String, PathBuf>,
) -> Result<(Box<dyn Backend>, String), LoadErrorKind> {
    let described = file::describe(path, PluginKind::Backend, name)?;
    let name = described.identity.name();
    // Before the file is mapped, so that the constructors of a plugin that nobody wants do not run.
    if let Some(first) = file_of_name.get(&name) {
        return Err(LoadErrorKind::Duplicate { kind: PluginKind::Backend, name, first: first.clone() });
    }
    let backend = library::open(path, &described)?;
    let found = backend.info().name;
    if found != name {
        return Err(LoadErrorKind::OwnName { kind: PluginKind::Backend, expected: name, found });
    }
    Ok((backend, described.identity.rustc()))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn load_file(_: &Path, _: Option<&str>, _: &BTreeMap<String, PathBuf>) -> Result<(Box<dyn Backend>, String), LoadErrorKind> {
    Err(LoadErrorKind::UnsupportedHost { host: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH) })
}

/// The kind of an operating system's error: the one that everybody meets gets words of its own.
fn io_kind(operation: &'static str, error: io::Error) -> LoadErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => LoadErrorKind::Missing,
        _ => LoadErrorKind::Io { operation, error },
    }
}
