//! Why a plugin file was refused.

use std::io;
use std::path::PathBuf;

use poniard_interface::header::{ABI_MAJOR, ABI_MINOR, PluginKind};

/// A plugin file, or a folder of them, could not be used. The message is one paragraph: which file, what was expected, what was found, and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[error("failed to load the plugin `{}`: {kind}", .file.display())]
#[non_exhaustive]
pub struct LoadError {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: LoadErrorKind,
}

/// What is wrong with a plugin file. Versions of the contract are `(major, minor)`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// Nothing is there.
    #[error("no such file or folder; correct the path, or build the plugin first")]
    Missing,
    /// The operating system refused.
    #[error("cannot {operation}: {error}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// It is a folder, a pipe, a device or a socket.
    #[error("expected a regular file, found {found}; take it away or rename it")]
    NotAFile {
        /// What it is, with its article.
        found: &'static str,
    },
    /// It has no bytes.
    #[error("expected an ELF shared object, found an empty file; build or copy the plugin again")]
    Empty,
    /// It does not begin as an ELF file.
    #[error("expected an ELF shared object, found a file that begins with the bytes `{}`; it is no plugin, take it away or rename it", .first_bytes.escape_ascii())]
    NotElf {
        /// Its first bytes, at most four.
        first_bytes: Vec<u8>,
    },
    /// It is built for another machine.
    #[error("it is built for {found}, this program for {expected}; rebuild the plugin for this machine")]
    OtherMachine {
        /// This machine.
        expected: String,
        /// The file's machine.
        found: String,
    },
    /// It is an ELF file of another sort.
    #[error("expected an ELF shared object, found {found}; build the plugin with `crate-type = [\"cdylib\"]`")]
    NotShared {
        /// What it is, with its article.
        found: String,
    },
    /// Its end is missing.
    #[error("the file is truncated: its ELF headers speak of {needed_bytes} bytes and it has {len_bytes}; build or copy the plugin again")]
    Truncated {
        /// How long the file must be at least.
        needed_bytes: u64,
        /// How long it is.
        len_bytes: u64,
    },
    /// Its ELF structure makes no sense.
    #[error("its ELF structure is broken: {reason}; build or copy the plugin again")]
    Malformed {
        /// What makes no sense.
        reason: String,
    },
    /// It exports no header.
    #[error(
        "expected an exported symbol `{}`, found none; it is no plugin of Poniard, or its crate does not call `export_{kind}!`",
        .kind.symbol(.name.as_deref().unwrap_or("<name>"))
    )]
    NoHeader {
        /// What it was to be.
        kind: PluginKind,
        /// The name that was looked for; `None` if any would have done.
        name: Option<String>,
    },
    /// It is a plugin of another kind.
    #[error("expected a {expected}, found a {found}; rename the file to `{}<name>.so`", .found.file_prefix())]
    OtherKind {
        /// What it was to be.
        expected: PluginKind,
        /// What it is.
        found: PluginKind,
    },
    /// It exports several headers and the file name chooses none.
    #[error("it exports several {} ({}); rename the file to `{}<name>.so` to choose one", .kind.plural(), .names.join(", "), .kind.file_prefix())]
    Several {
        /// Of what.
        kind: PluginKind,
        /// Their names.
        names: Vec<String>,
    },
    /// What the symbol names does not begin as a header does.
    #[error("the symbol `{symbol}` holds no header of a plugin: expected the bytes `PONIARD\\0`, found `{}`; rebuild the plugin", .found.escape_ascii())]
    Magic {
        /// The symbol.
        symbol: String,
        /// Its first bytes.
        found: [u8; 8],
    },
    /// It was built with an older contract that this host no longer speaks.
    #[error(
        "it is older than this program: expected version {} of the contract, found {} (plugin version {version}, built by {rustc}); rebuild the plugin with poniard-interface {}",
        abi(HOST_ABI), abi(*.plugin), env!("CARGO_PKG_VERSION")
    )]
    OlderContract {
        /// The plugin's contract.
        plugin: (u32, u32),
        /// The plugin's own version.
        version: String,
        /// The plugin's compiler.
        rustc: String,
    },
    /// It was built with a newer contract than this host knows.
    #[error(
        "it is newer than this program: expected version {} of the contract, found {} (plugin version {version}, built by {rustc}); update this program, or rebuild the plugin with poniard-interface {}",
        abi(HOST_ABI), abi(*.plugin), env!("CARGO_PKG_VERSION")
    )]
    NewerContract {
        /// The plugin's contract.
        plugin: (u32, u32),
        /// The plugin's own version.
        version: String,
        /// The plugin's compiler.
        rustc: String,
    },
    /// Its addresses have another size.
    #[error("expected pointers of {expected_bytes} bytes, found {found_bytes}; rebuild the plugin for this machine")]
    PointerSize {
        /// This program's.
        expected_bytes: u32,
        /// The plugin's.
        found_bytes: u32,
    },
    /// Its header has another size, although its contract has the right version.
    #[error("expected a header of {expected_bytes} bytes, found {found_bytes}; rebuild the plugin with poniard-interface {}", env!("CARGO_PKG_VERSION"))]
    HeaderSize {
        /// This program's.
        expected_bytes: u64,
        /// The plugin's.
        found_bytes: u64,
    },
    /// The symbol and the header it names disagree.
    #[error("its symbol `{symbol}` and its header disagree: the header says that it is called `{header}`; rebuild the plugin")]
    SymbolName {
        /// The symbol.
        symbol: String,
        /// The name in the header.
        header: String,
    },
    /// The file name and the header disagree.
    #[error(
        "its file name says that the {kind} is called `{file}`, its header says `{header}`; rename the file to `{}{header}.so`",
        .kind.file_prefix()
    )]
    FileName {
        /// What it is.
        kind: PluginKind,
        /// The name in the file name.
        file: String,
        /// The name in the header.
        header: String,
    },
    /// What it made has another name than the header.
    #[error("its header says that the {kind} is called `{expected}`, the {kind} says `{found}`; rebuild the plugin with one name in both")]
    OwnName {
        /// What it is.
        kind: PluginKind,
        /// The name in the header.
        expected: String,
        /// The name that the backend or the policy gave.
        found: String,
    },
    /// The dynamic linker refused it.
    #[error("the dynamic linker refused it: {reason}; install what it needs, or rebuild the plugin on this machine")]
    Link {
        /// What the linker said.
        reason: String,
    },
    /// What was mapped is not what the file said.
    #[error("its header in memory is not the one in the file: the file changed while it was loaded; start the program again")]
    Changed,
    /// Its types are laid out differently.
    #[error(
        "it was built against a different layout of the contract (plugin version {version}, built by {rustc}): {difference}; rebuild the plugin with poniard-interface {}",
        env!("CARGO_PKG_VERSION")
    )]
    Layout {
        /// The first difference.
        difference: String,
        /// The plugin's own version.
        version: String,
        /// The plugin's compiler.
        rustc: String,
    },
    /// Its constructor failed or panicked.
    #[error("it could not make its {kind}: {reason}; this is a fault of the plugin, report it to its author")]
    Create {
        /// What it is.
        kind: PluginKind,
        /// What it said.
        reason: String,
    },
    /// An earlier file has the same.
    #[error("the {kind} `{name}` was found in `{}` already, which comes first in the search; take one of the two away", .first.display())]
    Duplicate {
        /// What it is.
        kind: PluginKind,
        /// Its name.
        name: String,
        /// The other file.
        first: PathBuf,
    },
    /// Plugin files are not supported here.
    #[error("plugin files are supported on 64-bit Linux, this program runs on {host}; use what is linked into it")]
    UnsupportedHost {
        /// The operating system and the machine.
        host: String,
    },
}

/// The version of the contract that this program speaks.
pub(super) const HOST_ABI: (u32, u32) = (ABI_MAJOR, ABI_MINOR);

fn abi((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
