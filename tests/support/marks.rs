//! What bodies leave in files, so that it is seen in whatever process they run.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

/// Between two looks at a file.
const PAUSE: Duration = Duration::from_millis(1);
const LOG: &str = "log";
const BEGUN: &str = "begun";
const OPEN: &str = "open";

/// A folder in which bodies note numbers, in order, and wait to be let go. Bodies get its path as an argument.
#[derive(Debug)]
pub struct Marks(TempDir);

impl Marks {
    /// An empty folder.
    ///
    /// # Panics
    /// When it cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        match tempfile::tempdir() {
            Ok(folder) => Self(folder),
            Err(error) => panic!("no folder for marks: {error}"),
        }
    }

    /// What bodies get.
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// The numbers that were noted, in order.
    pub fn noted(&self) -> Vec<u64> {
        noted(self.0.path())
    }

    /// Waits until `count` numbers were noted; for ever, if that never happens.
    pub fn wait_for(&self, count: usize) {
        while self.noted().len() < count {
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until a body of [`hold`] has begun.
    pub fn wait_until_held(&self) {
        while !self.0.path().join(BEGUN).exists() {
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets bodies of [`hold`] end.
    ///
    /// # Panics
    /// When the file that says so cannot be made.
    pub fn open(&self) {
        mark(self.0.path(), OPEN);
    }
}

fn mark(folder: &Path, name: &str) {
    if let Err(error) = fs::write(folder.join(name), "") {
        panic!("the mark `{name}` in {}: {error}", folder.display());
    }
}

/// Notes a number. One that was noted later, by whatever process, comes later.
///
/// # Panics
/// When the file cannot be written.
pub fn note(folder: &Path, number: u64) {
    let opened = OpenOptions::new().append(true).create(true).open(folder.join(LOG));
    // One write each, so that they do not mix.
    if let Err(error) = opened.and_then(|mut log| log.write_all(&number.to_ne_bytes())) {
        panic!("a note in {}: {error}", folder.display());
    }
}

/// The numbers that were noted, in order; none where there is no folder.
pub fn noted(folder: &Path) -> Vec<u64> {
    let bytes = fs::read(folder.join(LOG)).unwrap_or_default();
    bytes.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect()
}

/// A body that says that it has begun and ends when it is let go, or when nobody can let it go any more.
///
/// # Panics
/// When it cannot say so.
pub fn hold(folder: PathBuf) {
    mark(&folder, BEGUN);
    while folder.exists() && !folder.join(OPEN).exists() {
        std::thread::sleep(PAUSE);
    }
}

/// A body that notes 0 when it begins, and 1 when it has been told to stop; it then ends.
///
/// # Panics
/// When it cannot note that.
pub fn wait_until_told(folder: PathBuf) {
    note(&folder, 0);
    while !poniard::is_cancelled() {
        if !folder.exists() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    note(&folder, 1);
}
