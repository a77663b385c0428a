//! The file that spilled blocks lie in, and which of its ranges are whose.
//!
//! It has no name, so nothing is left when the program ends, however it ends. Ranges are recycled by the size classes of blocks, with their place on the disk;
//! that is given up when it is short, and all of it when nothing is spilled.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Folder;

/// File systems that are memory themselves, as `statfs` numbers them: tmpfs, ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A file without a name.
#[derive(Debug)]
pub(super) struct SpillFile {
    file: OwnedFd,
    folder: PathBuf,
    /// Whether reads and writes go past the page cache.
    is_direct: bool,
}

/// A part of a file that belongs to one block.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) file: Arc<SpillFile>,
    pub(super) offset: u64,
    pub(super) len_bytes: u64,
    /// Whether the disk has room for it set aside.
    has_room: bool,
}

/// What a block is to have on the disk, and who has what.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) folder: Folder,
    pub(super) limit_bytes: u64,
    /// Made when the first block is spilled.
    file: Option<Arc<SpillFile>>,
    /// Where the file ends.
    end: u64,
    /// Of blocks.
    taken_bytes: u64,
    /// Of ranges that are free and have room on the disk.
    kept_bytes: u64,
    /// Offsets of those, by length.
    kept: BTreeMap<u64, Vec<u64>>,
    /// Offsets of those that have none.
    holes: BTreeMap<u64, Vec<u64>>,
}

impl Folder {
    /// Whether blocks could be spilled there; an error says what is in the way.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Self::Named(folder) = self { SpillFile::create(folder).map(drop) } else { Ok(()) }
    }

    fn open(&self) -> Result<SpillFile, String> {
        match self {
            Self::Off => Err("`memory.spill` is `off`".into()),
            Self::Named(folder) => SpillFile::create(folder),
            Self::Usual => {
                let folders = [std::env::temp_dir(), "/var/tmp".into()];
                let mut reasons = Vec::new();
                for folder in folders {
                    match SpillFile::create(&folder) {
                        Ok(file) => return Ok(file),
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(format!("{}; name a folder by `memory.spill`", reasons.join(", ")))
            }
        }
    }
}

impl SpillFile {
    fn create(folder: &Path) -> Result<Self, String> {
        let cannot = |what: &str, error: Errno| format!("cannot {what} a file in `{}`: {}", folder.display(), std::io::Error::from(error));
        let open = |flags| rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | flags, Mode::RUSR | Mode::WUSR);
        // Some file systems have no direct access; then the page cache has a copy for a moment.
        let (file, is_direct) = match open(OFlags::DIRECT) {
            Ok(file) => (file, true),
            Err(_) => (open(OFlags::empty()).map_err(|error| cannot("make", error))?, false),
        };
        let state = rustix::fs::fstatfs(&file).map_err(|error| cannot("ask for the file system of", error))?;
        // Of other widths elsewhere; the numbers have 32 bits.
        if IN_MEMORY.contains(&u64::from(state.f_type as u32)) {
            return Err(format!("`{}` is memory itself (tmpfs)", folder.display()));
        }
        Ok(Self { file, folder: folder.to_owned(), is_direct })
    }

    fn error(&self, what: &str, len_bytes: u64, error: Errno) -> String {
        format!("cannot {what} {len_bytes} bytes in `{}`: {}", self.folder.display(), std::io::Error::from(error))
    }
}

