//! Files that are written whole or not at all.
//!
//! A file is filled under a temporary name in the folder that it will be in and renamed when it is complete, so whoever looks finds the old file or the new
//! one. Making the temporary file is also the test whether the folder can be written, before a long computation rather than after it. What exists and is no
//! regular file, such as `/dev/full` or a pipe, cannot be replaced and is written straight.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::interrupt::with_temporaries;

/// What temporary files are called, up to some random letters. Not made of the final name, which may be as long as a name can be.
const TEMPORARY_PREFIX: &str = ".poniard-";

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be written: {reason}", file.display())]
pub struct OutputError {
    /// The file that the user asked for.
    file: PathBuf,
    /// Why not.
    reason: String,
}

impl OutputError {
    /// `file` could not be written, for `reason`.
    pub fn new(file: &Path, reason: impl ToString) -> Self {
        Self { file: file.to_owned(), reason: reason.to_string() }
    }
}

/// A file that has been promised to the user and does not have its final name yet.
///
/// Dropped without [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct OutputFile {
    /// The path as the user gave it.
    path: PathBuf,
    place: Place,
}

/// Where bytes go.
#[derive(Debug)]
enum Place {
    /// To a file beside the final one, renamed to it at the end.
    Beside { temporary: Temporary, target: PathBuf },
    /// To something that is no regular file.
    Straight(File),
    /// To this command's own standard output, by whatever name the user called it.
    Stdout,
}

impl OutputFile {
    /// Gets ready to write to `path`: a new file, an existing one whose owner and permissions it will have, or a device or pipe.
    ///
    /// # Errors
    /// When it is clear now that `path` could not be written: its folder is missing or read-only, or it is a folder itself.
    pub fn prepare(path: &Path) -> Result<Self, OutputError> {
        let failed = |reason: String| OutputError::new(path, reason);
        if path.as_os_str().is_empty() {
            return Err(OutputError { file: "(an empty path)".into(), reason: "it names no file".into() });
        }
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error.to_string())),
        };
        let place = match existing {
            Some(metadata) if metadata.is_dir() => return Err(failed("it is a folder".into())),
            Some(metadata) if is_stdout(path, &metadata) => Place::Stdout,
            Some(metadata) if !metadata.is_file() => {
                if metadata.file_type().is_socket() {
                    return Err(failed("it is a socket".into()));
                }
                Place::Straight(OpenOptions::new().write(true).open(path).map_err(|error| failed(error.to_string()))?)
            }
            Some(metadata) => {
                // A rename would replace even a file that its owner has protected; opening it asks whether we may.
                OpenOptions::new().write(true).open(path).map_err(|error| failed(error.to_string()))?;
                // Through links, so that the file is replaced and not the link to it.
                let target = fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
                let temporary = Temporary::beside(&target, 0o600).map_err(failed)?;
                temporary.take_after(&metadata).map_err(|error| failed(error.to_string()))?;
                Place::Beside { temporary, target }
            }
            None => {
                if path.as_os_str().as_bytes().ends_with(b"/") {
                    return Err(failed("there is no such folder, and a file's name does not end with a slash".into()));
                }
                if fs::symlink_metadata(path).is_ok() {
                    return Err(failed("it is a symbolic link to a file that does not exist".into()));
                }
                // As any program makes a file: readable and writable as far as the user's mask lets it.
                Place::Beside { temporary: Temporary::beside(path, 0o666).map_err(failed)?, target: path.to_owned() }
            }
        };
        Ok(Self { path: path.to_owned(), place })
    }

    /// Gets ready to put a file with permissions `mode` at `path`, in the place of whatever file or link is there.
    ///
    /// # Errors
    /// When the folder is missing or cannot be written, or a folder is in the way.
    pub fn replace(path: &Path, mode: u32) -> Result<Self, OutputError> {
        let failed = |reason: String| OutputError::new(path, reason);
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(failed("a folder of that name is in the way".into()));
        }
        let temporary = Temporary::beside(path, mode).map_err(failed)?;
        Ok(Self { path: path.to_owned(), place: Place::Beside { temporary, target: path.to_owned() } })
    }

    /// Whether the bytes go to this command's standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all that `contents` holds, still under the temporary name. Gives the number of bytes.
    ///
    /// # Errors
    /// When the bytes cannot be written, for instance because the disk is full, or `contents` cannot be read.
    pub fn fill(&mut self, mut contents: impl Read) -> Result<u64, OutputError> {
        let filled = match &mut self.place {
            Place::Beside { temporary, .. } => temporary.fill(&mut contents),
            Place::Straight(file) => io::copy(&mut contents, file),
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                match io::copy(&mut contents, &mut stdout).and_then(|bytes| stdout.flush().map(|()| bytes)) {
                    // The reader has seen enough, which is no error there; see `Console`.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
                    copied => copied,
                }
            }
        };
        filled.map_err(|error| OutputError::new(&self.path, error))
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// When it cannot be renamed; then nothing is left of it.
    pub fn commit(self) -> Result<(), OutputError> {
        match self.place {
            Place::Beside { temporary, target } => temporary.rename(&target).map_err(|error| OutputError::new(&self.path, error)),
            Place::Straight(_) | Place::Stdout => Ok(()),
        }
    }
}

/// A temporary file that an interrupt removes too.
#[derive(Debug)]
struct Temporary {
    /// `None` once it has its final name.
    file: Option<NamedTempFile>,
}

