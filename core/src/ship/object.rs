//! What the dynamic linker has loaded into this process: the program and its libraries, each with its code and the build id by which another process knows it.
//!
//! A build id is a note that the linker puts into a file, made of all its contents; it is in memory wherever the file is loaded. Files are compared by it,
//! so one that was replaced since it was loaded is not taken for what is in memory.
//!
//! Reference: `dl_iterate_phdr(3)`; for notes, the ELF specification, <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html#note_section>.
#![expect(unsafe_code, reason = "asks the dynamic linker what it has loaded, and reads what that describes")]

use std::ffi::{OsString, c_int, c_void};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::elf;
use object::endian::NativeEndian;
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};

/// A file of the width and byte order of this program, as everything is that it can load.
type Header = elf::FileHeader64<NativeEndian>;
const ENDIAN: NativeEndian = NativeEndian;

/// What a linker wrote into a file to tell it from all others.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct BuildId(pub(super) Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the code of a loaded object lies in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// From which distances count.
    pub(super) base: usize,
    /// Addresses of its code.
    pub(super) code: Range<usize>,
}

impl Placed {
    /// How far the function at `address` lies from the base; nothing when it is none of this object's.
    pub(super) fn distance_of(&self, address: usize) -> Option<u64> {
        self.code.contains(&address).then(|| (address - self.base) as u64)
    }

    /// The address so far from the base, if there is code.
    pub(super) fn address_at(&self, distance: u64) -> Option<usize> {
        self.base.checked_add(usize::try_from(distance).ok()?).filter(|address| self.code.contains(address))
    }
}

/// An object that is loaded.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) placed: Placed,
    pub(super) id: Option<BuildId>,
}

/// The program itself, which is the first object that the dynamic linker names.
pub(super) fn program() -> Option<&'static Placed> {
    static PROGRAM: OnceLock<Option<Placed>> = OnceLock::new();
    PROGRAM.get_or_init(|| first(loaded).flatten().map(|program| program.placed)).as_ref()
}

/// The object with the function at `address`.
pub(super) fn with_code_at(address: usize) -> Option<Loaded> {
    find(|object| object.placed.code.contains(&address))
}

/// The object with the build id `id`.
pub(super) fn with_id(id: &BuildId) -> Option<Loaded> {
    find(|object| object.id.as_ref() == Some(id))
}

/// How many objects have ever been unloaded.
pub(super) fn unloaded_count() -> u64 {
    first(|info| info.dlpi_subs).unwrap_or(0)
}

fn find(wanted: impl Fn(&Loaded) -> bool) -> Option<Loaded> {
    let mut found = None;
    walk(&mut |info| {
        found = loaded(info).filter(|object| wanted(object));
        found.is_some()
    });
    found
}

fn first<R>(look: impl Fn(&libc::dl_phdr_info) -> R) -> Option<R> {
    let mut found = None;
    walk(&mut |info| {
        found = Some(look(info));
        true
    });
    found
}

/// A look at an object; true ends the walk.
type Look<'a> = &'a mut dyn FnMut(&libc::dl_phdr_info) -> bool;

/// Shows the loaded objects, the program first.
fn walk(mut look: Look<'_>) {
    // SAFETY: the callback gets the pointer to `look` back, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(show), (&raw mut look).cast()) };
}

/// # Safety
/// As `dl_iterate_phdr` calls it, with the pointer that `walk` gave.
unsafe extern "C" fn show(info: *mut libc::dl_phdr_info, _size: usize, look: *mut c_void) -> c_int {
    // SAFETY: the linker gives a description that is valid during the call.
    let info = unsafe { &*info };
    // SAFETY: the pointer is the one that `walk` gave.
    let look = unsafe { &mut *look.cast::<Look<'_>>() };
    c_int::from(look(info))
}

/// What an object's headers say; nothing when it has no code.
fn loaded(info: &libc::dl_phdr_info) -> Option<Loaded> {
    let base = info.dlpi_addr as usize;
    // SAFETY: the description, which the linker made, says how many headers there are.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |header: &libc::Elf64_Phdr| {
        let begin = base.wrapping_add(header.p_vaddr as usize);
        begin..begin.wrapping_add(header.p_memsz as usize)
    };
    let executable = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0);
    let code = executable.map(range).reduce(|one, other| one.start.min(other.start)..one.end.max(other.end))?;
    let readable = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_R != 0;
    let is_loaded = |part: &Range<usize>| {
        headers
            .iter()
            .filter(readable)
            .map(range)
            .any(|loaded| loaded.start <= part.start && part.start <= part.end && part.end <= loaded.end)
    };
    let mut notes = headers.iter().filter(|header| header.p_type == libc::PT_NOTE).map(range).filter(is_loaded);
    let id = notes.find_map(|note| {
        // SAFETY: the notes lie in a part that was loaded to be read (`is_loaded`), which stays while the linker shows the object.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(note.start), note.len()) };
        id_in(bytes)
    });
    Some(Loaded { placed: Placed { base, code }, id })
}

/// The build id in a segment of notes. Each is three numbers (the lengths of name and contents, the type), the name and the contents, filled up to four bytes.
fn id_in(mut notes: &[u8]) -> Option<BuildId> {
    loop {
        let (numbers, rest) = notes.split_first_chunk::<12>()?;
        let number = |at: usize| u32::from_ne_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        let (name_bytes, id_bytes) = (number(0) as usize, number(4) as usize);
        let id_at = name_bytes.checked_next_multiple_of(4)?;
        let id = rest.get(id_at..id_at.checked_add(id_bytes)?)?;
        if number(8) == elf::NT_GNU_BUILD_ID.0 && rest.get(..name_bytes)? == b"GNU\0" && !id.is_empty() {
            return Some(BuildId(id.to_vec()));
        }
        notes = rest.get(id_at + id_bytes.checked_next_multiple_of(4)?..)?;
    }
}

