//! The same loops in the tasks of other systems, where they are installed: OpenMP's, compiled by `cc -fopenmp`, and StarPU's, which `pkg-config` finds. Bodies and tiles are those of the
//! regions beside them, and one process has all, so what differs is what the systems add.
#![expect(unsafe_code, reason = "calls functions written in C, which call back")]

use std::ffi::c_void;
use std::fmt;
use std::path::Path;
use std::process::Command;

use libloading::Library;
use poniard_cli::samples::cholesky;
use poniard_cli::samples::tile::Tile;

type One = extern "C" fn(*mut c_void);
type Two = extern "C" fn(*const c_void, *mut c_void);
type Three = extern "C" fn(*const c_void, *const c_void, *mut c_void);
type Begin = unsafe extern "C" fn(u32) -> i32;
type Products = unsafe extern "C" fn(usize, *mut *mut c_void, *mut *mut c_void, *mut *mut c_void, Three) -> f64;
type Factor = unsafe extern "C" fn(usize, *mut *mut c_void, One, Two, Three) -> f64;

const HEADER: &str = include_str!("peers/peer.h");

/// A system, its name in figures, its loops, and how they are compiled.
struct Source {
    name: &'static str,
    text: &'static str,
    /// The package that says with what flags.
    packages: &'static [&'static str],
    flags: &'static [&'static str],
}

const SOURCES: [Source; 2] = [
    Source { name: "openmp", text: include_str!("peers/openmp.c"), packages: &[], flags: &["-fopenmp"] },
    Source { name: "starpu", text: include_str!("peers/starpu.c"), packages: &["starpu-1.4", "starpu-1.3"], flags: &[] },
];

/// Another system that runs tasks, on as many threads as the regions beside it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    matmul: Products,
    cholesky: Factor,
    planning: Products,
}

/// The systems that are installed; of the others it is printed why they are not measured. Once in a program.
pub(crate) fn installed(threads: usize) -> Vec<&'static Peer> {
    let made = SOURCES.iter().filter_map(|source| match made(source, threads) {
        Ok(peer) => Some(peer),
        Err(reason) => {
            eprintln!("{} is not measured: {reason}", source.name);
            None
        }
    });
    // Threads of theirs run until the process ends.
    made.map(|peer| &*Box::leak(Box::new(peer))).collect()
}

