//! An installation in a temporary folder, and what the command answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The name of the plugin file.
pub(crate) const PLUGIN: &str = "libponiard_backend_threads.so";
/// That of worker processes.
const PROCESS_PLUGIN: &str = "libponiard_backend_process.so";
/// That of a policy, and what cargo calls it.
pub(crate) const POLICY_PLUGIN: &str = "libponiard_policy_longest-first.so";
const POLICY_BUILT: &str = "libponiard_plugin_policy_example.so";
/// That of Vulkan devices.
pub(crate) const VULKAN_PLUGIN: &str = "libponiard_backend_vulkan.so";

/// `bin/poniard`, `lib/poniard/*.so` and an empty folder `work`, in which the command runs.
pub(crate) struct Installation {
    root: TempDir,
}

/// What the command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Installation {
    /// With the plugin of threads.
    pub(crate) fn new() -> Self {
        let installation = Self::without_plugins();
        put(&built_plugin(), &installation.plugins().join(PLUGIN));
        installation
    }

    /// With the plugins of threads and of worker processes.
    pub(crate) fn with_processes() -> Self {
        let installation = Self::new();
        put(&built(PROCESS_PLUGIN), &installation.plugins().join(PROCESS_PLUGIN));
        installation
    }

    /// With the plugins of threads and of a policy.
    pub(crate) fn with_policy() -> Self {
        let installation = Self::new();
        put(&built(POLICY_BUILT), &installation.plugins().join(POLICY_PLUGIN));
        installation
    }

    /// With the plugins of threads and of Vulkan devices.
    pub(crate) fn with_vulkan() -> Self {
        let installation = Self::new();
        put(&built(VULKAN_PLUGIN), &installation.plugins().join(VULKAN_PLUGIN));
        installation
    }

    /// With no plugin at all.
    pub(crate) fn without_plugins() -> Self {
        // In the target folder, where hard links to the built files can be made.
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for folder in ["bin", "lib/poniard", "work"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        put(Path::new(env!("CARGO_BIN_EXE_poniard")), &root.path().join("bin/poniard"));
        Self { root }
    }

    /// The whole installation.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where its plugins are.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.root().join("lib/poniard")
    }

    /// A file in the folder where the command runs.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root().join("work").join(name)
    }

    /// The names in the folder where the command runs.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.root().join("work"))
    }

    /// The command, without arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.root().join("bin/poniard"));
        command.env_remove("PONIARD_BACKEND_PATH").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        // What is compiled for devices, for the tests that follow.
        command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        command.env("TERM", "xterm-256color").current_dir(self.root().join("work")).stdin(Stdio::null());
        command
    }

    /// What the command answers to `arguments`, separated by spaces.
    pub(crate) fn ask(&self, arguments: &str) -> Answer {
        Answer::from(self.command().args(arguments.split_whitespace()).output().unwrap())
    }
}

impl Answer {
    /// Checks that all went well, and gives standard output.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Checks that all went well and that standard output holds JSON and nothing else.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let stdout = self.good();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Checks that the command failed with `code` and nothing but an error of one paragraph in which every one of `said` is.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "{self:#?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("RUST_BACKTRACE"), "{self:#?}");
        for words in said {
            assert!(self.stderr.contains(words), "no {words:?} in {self:#?}");
        }
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The plugin file that cargo built for these tests.
pub(crate) fn built_plugin() -> PathBuf {
    built(PLUGIN)
}

/// A plugin file that cargo built for these tests, by its name.
fn built(name: &str) -> PathBuf {
    let file = std::env::current_exe().unwrap().parent().unwrap().join(name);
    assert!(file.exists(), "cargo did not build {}", file.display());
    file
}

/// The names in `folder`, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes `target` the same file as `source`, or a copy where that cannot be. A link cannot fail with "text file busy" when it is run.
fn put(source: &Path, target: &Path) {
    if fs::hard_link(source, target).is_err() {
        fs::copy(source, target).unwrap();
    }
}
