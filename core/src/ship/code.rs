//! How a function is named for another process of the program: by its distance from where the program lies.
//!
//! Each process maps the program elsewhere, and all of it alike. A function in a library that was opened later may lie in no other process, so it has no
//! such name.
#![expect(unsafe_code, reason = "asks the dynamic linker where the program lies, and makes a function of an address in it")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use super::call::CallBody;

/// Where the program itself lies in this process.
#[derive(Clone, Copy, Debug)]
struct Program {
    base: usize,
    /// Addresses of its code: begin and end.
    code: (usize, usize),
}

/// The distance of a function's code from the beginning of the program; none when it is not of the program itself.
pub(crate) fn distance_of(body: CallBody) -> Option<u64> {
    let program = program()?;
    let address = body as usize;
    (program.code.0..program.code.1).contains(&address).then(|| (address - program.base) as u64)
}

/// The function that a call names by its distance.
pub(crate) fn function_at(distance: u64) -> Option<CallBody> {
    // SAFETY: calls come from the process that started this one with the program that it runs itself (`start`), and name functions by `distance_of`; those that
    // the host itself makes for a worker process have had their seal checked (`is_sealed`).
    unsafe { at_distance(distance) }
}

/// What a worker process needs to name functions to the host.
pub(crate) fn key() -> u64 {
    static KEY: OnceLock<u64> = OnceLock::new();
    // Nobody is to guess it on purpose; what is scribbled over is not to fit by chance.
    *KEY.get_or_init(|| {
        mixed(u64::from(std::process::id()) << 32 ^ crate::clock::now_ns() ^ program().map_or(0, |program| program.base as u64))
    })
}

/// What says of a distance that it was made by `distance_of`, in a process that knows the key.
pub(crate) fn seal(distance: u64, key: u64) -> u64 {
    mixed(mixed(distance ^ key).wrapping_add(key))
}

/// Whether a distance that a worker process names is one of `distance_of`: its seal fits, and there is code.
pub(crate) fn is_sealed(distance: u64, seal: u64) -> bool {
    seal == self::seal(distance, key()) && function_at(distance).is_some()
}

/// Source: the finaliser of SplitMix64, Steele, Lea and Flood, OOPSLA 2014.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

/// The function at a distance from the beginning of the program; none when there is no code.
///
/// # Safety
/// `distance` came from `distance_of` in a process of the same program.
unsafe fn at_distance(distance: u64) -> Option<CallBody> {
    let program = program()?;
    let address = program.base.checked_add(usize::try_from(distance).ok()?)?;
    if !(program.code.0..program.code.1).contains(&address) {
        return None;
    }
    // SAFETY: the same program has the same code at the same distance from its beginning, and there is this function (precondition).
    Some(unsafe { std::mem::transmute::<usize, CallBody>(address) })
}

/// Whether this code is part of the program itself, and of no library.
pub(crate) fn is_in_program() -> bool {
    let here = is_in_program as fn() -> bool as usize;
    program().is_some_and(|program| (program.code.0..program.code.1).contains(&here))
}

fn program() -> Option<Program> {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    *PROGRAM.get_or_init(|| {
        let mut found: Option<Program> = None;
        // SAFETY: the callback gets the pointer to `found` back, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(first_object), (&raw mut found).cast()) };
        found
    })
}

/// The first object that the dynamic linker names is the program.
///
/// # Safety
/// As `dl_iterate_phdr` calls it, with a pointer to an `Option<Program>`.
unsafe extern "C" fn first_object(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: the linker gives a description that is valid during the call.
    let info = unsafe { &*info };
    let base = info.dlpi_addr as usize;
    // SAFETY: the description says how many headers there are.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let executable = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0);
    let ranges = executable.map(|header| {
        let begin = base + header.p_vaddr as usize;
        (begin, begin + header.p_memsz as usize)
    });
    let code = ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    // SAFETY: the pointer is the one that `program` gave.
    unsafe { found.cast::<Option<Program>>().write(code.map(|code| Program { base, code })) };
    // Not zero: no further object is wanted.
    1
}

#[cfg(test)]
mod tests {
    use super::super::call::CallFailure;
    use super::*;
    use crate::wire::{NoBuffers, Reader, Writer};

    fn shout(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
        let text = reader.take_text()?.to_uppercase();
        writer.put_text(&text);
        Ok(())
    }

    #[test]
    fn a_seal_fits_its_own_distance_and_no_other() {
        let distance = distance_of(shout).expect("it is part of the program");
        let right = seal(distance, key());
        assert!(is_sealed(distance, right));
        for bit in 0..64 {
            assert!(!is_sealed(distance ^ 1 << bit, right) && !is_sealed(distance, right ^ 1 << bit));
        }
        let nowhere = 1 << 40;
        assert!(!is_sealed(nowhere, seal(nowhere, key())), "there is no code");
    }

    #[test]
    fn a_function_is_found_at_its_distance_and_nothing_outside_the_code() {
        assert!(is_in_program());
        let distance = distance_of(shout).expect("it is part of the program");
        // SAFETY: from `distance_of` of this process.
        let found = unsafe { at_distance(distance) }.expect("it is there");
        let mut buffers = NoBuffers;
        let mut writer = Writer::new(&mut buffers);
        writer.put_text("hello");
        let (bytes, _) = writer.finish();
        let (mut in_buffers, mut out_buffers) = (NoBuffers, NoBuffers);
        let mut written = Writer::new(&mut out_buffers);
        found(&mut Reader::new(&bytes, &mut in_buffers), &mut written).expect("it works");
        assert_eq!(&written.finish().0[8..], b"HELLO");
        for distance in [u64::MAX, 1 << 40] {
            // SAFETY: there is no code at such a distance, so no function is made of it.
            assert!(unsafe { at_distance(distance) }.is_none());
        }
    }
}