/// What a command prints.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let said = |text: &dyn fmt::Display| format!("{program}: {text}");
    let output = command.output().map_err(|error| said(&error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(said(&text.lines().next().unwrap_or("it fails")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn made(source: &Source, threads: usize) -> Result<Peer, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(file(name), text).map_err(|error| error.to_string());
    write("peer.h", HEADER)?;
    write("peer.c", source.text)?;
    let mut found = Ok(String::new());
    for package in source.packages {
        found = output(Command::new("pkg-config").args(["--cflags", "--libs", package]));
        if found.is_ok() {
            break;
        }
    }
    let flags = found?;
    let mut compile = Command::new("cc");
    compile
        .args(["-O2", "-shared", "-fPIC"])
        .args(source.flags)
        .arg(file("peer.c"))
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(file("peer.so"));
    output(&mut compile)?;
    opened(source.name, &file("peer.so"), threads)
}

fn opened(name: &'static str, path: &Path, threads: usize) -> Result<Peer, String> {
    // SAFETY: the file was compiled from the sources beside this one, whose initialisers are those of their runtimes.
    let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
    // It stays: its threads run its code.
    let library = Box::leak(Box::new(library));
    macro_rules! function {
        ($name:literal, $type:ty) => {{
            // SAFETY: `peer.h` declares it with this signature.
            let symbol = unsafe { library.get::<$type>($name) };
            *symbol.map_err(|error| error.to_string())?
        }};
    }
    let begin = function!(b"peer_begin", Begin);
    // SAFETY: it asks for nothing but to be called first.
    let began = unsafe { begin(u32::try_from(threads).unwrap_or(1)) };
    if began == 0 {
        return Err("it does not begin".into());
    }
    Ok(Peer {
        name,
        matmul: function!(b"peer_matmul", Products),
        cholesky: function!(b"peer_cholesky", Factor),
        planning: function!(b"peer_planning", Products),
    })
}

/// Where the elements of a list lie, for a system that writes to them.
fn addresses<T>(all: &mut [T]) -> Vec<*mut c_void> {
    all.iter_mut().map(|one| std::ptr::from_mut(one).cast()).collect()
}

impl Peer {
    /// Adds the product of two matrices of n × n tiles to a third one. The time in ns.
    pub(crate) fn matmul(&self, n: usize, a: &[&Tile], b: &[&Tile], c: &mut [Tile]) -> f64 {
        assert!([a.len(), b.len(), c.len()].iter().all(|len| *len == n * n), "there are n x n tiles");
        let of_read = |all: &[&Tile]| -> Vec<*mut c_void> { all.iter().map(|one| std::ptr::from_ref(*one).cast_mut().cast()).collect() };
        let (mut a, mut b, mut c) = (of_read(a), of_read(b), addresses(c));
        // SAFETY: there are so many tiles (above), which are borrowed until this returns, when all bodies are over; they are given to `multiply` alone, those of `a` and `b` to be read, those of `c` as
        // what it changes, by one task at a time, as the dependencies say.
        unsafe { (self.matmul)(n, a.as_mut_ptr(), b.as_mut_ptr(), c.as_mut_ptr(), multiply) }
    }

    /// Takes the lower tiles of n × n to those of the Cholesky factor; the others are not used. The time in ns.
    pub(crate) fn cholesky(&self, n: usize, a: &mut [Tile]) -> f64 {
        assert_eq!(a.len(), n * n, "there are n x n tiles");
        let mut a = addresses(a);
        // SAFETY: as in `matmul`; bodies have the tiles that they change for themselves.
        unsafe { (self.cholesky)(n, a.as_mut_ptr(), potrf, trsm, gemm) }
    }

    /// How long the spawning thread has a core until the tasks of a product of n × n tiles are spawned, which do nothing. In ns.
    pub(crate) fn planning(&self, n: usize) -> f64 {
        let mut tiles = [(); 3].map(|()| vec![0.0_f64; n * n]);
        let [mut a, mut b, mut c] = tiles.each_mut().map(|all| addresses(all));
        // SAFETY: there are so many elements, which live until this returns, when all bodies are over; `nothing` does not look at them.
        unsafe { (self.planning)(n, a.as_mut_ptr(), b.as_mut_ptr(), c.as_mut_ptr(), nothing) }
    }
}

/// Calls `body` with tiles.
///
/// # Safety
/// All are tiles that were given to a [`Peer`], by a task that has access to them, to the last one for itself alone.
unsafe fn with_tiles<const N: usize>(read: [*const c_void; N], write: *mut c_void, body: impl FnOnce([&Tile; N], &mut Tile)) {
    let read = read.map(|address| {
        // SAFETY: the caller's promise.
        unsafe { &*address.cast::<Tile>() }
    });
    // SAFETY: the caller's promise.
    let write = unsafe { &mut *write.cast::<Tile>() };
    body(read, write);
}

extern "C" fn multiply(a: *const c_void, b: *const c_void, c: *mut c_void) {
    // SAFETY: tasks of `Peer::matmul` call this, with accesses for just that.
    unsafe { with_tiles([a, b], c, |[a, b], c| super::linear::multiply(a, b, c)) };
}

extern "C" fn potrf(a: *mut c_void) {
    // SAFETY: as in `multiply`, of `Peer::cholesky`.
    unsafe { with_tiles([], a, |[], a| cholesky::potrf(a).expect("the matrix is positive definite")) };
}

extern "C" fn trsm(diagonal: *const c_void, a: *mut c_void) {
    // SAFETY: as in `potrf`.
    unsafe { with_tiles([diagonal], a, |[diagonal], a| cholesky::trsm(diagonal, a)) };
}

extern "C" fn gemm(a: *const c_void, b: *const c_void, c: *mut c_void) {
    // SAFETY: as in `potrf`.
    unsafe { with_tiles([a, b], c, |[a, b], c| cholesky::gemm(a, b, c)) };
}

extern "C" fn nothing(_: *const c_void, _: *const c_void, _: *mut c_void) {}
