//! How a function is named for another process of the program: by an object, the program or one of its libraries, and a distance from where that lies.
//!
//! Each process maps the program elsewhere, and all of it alike, so a function of the program needs no more than its distance. A library may have been opened
//! while the program ran, and then lies in no other process. It has a number here; a process that meets the number for the first time asks which build id and
//! which file it stands for, and opens the file if it has none of this id.
//!
//! A reference carries a checksum with a key that both processes have had from the start, so that one that was damaged on its way is no address.
#![expect(unsafe_code, reason = "makes a function of an address in an object that another process has named")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::call::CallBody;
use super::object::{self, BuildId, Placed};
use crate::error::with_causes;
use crate::wire::{Reader, WireError, Writer};

/// Distances are less, on every machine: addresses of programs have 47 bits or fewer.
const DISTANCE_BITS: u32 = 48;

/// What checksums are made with: a random number of the host, which its worker processes get when they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

/// The key of the host whose worker process this is.
static HOST_KEY: OnceLock<Key> = OnceLock::new();

impl Key {
    /// The key of this process and of its worker processes.
    pub(super) fn own() -> Self {
        static OWN: OnceLock<Key> = OnceLock::new();
        // The one source of random numbers that the standard library has.
        *OWN.get_or_init(|| Self(RandomState::new().hash_one(0)))
    }

    /// The key of the host of this process; its own in a process that has none.
    pub(super) fn of_host() -> Self {
        HOST_KEY.get().copied().unwrap_or_else(Self::own)
    }

    /// Notes the host's key: what [`to_text`](Self::to_text) of it gave. Before the first call.
    pub(super) fn note_host(text: &str) -> Option<()> {
        HOST_KEY.set(Self(u64::from_str_radix(text, 16).ok()?)).ok()
    }

    pub(super) fn to_text(self) -> String {
        format!("{:x}", self.0)
    }
}

/// A function, for every process that knows the objects of the host by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeRef {
    /// The number of the object; 0 is the program.
    object: u16,
    /// How far from where the object lies.
    distance: u64,
}

impl CodeRef {
    /// A reference to `body`. Ten nanoseconds for a function of the program; some hundred for one of a library, and a look at its file the first time.
    ///
    /// # Errors
    /// Why no other process can find it: a sentence.
    pub(super) fn of(body: CallBody) -> Result<Self, String> {
        let address = body as usize;
        let program = object::program().ok_or("the dynamic linker does not say where the program is")?;
        match program.distance_of(address) {
            Some(distance) => Ok(Self { object: 0, distance }),
            None => libraries().reference(address),
        }
    }

    /// The same in a worker process, with the numbers of its host. `ask` has the host say which number a library has.
    ///
    /// # Errors
    /// Why the host cannot find it: a sentence.
    pub(super) fn for_host(body: CallBody, ask: impl FnOnce(Named) -> Option<u16>) -> Result<Self, String> {
        let address = body as usize;
        if let Some(distance) = object::program().and_then(|program| program.distance_of(address)) {
            return Ok(Self { object: 0, distance });
        }
        let at = |(number, placed): (&u16, &Placed)| Some(Self { object: *number, distance: placed.distance_of(address)? });
        if let Some(known) = opened_libraries().iter().find_map(at) {
            return Ok(known);
        }
        let placed = object::with_code_at(address).ok_or("its function is part of nothing that was loaded from a file")?.placed;
        let named = Named::of(address)?;
        let file = named.file.display().to_string();
        let object = ask(named).ok_or_else(|| format!("its function is part of the library {file}, which the program has not loaded"))?;
        let distance = placed.distance_of(address).filter(|distance| *distance < 1 << DISTANCE_BITS).ok_or("the library is too large")?;
        opened_libraries().insert(object, placed);
        Ok(Self { object, distance })
    }

    /// Writes it with its checksum.
    pub(super) fn put(self, key: Key, writer: &mut Writer<'_>) {
        writer.put_u64(self.word());
        writer.put_u64(self.checksum(key));
    }

    /// Reads what `put` wrote.
    ///
    /// # Errors
    /// [`WireError`] when its checksum is another one.
    pub(super) fn take(key: Key, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (word, checksum) = (reader.take_u64()?, reader.take_u64()?);
        let reference = Self { object: (word >> DISTANCE_BITS) as u16, distance: word & ((1 << DISTANCE_BITS) - 1) };
        if reference.checksum(key) != checksum {
            return Err(WireError::new(format!("the reference to a function, {word:#x}, was damaged on its way: its checksum is wrong")));
        }
        Ok(reference)
    }

