//! The file of models: one for each machine, in the user's cache folder, shared by all programs of the user.
//!
//! It is written beside its place and renamed, so whoever reads finds all of one or all of another. Who writes has the folder's lock (`flock`) meanwhile, reads the
//! file again, and puts only what was measured since into what it finds; so of two programs that end at once both are heard. Whatever goes wrong, the runtime goes
//! on with what it has measured itself, and the caller gets one text to pass on.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poniard_interface::type_key::{FNV_OFFSET, fnv};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::curve::{Curve, Fresh};
use super::machine::Machine;
use super::text::{Kept, KeptCurve, TEXT_BYTES_MAX};
use super::{ExecutionModel, LinkModel};

/// How often the lock is tried for: somebody who has it needs milliseconds.
const LOCK_TRIES_MAX: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// All that is known.
#[derive(Debug)]
pub struct Models {
    /// Of code.
    pub executions: ExecutionModel,
    /// Of transfers.
    pub links: LinkModel,
}

impl Models {
    /// Nothing is known yet. CPU time may be `thread_count` times wall time.
    #[must_use]
    pub fn new(thread_count: usize) -> Self {
        Self { executions: ExecutionModel::new(thread_count), links: LinkModel::new() }
    }
}

/// Why models were not read or not kept. The runtime goes on without.
#[derive(Debug, thiserror::Error)]
#[error("models of costs, {}: {kind}", path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub kind: StoreErrorKind,
}

/// What happened to a file of models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be read.
    #[error("the file cannot be read ({0}); costs are measured anew and not kept")]
    Read(io::Error),
    /// It is not what it should be.
    #[error("the file is damaged ({reason}); {}, and costs are measured anew", set_aside(.aside))]
    Damaged {
        /// What is wrong with it.
        reason: String,
        /// Where it is now; nowhere else if nobody tried.
        aside: Option<Result<PathBuf, io::Error>>,
    },
    /// It cannot be written: no rights, no room.
    #[error("the file cannot be written ({0}); what was measured is not kept")]
    Write(io::Error),
    /// Somebody else has been writing for too long.
    #[error("another program has the folder's lock and keeps it; what was measured is not kept")]
    Locked,
}

fn set_aside(aside: &Option<Result<PathBuf, io::Error>>) -> String {
    match aside {
        None => "it was left where it is".into(),
        Some(Ok(path)) => format!("it is {} now", path.display()),
        Some(Err(error)) => format!("it could not be set aside ({error})"),
    }
}

/// Where users keep what can be made again: `poniard/models` in `XDG_CACHE_HOME` or `~/.cache`, if that can be told.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(base.join("poniard/models"))
}