/// The build id of the file at `path`, read out of its notes; nothing when it has none.
fn id_of_file(path: &Path) -> Result<Option<BuildId>, String> {
    let unreadable = |error: &dyn fmt::Display| format!("cannot be read: {error}");
    // Reads only the parts that are asked for: a library with debug information is large.
    let file = ReadCache::new(File::open(path).map_err(|error| unreadable(&error))?);
    let header = Header::parse(&file).map_err(|error| unreadable(&error))?;
    let segments = header.program_headers(ENDIAN, &file).map_err(|error| unreadable(&error))?;
    let notes = segments.iter().filter(|segment| segment.p_type(ENDIAN) == elf::PT_NOTE);
    Ok(notes.filter_map(|segment| segment.data(ENDIAN, &file).ok()).find_map(id_in))
}

/// Checks that the file at `path` is the one with the build id `id`. Says what it is otherwise, as the end of a sentence.
pub(super) fn check_file(path: &Path, id: &BuildId) -> Result<(), String> {
    match id_of_file(path)? {
        Some(found) if found == *id => Ok(()),
        Some(found) => Err(format!("is another file now: its build id is {found}, and that of what was loaded is {id}")),
        None => Err("is another file now: it has no build id".into()),
    }
}

/// The file that the code at `address` was loaded from.
///
/// The kernel knows: the name that the linker has may be relative to a folder that is not the current one any more.
///
/// # Errors
/// Says what is wrong with it, as the end of a sentence about a library.
pub(super) fn file_of(address: usize) -> Result<PathBuf, String> {
    use std::io::{BufRead, BufReader};

    let maps =
        File::open("/proc/self/maps").map_err(|error| format!("cannot be found in /proc/self/maps: {error}; is `/proc` mounted?"))?;
    for line in BufReader::new(maps).split(b'\n') {
        let line = line.map_err(|error| format!("cannot be found in /proc/self/maps: {error}"))?;
        // `start-end protection offset device inode   path`
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let range = std::str::from_utf8(words.next().unwrap_or_default()).ok().and_then(|range| range.split_once('-'));
        let bound = |text: &str| usize::from_str_radix(text, 16).ok();
        let Some((Some(start), Some(end))) = range.map(|(start, end)| (bound(start), bound(end))) else { continue };
        if !(start..end).contains(&address) {
            continue;
        }
        let Some(path) = line.iter().position(|byte| *byte == b'/').map(|at| line[at..].to_vec()) else { break };
        return match path.strip_suffix(b" (deleted)") {
            Some(_) => Err("was deleted or replaced after it had been loaded".into()),
            None => Ok(OsString::from_vec(path).into()),
        };
    }
    Err("was not loaded from a file".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_found_by_its_code_and_by_its_build_id() {
        let here = this_program_is_found_by_its_code_and_by_its_build_id as fn() as usize;
        let loaded = with_code_at(here).expect("it is loaded");
        assert_eq!(Some(&loaded.placed), program());
        assert_eq!(loaded.placed.address_at(loaded.placed.distance_of(here).expect("it has the code")), Some(here));
        let id = loaded.id.expect("linkers give one");
        assert_eq!(with_id(&id).expect("it is loaded").placed, loaded.placed);
        assert_eq!(file_of(here).expect("a file"), std::env::current_exe().expect("a file"));
        assert_eq!(check_file(&file_of(here).expect("a file"), &id), Ok(()));
        let another = check_file(&file_of(here).expect("a file"), &BuildId(vec![7; 20])).expect_err("another one");
        assert!(another.contains(&format!("its build id is {id}, and that of what was loaded is 0707")), "{another}");
    }

    #[test]
    fn a_library_is_found_by_its_code_and_by_its_build_id() {
        let there = libc::getpid as unsafe extern "C" fn() -> libc::pid_t as usize;
        let loaded = with_code_at(there).expect("it is loaded");
        assert_ne!(Some(&loaded.placed), program());
        let id = loaded.id.expect("this one has one");
        assert_eq!(with_id(&id).expect("it is loaded").placed, loaded.placed);
        assert_eq!(check_file(&file_of(there).expect("a file"), &id), Ok(()));
        assert!(with_id(&BuildId(vec![7; 20])).is_none());
        assert!(with_code_at(8).is_none());
    }

    #[test]
    fn notes_of_any_sort_are_an_id_or_none() {
        let note = |name: &[u8], kind: u32, contents: &[u8]| {
            let mut bytes: Vec<u8> =
                [name.len() as u32, contents.len() as u32, kind].iter().flat_map(|number| number.to_ne_bytes()).collect();
            for part in [name, contents] {
                bytes.extend_from_slice(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        };
        let notes = [note(b"GNU\0", 1, &[1; 16]), note(b"other\0", 3, &[2; 3]), note(b"GNU\0", 3, &[3; 20])].concat();
        assert_eq!(id_in(&notes), Some(BuildId(vec![3; 20])));
        for len in 0..notes.len() {
            assert_eq!(id_in(&notes[..len]), None);
        }
        assert_eq!(id_in(&[0xff; 64]), None);
    }
}