    fn word(self) -> u64 {
        u64::from(self.object) << DISTANCE_BITS | self.distance
    }

    /// A one-to-one mixture of object and distance for each key: so whatever changes one of the two words makes them differ, and what changes both has one
    /// chance in 2^64. It is against mistakes, and not against malice. The steps are those of SplitMix64 (Steele, Lea and Flood, 2014).
    fn checksum(self, key: Key) -> u64 {
        let mut mixed = self.word() ^ key.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31) ^ key.0.rotate_left(32)
    }

    /// The function, in a worker process of the one that made the reference. `ask` has the host say which library has a number.
    ///
    /// # Errors
    /// Why it is not to be had here: a sentence.
    pub(super) fn function(self, ask: impl FnOnce(u16) -> Option<Named>) -> Result<CallBody, String> {
        let address = match self.object {
            0 => object::program().and_then(|program| program.address_at(self.distance)),
            number => opened(number, ask)?.address_at(self.distance),
        };
        self.function_at(address)
    }

    /// The function, in the process whose numbers these are.
    ///
    /// # Errors
    /// Why it is not to be had any more: a sentence.
    pub(super) fn own_function(self) -> Result<CallBody, String> {
        let address = match usize::from(self.object).checked_sub(1) {
            None => object::program().and_then(|program| program.address_at(self.distance)),
            Some(place) => {
                let mut libraries = libraries();
                libraries.forget_unloaded();
                let placed = libraries.known.get(place).and_then(|library| library.placed.as_ref());
                placed.and_then(|placed| placed.address_at(self.distance))
            }
        };
        self.function_at(address)
    }

    fn function_at(self, address: Option<usize>) -> Result<CallBody, String> {
        let address = address.ok_or_else(|| format!("there is no function at {:#x} of object {}", self.distance, self.object))?;
        // SAFETY: the checksum says that the reference is one that `of` or `for_host` made, in this process, the one that started this one with the same program, or one
        // that this one has started so. The same program, and a library with the same build id, have the same code at the same distance from their beginning.
        Ok(unsafe { std::mem::transmute::<usize, CallBody>(address) })
    }
}

/// Why `body` cannot be called by another process, if it cannot.
pub(crate) fn why_it_stays(body: CallBody) -> Option<String> {
    CodeRef::of(body).err()
}

/// A library as it is named for another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: BuildId,
    pub(super) file: PathBuf,
}

impl Named {
    /// The library that has the code at `address`.
    ///
    /// # Errors
    /// Why another process could not find it: a sentence.
    fn of(address: usize) -> Result<Self, String> {
        let file = object::file_of(address).map_err(|problem| format!("its function is part of a library that {problem}"))?;
        let problem = |problem: &str| format!("its function is part of the library {}, which {problem}", file.display());
        let id = object::with_code_at(address).and_then(|object| object.id);
        let id = id.ok_or_else(|| problem("has no build id, by which other processes would know it; have it linked with `--build-id`"))?;
        object::check_file(&file, &id).map_err(|found| problem(&found))?;
        Ok(Self { id, file })
    }

    /// The library in which this code lies; nothing when it is the program itself.
    ///
    /// # Errors
    /// As `of`.
    pub(super) fn home() -> Result<Option<Self>, String> {
        is_in_library().map(Self::of).transpose()
    }

    /// The build id of the same, or no text.
    pub(super) fn home_id() -> String {
        is_in_library().and_then(object::with_code_at).and_then(|home| home.id).map(|id| id.to_string()).unwrap_or_default()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let mut bytes = vec![self.id.0.len() as u8];
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(self.file.as_os_str().as_bytes());
        bytes
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        use std::os::unix::ffi::OsStringExt;
        let (len, rest) = bytes.split_first()?;
        let (id, file) = rest.split_at_checked(usize::from(*len))?;
        Some(Self { id: BuildId(id.to_vec()), file: std::ffi::OsString::from_vec(file.to_vec()).into() })
    }
}

/// An address in this code, if it lies in a library and not in the program itself.
fn is_in_library() -> Option<usize> {
    let here = is_in_library as fn() -> Option<usize> as usize;
    object::program().is_none_or(|program| !program.code.contains(&here)).then_some(here)
}