/// The files of models in a folder, and those that were set aside, in the order of their names.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let identity = name.split_once(".v").filter(|(_, rest)| rest.ends_with(".txt") || rest.contains(".txt.damaged-"));
        if identity.is_some_and(|(identity, _)| identity.len() == 16 && identity.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file of models, and leaves it as it is.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read(path: &Path) -> Result<Kept, StoreError> {
    match read_text(path) {
        Ok(text) => text.and_then(|text| Kept::parse(&text)).map_err(|reason| StoreErrorKind::Damaged { reason, aside: None }),
        Err(error) => Err(StoreErrorKind::Read(error)),
    }
    .map_err(|kind| StoreError { path: path.to_owned(), kind })
}

/// The file's text, or what is wrong with it.
fn read_text(path: &Path) -> io::Result<Result<String, String>> {
    // To open a pipe would wait for somebody to write.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Ok(Err(format!("it has more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8(bytes).map_err(|_| "it is no text".into()))
}

/// The file of one machine.
#[derive(Debug)]
pub struct Store {
    /// Nowhere, if nothing is kept.
    path: Option<PathBuf>,
    machine: Machine,
    /// There is something in the file's place that cannot be read, and that has been said: it is left alone.
    is_unusable: AtomicBool,
}

impl Store {
    /// The file of `machine` in `folder`, which is made when something is first kept. Without a folder nothing is read or kept.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, machine: Machine) -> Self {
        let path = folder.map(|folder| folder.join(machine.file_name()));
        Self { path, machine, is_unusable: AtomicBool::new(false) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Adds what the file has to `models`. What has been measured already counts more.
    ///
    /// # Errors
    /// When there is a file that cannot be used. A damaged one has been set aside, and the next one is made in its place.
    pub fn load(&self, models: &Models) -> Result<(), StoreError> {
        let Some(path) = &self.path else { return Ok(()) };
        let found = match read(path) {
            Err(StoreError { kind: StoreErrorKind::Damaged { reason, .. }, .. }) => match Lock::take(path) {
                // Under the lock it may turn out that somebody has replaced it.
                Ok(_lock) => Self::read_or_set_aside(path),
                Err(StoreErrorKind::Write(error)) => Err(StoreErrorKind::Damaged { reason, aside: Some(Err(error)) }),
                Err(_) => Err(StoreErrorKind::Damaged { reason, aside: None }),
            },
            Err(StoreError { kind: StoreErrorKind::Read(error), .. }) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some).map_err(|error| error.kind),
        };
        load(models, found.map_err(|kind| self.error(path, kind))?.unwrap_or_default());
        Ok(())
    }

    /// Keeps what was measured since `models` were loaded or kept last. It costs a few milliseconds.
    ///
    /// # Errors
    /// When it could not be kept, or when it was and a damaged file had to be set aside.
    pub fn save(&self, models: &Models) -> Result<(), StoreError> {
        let Some(path) = self.path.as_ref().filter(|_| !self.is_unusable.load(Ordering::Relaxed)) else { return Ok(()) };
        let codes: Vec<_> = models.executions.codes().into_iter().map(|(code, class, model)| ((code, class), model)).collect();
        let links: Vec<_> = models.links.links().into_iter().map(|(from, to, link)| ((from, to), link)).collect();
        let is_new = |curve: &Curve| curve.fresh().iter().any(Fresh::is_new);
        if !codes.iter().any(|(_, model)| is_new(&model.curve)) && !links.iter().any(|(_, link)| is_new(&link.curve)) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| self.error(path, StoreErrorKind::Write(error)))?;
        }
        let _lock = Lock::take(path).map_err(|kind| self.error(path, kind))?;
        let (mut kept, damaged) = match Self::read_or_set_aside(path) {
            Ok(kept) => (kept.unwrap_or_default(), None),
            Err(kind @ StoreErrorKind::Damaged { aside: Some(Ok(_)), .. }) => (Kept::default(), Some(kind)),
            Err(kind) => return Err(self.error(path, kind)),
        };
        kept.machine = self.machine.as_str().to_owned();
        kept.generation = kept.generation.saturating_add(1);
        let now = kept.generation;
        let mut done = Vec::new();
        for (key, model) in &codes {
            let generation = model.generation(now);
            put(kept.codes.entry(key.clone()).or_default(), generation, &model.curve, &mut done);
        }
        for (key, link) in &links {
            put(kept.links.entry(key.clone()).or_default(), now, &link.curve, &mut done);
        }
        kept.codes.retain(|_, curve| !curve.classes.is_empty());
        kept.links.retain(|_, curve| !curve.classes.is_empty());
        replace(path, kept.text().as_bytes()).map_err(|error| self.error(path, StoreErrorKind::Write(error)))?;
        done.iter().for_each(|(curve, fresh, summary)| curve.kept(fresh, summary));
        damaged.map_or(Ok(()), |kind| Err(self.error(path, kind)))
    }

    /// What the file has, if there is one. A damaged one is set aside. Whoever calls this has the lock.
    fn read_or_set_aside(path: &Path) -> Result<Option<Kept>, StoreErrorKind> {
        match read(path).map_err(|error| error.kind) {
            Ok(kept) => Ok(Some(kept)),
            Err(StoreErrorKind::Read(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(StoreErrorKind::Damaged { reason, .. }) => {
                // The name says what is in it, so the same damage takes no more room when it comes again. Not all of a file that somebody else put there is looked at.
                let mut content = Vec::new();
                let _ = File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX as u64).read_to_end(&mut content));
                let aside = path.with_added_extension(format!("damaged-{:08x}", fnv(FNV_OFFSET, &content) as u32));
                Err(StoreErrorKind::Damaged { reason, aside: Some(fs::rename(path, &aside).map(|()| aside)) })
            }
            Err(kind) => Err(kind),
        }
    }

    /// An error, after which what cannot be read is left alone.
    fn error(&self, path: &Path, kind: StoreErrorKind) -> StoreError {
        if matches!(kind, StoreErrorKind::Read(_) | StoreErrorKind::Damaged { aside: Some(Err(_)), .. }) {
            self.is_unusable.store(true, Ordering::Relaxed);
        }
        StoreError { path: path.to_owned(), kind }
    }
}