impl Temporary {
    /// An empty file in the folder of `target`; the user's mask takes away from `mode`. The error says what is wrong with the folder.
    fn beside(target: &Path, mode: u32) -> Result<Self, String> {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX).suffix(".part").permissions(fs::Permissions::from_mode(mode));
        // Made and listed in one go, or an interrupt between the two would leave it behind.
        let made = with_temporaries(|temporaries| {
            builder.tempfile_in(folder).inspect(|file| {
                temporaries.insert(file.path().to_owned());
            })
        });
        match made {
            Ok(file) => Ok(Self { file: Some(file) }),
            Err(error) => Err(folder_trouble(folder, &error)),
        }
    }

    /// Takes on the permissions of the file that this one will replace and, where we may give files away, its owner.
    fn take_after(&self, metadata: &Metadata) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // Only root may; for everybody else the new file is theirs, as with any editor that saves by renaming. Before the permissions, whose set-id bits
        // a change of owner clears.
        let _ = fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()));
        file.as_file().set_permissions(metadata.permissions())
    }

    fn fill(&mut self, contents: &mut impl Read) -> io::Result<u64> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let bytes = io::copy(contents, file.as_file_mut())?;
        // The name must not reach the disk before the bytes do, or a power cut leaves an empty file; some disks say only now that they are full.
        file.as_file().sync_all()?;
        Ok(bytes)
    }

    fn rename(mut self, target: &Path) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        with_temporaries(|temporaries| {
            let path = file.path().to_owned();
            // Where it fails the file comes back in the error and is removed.
            let renamed = file.persist(target).map(drop).map_err(|failure| failure.error);
            temporaries.remove(&path);
            renamed
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            with_temporaries(|temporaries| {
                temporaries.remove(file.path());
                drop(file);
            });
        }
    }
}

/// Why no file could be made in `folder`, in words.
fn folder_trouble(folder: &Path, error: &io::Error) -> String {
    let shown = folder.display();
    match error.kind() {
        // Some folders, of kernel interfaces for instance, take no new files and say so in this way.
        ErrorKind::NotFound if folder.is_dir() => format!("no file can be made in the folder {shown}"),
        ErrorKind::NotFound => format!("the folder {shown} does not exist"),
        ErrorKind::NotADirectory => format!("{shown} is not a folder"),
        ErrorKind::PermissionDenied => format!("no file can be made in the folder {shown}: permission denied"),
        ErrorKind::ReadOnlyFilesystem => format!("the folder {shown} is on a read-only file system"),
        ErrorKind::StorageFull => format!("the disk of the folder {shown} is full"),
        // tempfile adds the path to the text; the cause alone is enough here.
        _ => match error.raw_os_error().or_else(|| os_error(error)) {
            Some(code) => format!("no file can be made in the folder {shown}: {}", io::Error::from_raw_os_error(code)),
            None => format!("no file can be made in the folder {shown}: {error}"),
        },
    }
}

/// The operating system's number of an error that another one wraps.
fn os_error(error: &io::Error) -> Option<i32> {
    let mut source = error.get_ref().and_then(|inner| inner.source());
    while let Some(inner) = source {
        if let Some(code) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        source = inner.source();
    }
    None
}

/// Whether `path`, which exists, is another name of this command's standard output: `/dev/stdout`, `/dev/fd/1`, `/proc/self/fd/1`.
///
/// Such a name must not be opened again: in a file that standard output was redirected to, the two would write over each other.
fn is_stdout(path: &Path, metadata: &Metadata) -> bool {
    let special = path.starts_with("/dev") || path.starts_with("/proc");
    let device = metadata.file_type().is_char_device() && !fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink());
    special
        && !device
        && fs::metadata("/proc/self/fd/1").is_ok_and(|stdout| (stdout.dev(), stdout.ino()) == (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::OutputFile;

    /// Prepares `path`, fills it with `contents` and commits it.
    fn write(path: &Path, contents: &[u8]) -> Result<u64, String> {
        let mut file = OutputFile::prepare(path).map_err(|error| error.to_string())?;
        let bytes = file.fill(contents).map_err(|error| error.to_string())?;
        file.commit().map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// The names in `folder`.
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_appears_whole_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        assert_eq!(write(&path, b"hello"), Ok(5));
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(names(folder.path()), ["out.txt"]);
    }

    #[test]
    fn a_file_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = OutputFile::prepare(&folder.path().join("out.txt")).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        file.fill(&b"half"[..]).unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn an_existing_file_keeps_its_permissions_until_and_after_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut file = OutputFile::prepare(&path).unwrap();
        file.fill(&b"new"[..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_written_is_known_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        for (path, said) in [
            (folder.path().to_owned(), "is a folder"),
            (folder.path().join("missing/out"), "missing does not exist"),
            (folder.path().join("out/"), "slash"),
            (folder.path().join("dangling"), "symbolic link"),
            (file.join("out"), "ot a directory"),
            ("/proc/out".into(), "/proc"),
            ("".into(), "names no file"),
            (folder.path().join("n".repeat(300)), "name too long"),
        ] {
            let error = OutputFile::prepare(&path).map(drop).unwrap_err().to_string();
            assert!(error.contains("could not be written: ") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_full_device_is_an_error_when_filled() {
        let error = write(Path::new("/dev/full"), b"x").unwrap_err();
        assert!(error.starts_with("/dev/full could not be written: No space left on device"), "{error}");
        assert!(Path::new("/dev/full").exists());
    }
}