/// The libraries of this process that have numbers, as their functions were sent to other processes.
#[derive(Debug)]
struct Libraries {
    /// A number is a place, counted from 1.
    known: Vec<Library>,
    /// How many objects had been unloaded when all of them were looked at.
    unloaded_count: u64,
}

#[derive(Debug)]
struct Library {
    /// Nothing once it was unloaded.
    placed: Option<Placed>,
    named: Result<Named, String>,
}

fn libraries() -> MutexGuard<'static, Libraries> {
    static LIBRARIES: Mutex<Libraries> = Mutex::new(Libraries { known: Vec::new(), unloaded_count: 0 });
    // What panics half-way leaves them as they were.
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Libraries {
    fn forget_unloaded(&mut self) {
        let unloaded_count = object::unloaded_count();
        if unloaded_count != self.unloaded_count {
            // What lies where an unloaded one did is another one, which gets another number.
            for library in &mut self.known {
                let is_there = |placed: &Placed| {
                    let there = object::with_code_at(placed.code.start);
                    there.is_some_and(|there| {
                        there.placed == *placed && library.named.as_ref().is_ok_and(|named| there.id.as_ref() == Some(&named.id))
                    })
                };
                library.placed = library.placed.take().filter(is_there);
            }
            self.unloaded_count = unloaded_count;
        }
    }

    fn reference(&mut self, address: usize) -> Result<CodeRef, String> {
        self.forget_unloaded();
        let at = |library: &Library| library.placed.as_ref().and_then(|placed| placed.distance_of(address));
        let found = self.known.iter().zip(1..).find_map(|(library, number)| Some((number, at(library)?, &library.named)));
        if let Some((object, distance, named)) = found {
            return named.as_ref().map(|_| CodeRef { object, distance }).map_err(Clone::clone);
        }
        let placed = object::with_code_at(address).ok_or("its function is part of nothing that was loaded from a file")?.placed;
        let distance = placed.distance_of(address).filter(|distance| *distance < 1 << DISTANCE_BITS);
        let number = u16::try_from(self.known.len() + 1);
        let (Some(distance), Ok(object)) = (distance, number) else {
            return Err("there are too many libraries, or too large ones".into());
        };
        let named = Named::of(address);
        let outcome = named.as_ref().map(|_| CodeRef { object, distance }).map_err(Clone::clone);
        self.known.push(Library { placed: Some(placed), named });
        outcome
    }
}

/// The library with a number, for a worker process that asks.
pub(super) fn named(number: u64) -> Option<Named> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    libraries().known.get(place)?.named.as_ref().ok().cloned()
}

/// The number of a library that a worker process names, if this process has loaded it, too.
pub(super) fn number_of(library: &Named) -> Option<u16> {
    let placed = object::with_id(&library.id)?.placed;
    libraries().reference(placed.code.start).ok().map(|reference| reference.object)
}

/// A worker process could not find a function: those of its library stay from now on. Why: a sentence.
pub(super) fn keep_here(reference: CodeRef, reason: &str) -> String {
    let reason = format!("its function is part of a library that a worker process does not find: {reason}");
    let mut libraries = libraries();
    let place = usize::from(reference.object).checked_sub(1);
    if let Some(library) = place.and_then(|place| libraries.known.get_mut(place)) {
        library.named = Err(reason.clone());
    }
    reason
}

/// The libraries that the host knows by numbers, in this process.
fn opened_libraries() -> MutexGuard<'static, BTreeMap<u16, Placed>> {
    static OPENED: Mutex<BTreeMap<u16, Placed>> = Mutex::new(BTreeMap::new());
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object that the host knows by a number, in this process. Opened if it is not there.
fn opened(number: u16, ask: impl FnOnce(u16) -> Option<Named>) -> Result<Placed, String> {
    if let Some(placed) = opened_libraries().get(&number) {
        return Ok(placed.clone());
    }
    let named = ask(number).ok_or_else(|| format!("the host has no library {number}"))?;
    let placed = match object::with_id(&named.id) {
        Some(loaded) => loaded.placed,
        None => open(&named)?,
    };
    opened_libraries().insert(number, placed.clone());
    Ok(placed)
}

/// Opens a library, for good.
fn open(named: &Named) -> Result<Placed, String> {
    let file: &Path = &named.file;
    let problem = |problem: &str| format!("the library {} {problem}", file.display());
    // Before any of its code runs, which begins when it is opened.
    object::check_file(file, &named.id).map_err(|found| problem(&found))?;
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
    // SAFETY: the host has loaded the same file, constructors and all.
    let library = unsafe { libloading::os::unix::Library::open(Some(file), flags) };
    // Functions of it are called as long as there are calls.
    std::mem::forget(library.map_err(|error| problem(&format!("cannot be opened: {}", with_causes(&error))))?);
    object::with_id(&named.id).map(|loaded| loaded.placed).ok_or_else(|| problem("was replaced while it was being opened"))
}