/// Adds what a file has.
fn load(models: &Models, kept: Kept) {
    for ((code, class), curve) in kept.codes {
        let model = models.executions.entry(&code, &class);
        model.set_generation(curve.generation);
        model.curve.load(curve.classes.into_values());
    }
    for ((from, to), curve) in kept.links {
        models.links.entry(&from, &to).curve.load(curve.classes.into_values());
    }
}

/// Puts what `curve` has into what the file has, and notes what will be true when that is written.
fn put<'a>(kept: &mut KeptCurve, generation: u64, curve: &'a Curve, done: &mut Vec<(&'a Curve, Fresh, super::Summary)>) {
    kept.generation = kept.generation.max(generation);
    for fresh in curve.fresh() {
        if let Some(summary) = fresh.over(kept.classes.get(&fresh.size)) {
            kept.classes.insert(fresh.size, summary);
            done.push((curve, fresh, summary));
        }
    }
}

/// Writes a file in whole or not at all. Whoever calls this has the lock, so the temporary name is nobody else's; one that was left behind is used again.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    let done = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}

/// The lock of a folder, until it is dropped. It is advisory: it keeps programs of ours from each other.
struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock, but not for ever.
    fn take(path: &Path) -> Result<Self, StoreErrorKind> {
        let file =
            File::options().create(true).truncate(false).write(true).open(path.with_file_name(".lock")).map_err(StoreErrorKind::Write)?;
        for _ in 0..LOCK_TRIES_MAX {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                // File systems without locks: what is written last is kept.
                Ok(()) | Err(_) => return Ok(Self { _file: file }),
            }
        }
        Err(StoreErrorKind::Locked)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CodeId, Estimate, Measurement, ProcessorClass};
    use super::*;

    /// A program that has measured `ns` so often, for `bytes`.
    fn measure(models: &Models, name: &str, bytes: u64, ns: u64, count: usize) {
        let model = models.executions.resolve(&CodeId::new(name, 1), &ProcessorClass::new("cpu"));
        (0..count).for_each(|_| model.record(bytes, Measurement { wall_ns: ns, cpu_ns: Some(ns / 2) }));
    }

    fn estimate(models: &Models, name: &str, bytes: u64) -> Estimate {
        models.executions.resolve(&CodeId::new(name, 1), &ProcessorClass::new("cpu")).estimate(bytes)
    }

    /// A folder, and the file that will be in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er").join(machine().file_name());
        (folder, path)
    }

    fn machine() -> Machine {
        Machine::new("a test, 3 processors")
    }

    /// A program that has started with what `path` has.
    fn started(path: &Path) -> (Models, Store) {
        let (models, store) = (Models::new(4), Store::new(path.parent().map(Path::to_owned), machine()));
        store.load(&models).unwrap();
        (models, store)
    }

    #[track_caller]
    fn check_names(path: &Path, expected: &[&str]) {
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_next_program_knows_it() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        store.save(&models).unwrap();
        assert!(!path.exists(), "there is nothing to keep");
        measure(&models, "blur", 4096, 1000, 20);
        models.links.name_space(0, "host");
        models.links.name_space(1, "vulkan-0");
        models.links.record(0, 1, 1 << 20, 77_000);
        models.links.record(0, 2, 1 << 20, 1);
        store.save(&models).unwrap();
        check_names(&path, &[".lock", &machine().file_name()]);
        let before = fs::read(&path).unwrap();
        store.save(&models).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before, "nothing is new");

        let (again, store) = started(&path);
        let found = estimate(&again, "blur", 4096);
        assert_eq!((found.mean_ns, found.count), (1000, 20));
        again.links.name_space(5, "vulkan-0");
        again.links.name_space(0, "host");
        assert_eq!(again.links.estimate(0, 5, 1 << 20).mean_ns, 77_000);
        measure(&again, "blur", 4096, 1000, 3);
        store.save(&again).unwrap();
        let kept = read(&path).unwrap();
        assert_eq!((kept.generation, kept.machine.as_str(), kept.codes.len(), kept.links.len()), (2, "a test, 3 processors", 1, 1));
        let curve = kept.codes.values().next().unwrap();
        let summary = curve.classes.values().next().unwrap();
        assert_eq!((curve.generation, summary.count, summary.cpu_share), (2, 23, Some(0.5)));
        assert_eq!(files(path.parent().unwrap()).unwrap(), [path]);
    }

    #[test]
    fn off_is_off() {
        let (models, store) = (Models::new(1), Store::new(None, machine()));
        store.load(&models).unwrap();
        measure(&models, "blur", 1, 1, 1);
        store.save(&models).unwrap();
        assert_eq!(store.path(), None);
    }

    #[test]
    fn what_is_not_used_keeps_its_generation() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "old", 10, 1000, 1);
        store.save(&models).unwrap();
        for _ in 0..3 {
            let (models, store) = started(&path);
            measure(&models, "new", 10, 1000, 1);
            store.save(&models).unwrap();
        }
        let kept = read(&path).unwrap();
        let generations: Vec<_> = kept.codes.iter().map(|((code, _), curve)| (&*code.name, curve.generation)).collect();
        assert_eq!(generations, [("new", 4), ("old", 1)]);
    }

    #[test]
    fn programs_that_end_at_once_are_all_heard_in_any_order() {
        let merged = |order: [usize; 2]| {
            let (_folder, path) = place();
            let programs = [started(&path), started(&path)];
            for ((models, _), (own, ns, count)) in programs.iter().zip([("a", 1000, 30), ("b", 3000, 10)]) {
                measure(models, own, 10, 5, 1);
                measure(models, "both", 10, ns, count);
            }
            for index in order {
                let (models, store) = &programs[index];
                store.save(models).unwrap();
            }
            // Whoever was last knows what the other one knew.
            assert_eq!(estimate(&programs[order[1]].0, "both", 10).count, 40);
            let mut kept = read(&path).unwrap();
            // When each was written is all that may differ.
            kept.codes.values_mut().for_each(|curve| curve.generation = 0);
            kept
        };
        let (one, other) = (merged([0, 1]), merged([1, 0]));
        assert_eq!(one, other);
        let both = &one.codes[&(CodeId::new("both", 1), ProcessorClass::new("cpu"))].classes.values().next().unwrap();
        assert_eq!((one.codes.len(), both.count, both.mean_ns), (3, 40, 1500.0));
    }

    #[test]
    fn nothing_is_lost_when_many_write() {
        let (_folder, path) = place();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let (models, store) = started(path);
                    for _ in 0..10 {
                        measure(&models, "both", 10, 1000, 5);
                        measure(&models, &format!("own {thread}"), 10, 1000, 5);
                        // On a machine that is busy the others may have the lock for long.
                        while let Err(error) = store.save(&models) {
                            assert!(matches!(error.kind, StoreErrorKind::Locked), "{error}");
                        }
                    }
                });
            }
        });
        let counts: Vec<u64> = read(&path).unwrap().codes.values().map(|curve| curve.classes.values().next().unwrap().count).collect();
        assert_eq!(counts, [200, 50, 50, 50, 50]);
    }

    #[test]
    fn what_was_learnt_anew_replaces_what_is_not_true_any_more() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "blur", 10, 1000, 500);
        store.save(&models).unwrap();
        let (slower, store) = started(&path);
        measure(&slower, "blur", 10, 5000, 20);
        let (other, other_store) = started(&path);
        measure(&other, "blur", 10, 1000, 1);
        other_store.save(&other).unwrap();
        store.save(&slower).unwrap();
        let (again, _) = started(&path);
        assert_eq!(estimate(&again, "blur", 10).mean_ns, 5000);
    }

    #[test]
    fn what_was_cleared_stays_away_unless_it_is_measured_again() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "a", 10, 1000, 5);
        measure(&models, "b", 10, 1000, 5);
        store.save(&models).unwrap();
        fs::remove_file(&path).unwrap();
        measure(&models, "b", 10, 1000, 5);
        store.save(&models).unwrap();
        let names: Vec<_> = read(&path).unwrap().codes.into_keys().map(|(code, _)| code.name).collect();
        assert_eq!(names, ["b".into()]);
    }

    /// The runtime goes on without a file with this content, says so, and the next one finds a good file.
    #[track_caller]
    fn check_damaged(content: &[u8], said: &str) {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let (models, store) = (Models::new(1), Store::new(path.parent().map(Path::to_owned), machine()));
        let error = store.load(&models).expect_err("a damaged file").to_string();
        let file = path.display().to_string();
        for part in ["models of costs, ", &file, "the file is damaged", said, ".damaged-", " now, and costs are measured anew"] {
            assert!(error.contains(part), "no {part} in {error}");
        }
        let aside = files(path.parent().unwrap()).unwrap();
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read(&aside[0]).unwrap(), content, "nothing is lost");
        measure(&models, "blur", 10, 1000, 5);
        store.save(&models).unwrap();
        started(&path);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "blur", 10, 1000, 5);
        store.save(&models).unwrap();
        let whole = fs::read(&path).unwrap();
        check_damaged(&whole[..whole.len() - 1], "its checksum does not fit");
        check_damaged(&whole[..40], "it has no checksum");
        check_damaged(b"", "does not begin like");
        check_damaged(b"poniard-models 9\nchecksum\t0\n", "version 9, and version 1 is expected");
        check_damaged(b"\xff\xfe", "it is no text");
        check_damaged(&vec![b'x'; TEXT_BYTES_MAX + 1], "more than 4194304 bytes");

        // Found at the end only.
        fs::write(&path, "rubbish").unwrap();
        measure(&models, "blur", 10, 1000, 5);
        let error = store.save(&models).expect_err("a damaged file").to_string();
        assert!(error.contains(".damaged-"), "{error}");
        let kept = read(&path).unwrap();
        assert_eq!(kept.codes.values().next().unwrap().classes.values().next().unwrap().count, 10, "it is kept all the same");
    }

    #[test]
    fn what_cannot_be_read_or_set_aside_is_left_alone() {
        let (_folder, path) = place();
        fs::create_dir_all(&path).unwrap();
        let (models, store) = (Models::new(1), Store::new(path.parent().map(Path::to_owned), machine()));
        let error = store.load(&models).expect_err("a folder").to_string();
        assert!(error.contains("cannot be read (it is no regular file)"), "{error}");
        measure(&models, "blur", 10, 1000, 5);
        store.save(&models).expect("it has been said once");
        assert!(path.is_dir());

        fs::remove_dir(&path).unwrap();
        fs::write(&path, "rubbish").unwrap();
        let aside = path.with_added_extension(format!("damaged-{:08x}", fnv(FNV_OFFSET, b"rubbish") as u32));
        fs::create_dir_all(aside.join("in the way")).unwrap();
        let (models, store) = (Models::new(1), Store::new(path.parent().map(Path::to_owned), machine()));
        let error = store.load(&models).expect_err("a damaged file").to_string();
        assert!(error.contains("it could not be set aside ("), "{error}");
        measure(&models, "blur", 10, 1000, 5);
        store.save(&models).expect("it has been said once");
        assert_eq!(fs::read(&path).unwrap(), b"rubbish");
    }

    #[test]
    fn a_full_disk_and_no_folder_are_said_and_lose_nothing_old() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "blur", 10, 1000, 5);
        store.save(&models).unwrap();
        let before = fs::read(&path).unwrap();
        // Writing there finds no room.
        std::os::unix::fs::symlink("/dev/full", path.with_added_extension("new")).unwrap();
        measure(&models, "blur", 10, 1000, 5);
        let error = store.save(&models).expect_err("a full disk").to_string();
        assert!(error.contains("cannot be written (No space left on device"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        check_names(&path, &[".lock", &machine().file_name()]);
        store.save(&models).expect("there is room again");
        assert_eq!(estimate(&started(&path).0, "blur", 10).count, 10);

        let nowhere = Store::new(Some("/dev/null/x".into()), machine());
        nowhere.load(&models).expect_err("no folder");
        let nowhere = Store::new(Some("/proc/nothing".into()), machine());
        nowhere.load(&models).expect("no file yet");
        measure(&models, "blur", 10, 1000, 5);
        let error = nowhere.save(&models).expect_err("no folder").to_string();
        assert_eq!(files(Path::new("/nowhere/at/all")).unwrap(), Vec::<PathBuf>::new());
        assert!(error.contains("/proc/nothing/") && error.contains("cannot be written"), "{error}");
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for_for_ever() {
        let (_folder, path) = place();
        let (models, store) = started(&path);
        measure(&models, "blur", 10, 1000, 5);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lock = Lock::take(&path).unwrap();
        let error = store.save(&models).expect_err("somebody has the lock").to_string();
        assert!(error.contains("another program has the folder's lock"), "{error}");
        drop(lock);
        store.save(&models).unwrap();
    }
}
