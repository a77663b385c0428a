//! Where plugin files are looked for.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use poniard_interface::header::PluginKind;

use super::error::LoadErrorKind;
use super::io_kind;

/// The environment variable that names folders and plugin files, separated by colons.
pub const BACKEND_PATH_VARIABLE: &str = "PONIARD_BACKEND_PATH";

/// What the names of plugin files end with.
const FILE_SUFFIX: &str = ".so";

/// Where to look for plugin files, in this order:
///
/// 1. the paths given by [`with_path`](Self::with_path), first given first;
/// 2. the folders and files in the environment variable `PONIARD_BACKEND_PATH`, separated by colons;
/// 3. the folder of the running program;
/// 4. the folder of installed plugins, `../lib/poniard` from there.
///
/// In a folder the files called `libponiard_backend_<name>.so` are tried, or for policies `libponiard_policy_<name>.so`, in order of their names, and no others. A file that is named itself is tried
/// whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSearch {
    given: Vec<PathBuf>,
    environment: Vec<PathBuf>,
    executable_folder: Option<PathBuf>,
}

/// One place of a [`PluginSearch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchPlace {
    /// A folder or a plugin file; perhaps there is nothing there.
    pub path: PathBuf,
    /// Why it is looked at, for people: `beside the executable`.
    pub reason: &'static str,
    /// Whether it is an error that nothing is there: the program or the user named just this path.
    pub required: bool,
}

impl Default for PluginSearch {
    fn default() -> Self {
        Self::standard()
    }
}

impl PluginSearch {
    /// The places of the environment and of the running program, read now.
    pub fn standard() -> Self {
        let mut search = Self::none();
        if let Some(value) = env::var_os(BACKEND_PATH_VARIABLE) {
            search = search.with_environment(&value);
        }
        // A program that does not know where it lies has no plugins beside it.
        match env::current_exe() {
            Ok(executable) => search.with_executable(&executable),
            Err(_) => search,
        }
    }

    /// No place but those that are added.
    pub fn none() -> Self {
        Self { given: Vec::new(), environment: Vec::new(), executable_folder: None }
    }

    /// Adds a plugin file, of any name, or a folder. It is searched before the environment's places, and it is an error if it does not exist.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.given.push(path.into());
        self
    }

    /// Searches as if `PONIARD_BACKEND_PATH` had this value. Empty parts are ignored.
    #[must_use]
    pub fn with_environment(mut self, value: impl AsRef<OsStr>) -> Self {
        self.environment = env::split_paths(value.as_ref()).filter(|path| !path.as_os_str().is_empty()).collect();
        self
    }

    /// Searches as if `executable` were the running program.
    #[must_use]
    pub fn with_executable(mut self, executable: impl AsRef<Path>) -> Self {
        self.executable_folder = executable.as_ref().parent().map(Path::to_path_buf);
        self
    }

    /// The places in search order.
    pub fn places(&self) -> Vec<SearchPlace> {
        let given = self.given.iter().map(|path| SearchPlace { path: path.clone(), reason: "given explicitly", required: true });
        let environment = self.environment.iter().map(|path| SearchPlace {
            path: path.clone(),
            reason: "named by PONIARD_BACKEND_PATH",
            required: false,
        });
        let beside =
            self.executable_folder.iter().map(|path| SearchPlace { path: path.clone(), reason: "beside the executable", required: false });
        let installed = self.executable_folder.iter().filter_map(|folder| folder.parent()).map(|prefix| SearchPlace {
            path: prefix.join("lib").join("poniard"),
            reason: "where plugins are installed",
            required: false,
        });
        given.chain(environment).chain(beside).chain(installed).collect()
    }
}

/// A file to be tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its path.
    pub(super) file: PathBuf,
    /// The name that its backend or policy must have: what the file name says, unless the file was named itself.
    pub(super) name: Option<String>,
}

/// The files to be tried at `place`, in order.
pub(super) fn candidates(place: &SearchPlace, kind: PluginKind) -> Result<Vec<Candidate>, LoadErrorKind> {
    let metadata = match fs::metadata(&place.path) {
        Ok(metadata) => metadata,
        Err(error) if !place.required && is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(io_kind("look at it", error)),
    };
    if !metadata.is_dir() {
        return Ok(vec![Candidate { file: place.path.clone(), name: None }]);
    }
    let mut candidates = Vec::new();
    for entry in fs::read_dir(&place.path).map_err(|error| io_kind("list the folder", error))? {
        let entry = entry.map_err(|error| io_kind("list the folder", error))?;
        if let Some(name) = plugin_name(&entry.file_name(), kind) {
            candidates.push(Candidate { file: entry.path(), name: Some(name) });
        }
    }
    // The order in which a folder lists its files is an accident of the file system.
    candidates.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(candidates)
}

/// Whether nothing is there; `lib/poniard` below a file called `lib` is nothing too.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The `<name>` of `libponiard_backend_<name>.so`.
fn plugin_name(file_name: &OsStr, kind: PluginKind) -> Option<String> {
    // A name that is no text has replacement characters here, which no header has: such a file is refused in words.
    let file_name = file_name.to_string_lossy();
    let name = file_name.strip_prefix(kind.file_prefix())?.strip_suffix(FILE_SUFFIX)?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_in_the_documented_order() {
        let search = PluginSearch::none()
            .with_executable("/opt/poniard/bin/poniard")
            .with_environment("/env/one::/env/two.so")
            .with_path("/given/b")
            .with_path("/given/a");
        let places: Vec<_> =
            search.places().into_iter().map(|place| (place.path.display().to_string(), place.reason, place.required)).collect();
        let expected = [
            ("/given/b", "given explicitly", true),
            ("/given/a", "given explicitly", true),
            ("/env/one", "named by PONIARD_BACKEND_PATH", false),
            ("/env/two.so", "named by PONIARD_BACKEND_PATH", false),
            ("/opt/poniard/bin", "beside the executable", false),
            ("/opt/poniard/lib/poniard", "where plugins are installed", false),
        ];
        assert_eq!(places, expected.map(|(path, reason, required)| (path.to_owned(), reason, required)));
    }

    #[test]
    fn the_standard_search_begins_beside_the_executable_and_none_is_empty() {
        let folder = env::current_exe().unwrap().parent().unwrap().to_path_buf();
        assert!(PluginSearch::standard().places().iter().any(|place| place.path == folder && place.reason == "beside the executable"));
        assert_eq!(PluginSearch::default(), PluginSearch::standard());
        assert_eq!(PluginSearch::none().places(), []);
    }

    #[test]
    fn only_files_with_the_prefix_are_candidates_in_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "libponiard_backend_b.so",
            "libponiard_backend_a.so",
            "libponiard_backend_.so",
            "libponiard_backend_a.so.old",
            "libponiard_policy_a.so",
            "libother.so",
            "readme.txt",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let place = SearchPlace { path: folder.path().to_path_buf(), reason: "test", required: false };
        for (kind, names) in [(PluginKind::Backend, &["a", "b"][..]), (PluginKind::Policy, &["a"])] {
            let found: Vec<_> =
                candidates(&place, kind).unwrap().into_iter().map(|candidate| (candidate.file, candidate.name.unwrap())).collect();
            let file = |name: &str| folder.path().join(format!("libponiard_{kind}_{name}.so"));
            assert_eq!(found, names.iter().map(|name| (file(name), (*name).to_owned())).collect::<Vec<_>>());
        }
    }
}
