//! Compiled code on disk.
//!
//! A file is written beside its place and then renamed, so other processes see all of it or nothing. It begins with a checksum: one that is damaged is as good as none,
//! and is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins each file.
const MAGIC: &[u8; 8] = b"poniard\x01";

/// A folder of files, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The cache in `folder`, which is made when something is first kept.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// What was kept under `name`, if it is whole.
    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.folder.as_ref()?.join(name)).ok()?;
        let head = bytes.get(..16)?;
        if head[..8] != *MAGIC || head[8..] != checksum(&bytes[16..]).to_le_bytes() {
            return None;
        }
        bytes.drain(..16);
        Some(bytes)
    }

    /// Keeps `bytes` under `name`. A cache that cannot be written is no error: the code is compiled again.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) {
        if let Some(folder) = &self.folder {
            let _ = write(folder, name, bytes);
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{name}.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let content = [MAGIC.as_slice(), &checksum(bytes).to_le_bytes(), bytes].concat();
    let done = fs::write(&beside, content).and_then(|()| fs::rename(&beside, folder.join(name)));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}

/// FNV-1a, of 64 bits: against damage, not against malice.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().join("deep/er")));
        assert_eq!(cache.load("a"), None);
        cache.keep("a", b"some code");
        assert_eq!(cache.load("a").as_deref(), Some(b"some code".as_slice()));
        let path = folder.path().join("deep/er/a");
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(cache.load("a"), None, "cut after {len} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load("a"), None, "damaged at {at}");
        }
        cache.keep("a", b"");
        assert_eq!(cache.load("a").as_deref(), Some(b"".as_slice()));
        assert_eq!(fs::read_dir(folder.path().join("deep/er")).unwrap().count(), 1, "nothing is left beside it");
        Cache::new(Some("/dev/null/x".into())).keep("a", b"no such folder");
        Cache::new(None).keep("a", b"nowhere");
    }

    #[test]
    fn many_writers_leave_a_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().to_owned()));
        cache.keep("a", &[0; 1000]);
        std::thread::scope(|scope| {
            for value in 0..4u8 {
                let cache = cache.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        cache.keep("a", &[value; 1000]);
                        let found = cache.load("a").expect("always a whole file");
                        assert!(found.iter().all(|byte| *byte == found[0]), "the bytes of one writer");
                    }
                });
            }
        });
    }
}