impl AsFd for SpillFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Range {
    /// Sees to it that the disk has room for it: found out now, and not when the page cache is written back.
    pub(super) fn make_room(&mut self) -> Result<(), String> {
        if self.has_room {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), self.offset, self.len_bytes) {
            // Some file systems cannot; there writing tells.
            Ok(()) | Err(Errno::OPNOTSUPP) => {
                self.has_room = true;
                Ok(())
            }
            Err(error) => Err(self.file.error("set aside", self.len_bytes, error)),
        }
    }

    /// Writes the whole range, so that the disk has it and the page cache does not.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), String> {
        let failed = |error| self.file.error("write", self.len_bytes, error);
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[done..], self.offset + done as u64) {
                Ok(0) => return Err(failed(Errno::IO)),
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if !self.file.is_direct {
            rustix::fs::fdatasync(&self.file).map_err(failed)?;
            self.forget_pages();
        }
        Ok(())
    }

    /// Reads the whole range.
    pub(super) fn read(&self, bytes: &mut [u8]) -> Result<(), String> {
        let failed = |error| self.file.error("read back", self.len_bytes, error);
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pread(&self.file, &mut bytes[done..], self.offset + done as u64) {
                Ok(0) => return Err(failed(Errno::IO)),
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if !self.file.is_direct {
            self.forget_pages();
        }
        Ok(())
    }

    /// Has the page cache let go of it, where it is mapped nowhere.
    pub(super) fn forget_pages(&self) {
        self.advise(Advice::DontNeed);
    }

    /// Has the page cache begin to read it.
    pub(super) fn want_pages(&self) {
        self.advise(Advice::WillNeed);
    }

    fn advise(&self, advice: Advice) {
        // Advice: nothing is wrong where it is not taken.
        let _ = rustix::fs::fadvise(&self.file, self.offset, std::num::NonZeroU64::new(self.len_bytes), advice);
    }

    pub(super) fn error_of_reading(&self) -> String {
        self.file.error("read back", self.len_bytes, Errno::IO)
    }

    /// The same range for whoever looks at it while somebody else has it.
    pub(super) fn share(&self) -> Self {
        Self { file: Arc::clone(&self.file), ..*self }
    }
}

impl Store {
    pub(super) const fn new() -> Self {
        Self {
            folder: Folder::Usual,
            limit_bytes: u64::MAX,
            file: None,
            end: 0,
            taken_bytes: 0,
            kept_bytes: 0,
            kept: BTreeMap::new(),
            holes: BTreeMap::new(),
        }
    }

    /// From now on blocks go somewhere else. Those that are spilled stay where they are.
    pub(super) fn set_folder(&mut self, folder: Folder) {
        if self.folder != folder {
            *self = Self { folder, limit_bytes: self.limit_bytes, ..Self::new() };
        }
    }