#[cfg(test)]
mod tests {
    use super::super::call::CallFailure;
    use super::*;
    use crate::wire::NoBuffers;

    fn shout(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
        let text = reader.take_text()?.to_uppercase();
        writer.put_text(&text);
        Ok(())
    }

    fn bytes_of(reference: CodeRef, key: Key) -> Vec<u8> {
        let mut buffers = NoBuffers;
        let mut writer = Writer::new(&mut buffers);
        reference.put(key, &mut writer);
        writer.finish().bytes
    }

    fn of_bytes(bytes: &[u8], key: Key) -> Result<CodeRef, WireError> {
        CodeRef::take(key, &mut Reader::new(bytes, &mut NoBuffers))
    }

    #[test]
    fn a_function_is_found_by_its_reference_and_nothing_outside_the_code() {
        assert_eq!(Named::home(), Ok(None));
        let reference = CodeRef::of(shout).expect("it is part of the program");
        let found = of_bytes(&bytes_of(reference, Key(5)), Key(5)).expect("it is not damaged");
        let found = found.function(|_| unreachable!("the program has no number")).expect("it is there");
        let mut buffers = NoBuffers;
        let mut writer = Writer::new(&mut buffers);
        writer.put_text("hello");
        let bytes = writer.finish().bytes;
        let (mut in_buffers, mut out_buffers) = (NoBuffers, NoBuffers);
        let mut written = Writer::new(&mut out_buffers);
        found(&mut Reader::new(&bytes, &mut in_buffers), &mut written).expect("it works");
        assert_eq!(&written.finish().bytes[8..], b"HELLO");
        for distance in [(1 << DISTANCE_BITS) - 1, 1 << 40] {
            CodeRef { object: 0, distance }.function(|_| None).expect_err("there is no code");
        }
        CodeRef { object: 9, distance: 0 }.function(|_| None).expect_err("nobody knows the object");
    }

    #[test]
    fn whatever_changes_a_reference_is_noticed() {
        let reference = CodeRef { object: 3, distance: 0x12_3456 };
        let key = Key(0x0123_4567_89AB_CDEF);
        let bytes = bytes_of(reference, key);
        assert_eq!(of_bytes(&bytes, key), Ok(reference));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            of_bytes(&damaged, key).expect_err("a bit is another one");
        }
        of_bytes(&bytes, Key(key.0 + 1)).expect_err("another key");
        of_bytes(&[0; 16], key).expect_err("nothing was written");
        assert_ne!(Key::own(), Key(0));
    }

    #[test]
    fn a_function_of_a_library_has_the_number_of_its_library() {
        // Not called.
        // SAFETY: both are functions, and what is made of the address is only looked at.
        let there = unsafe { std::mem::transmute::<usize, CallBody>(libc::getpid as unsafe extern "C" fn() -> libc::pid_t as usize) };
        let reference = CodeRef::of(there).expect("it is in a file");
        assert_ne!(reference.object, 0);
        assert_eq!(CodeRef::of(there), Ok(reference));
        let named = named(reference.object.into()).expect("it has a name");
        assert_eq!(Named::of_bytes(&named.to_bytes()), Some(named.clone()));
        assert!(named.file.to_string_lossy().contains("libc"), "{named:?}");
        let found = reference.function(|_| Some(named)).expect("it is loaded");
        assert_eq!(found as usize, there as usize);
        assert_eq!(super::named(0), None);
        assert_eq!(super::named(99), None);
    }

    #[test]
    fn libraries_that_are_not_what_they_were_are_refused_before_they_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("libother.so");
        let named = Named { id: BuildId(vec![7; 20]), file: file.clone() };
        let refused = || open(&named).expect_err("it is not what it was");
        assert!(refused().contains("cannot be read: No such file"), "{}", refused());
        std::fs::write(&file, "no library").expect("a file");
        assert!(refused().contains("cannot be read"), "{}", refused());
        std::fs::copy(std::env::current_exe().expect("a file"), &file).expect("a copy");
        assert!(refused().contains("is another file now: its build id is"), "{}", refused());
    }
}