    /// A range of so many bytes, whose room may be missing yet (`Range::make_room`).
    pub(super) fn take(&mut self, len_bytes: u64) -> Result<Range, String> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(self.folder.open()?))),
        };
        let kept = self.kept.get_mut(&len_bytes).and_then(Vec::pop);
        let (offset, has_room) = match kept {
            Some(offset) => {
                self.kept_bytes -= len_bytes;
                (offset, true)
            }
            None => {
                let above = |store: &Self| store.taken_bytes + store.kept_bytes + len_bytes > store.limit_bytes;
                if above(self) {
                    self.give_back_kept();
                }
                if above(self) {
                    let (taken, limit) = (self.taken_bytes, self.limit_bytes);
                    return Err(format!(
                        "{len_bytes} bytes more than the {taken} in `{}` are above the limit of {limit} (`memory.spill_limit`)",
                        file.folder.display()
                    ));
                }
                let hole = self.holes.get_mut(&len_bytes).and_then(Vec::pop);
                let offset = hole.unwrap_or_else(|| {
                    self.end += len_bytes;
                    self.end - len_bytes
                });
                (offset, false)
            }
        };
        self.taken_bytes += len_bytes;
        Ok(Range { file, offset, len_bytes, has_room })
    }

    /// Takes a range back.
    pub(super) fn give_back(&mut self, range: Range) {
        let Some(file) = self.file.as_ref().filter(|file| Arc::ptr_eq(file, &range.file)) else { return };
        self.taken_bytes -= range.len_bytes;
        if self.taken_bytes == 0 {
            // Where that fails the file stays as long as it is, and is written over.
            let _ = rustix::fs::ftruncate(file, 0);
            (self.end, self.kept_bytes) = (0, 0);
            self.kept.clear();
            self.holes.clear();
            return;
        }
        if range.has_room {
            self.kept_bytes += range.len_bytes;
            self.kept.entry(range.len_bytes).or_default().push(range.offset);
        } else {
            self.holes.entry(range.len_bytes).or_default().push(range.offset);
        }
    }

    /// Gives the room of free ranges back to the disk. Whether there were any.
    pub(super) fn give_back_kept(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut gives = false;
        for (len_bytes, offsets) in &mut self.kept {
            let holes = self.holes.entry(*len_bytes).or_default();
            for offset in offsets.drain(..) {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Where it cannot be given back it is not counted any more all the same: it will be used again.
                let _ = rustix::fs::fallocate(file, flags, offset, *len_bytes);
                holes.push(offset);
                gives = true;
            }
        }
        self.kept_bytes = 0;
        gives
    }

    /// Of blocks that are on the disk, in bytes.
    #[cfg(test)]
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB_64: u64 = 64 << 10;

    fn store(folder: &Path) -> Store {
        Store { folder: Folder::Named(folder.to_owned()), ..Store::new() }
    }

    fn taken(store: &mut Store, len_bytes: u64) -> Range {
        let mut range = store.take(len_bytes).expect("room");
        range.make_room().expect("room");
        range
    }

    /// A folder on a disk.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in("/var/tmp").expect("a folder")
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_left() {
        let folder = folder();
        let mut store = store(folder.path());
        let (one, two) = (taken(&mut store, KIB_64), taken(&mut store, 2 * KIB_64));
        // Direct access wants whole pages at whole pages.
        let mut map = vec![0u8; 4 * KIB_64 as usize];
        let begin = map.as_ptr().align_offset(4096);
        let bytes = &mut map[begin..begin + 2 * KIB_64 as usize];
        bytes.fill(7);
        two.write(bytes).expect("written");
        one.write(&bytes[..KIB_64 as usize]).expect("written");
        bytes.fill(0);
        two.read(bytes).expect("read");
        assert!(bytes.iter().all(|byte| *byte == 7));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "it has no name");
        let file = Arc::clone(&one.file);
        store.give_back(one);
        assert!(rustix::fs::fstat(&file).expect("its state").st_size > 0);
        store.give_back(two);
        assert_eq!(rustix::fs::fstat(&file).expect("its state").st_size, 0, "nothing is spilled");
    }

    #[test]
    fn ranges_are_recycled_by_their_size_and_given_back_when_there_is_a_limit() {
        let folder = folder();
        let mut store = store(folder.path());
        store.limit_bytes = 4 * KIB_64;
        let stays = taken(&mut store, KIB_64);
        let (one, two) = (taken(&mut store, KIB_64), taken(&mut store, KIB_64));
        let places = [one.offset, two.offset];
        store.give_back(one);
        store.give_back(two);
        let again = taken(&mut store, KIB_64);
        assert!(places.contains(&again.offset));
        // The one that is free has room on the disk, which another size needs.
        let large = taken(&mut store, 2 * KIB_64);
        assert_eq!((store.taken_bytes(), store.kept_bytes), (4 * KIB_64, 0));
        let error = store.take(KIB_64).expect_err("above the limit");
        let expected = format!(
            "65536 bytes more than the 262144 in `{}` are above the limit of 262144 (`memory.spill_limit`)",
            folder.path().display()
        );
        assert_eq!(error, expected);
        store.give_back(large);
        assert!(store.take(KIB_64).is_ok_and(|range| places.contains(&range.offset) && !range.has_room));
        drop((stays, again));
    }

    #[test]
    fn a_folder_that_is_memory_or_is_not_there_is_refused() {
        let error = |folder: &str| Folder::Named(folder.into()).check().expect_err(folder);
        if SpillFile::create(Path::new("/dev/shm")).is_ok() {
            eprintln!("skipped in part: /dev/shm is not in memory here");
        } else {
            assert_eq!(error("/dev/shm"), "`/dev/shm` is memory itself (tmpfs)");
        }
        assert!(error("/nowhere").starts_with("cannot make a file in `/nowhere`: No such file"), "{}", error("/nowhere"));
        assert_eq!(Folder::Off.open().expect_err("off"), "`memory.spill` is `off`");
    }
}
