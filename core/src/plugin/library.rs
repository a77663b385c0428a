//! A plugin file, mapped into the process.
#![expect(unsafe_code, reason = "the dynamic linker runs and maps code that the compiler has not seen")]

use std::mem::ManuallyDrop;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use poniard_interface::header::{IDENTITY_BYTES, PluginIdentity, PluginKind};
use poniard_interface::policy::Policy;
use poniard_interface::stable::{self, CreateBackend, CreatePolicy, TypeLayout};
use poniard_interface::{Backend, PluginHeader};

use super::error::LoadErrorKind;
use super::file::Described;

/// A kind of plugin: what its header makes, which follows from the kind, and the layout of that.
trait Kind {
    const KIND: PluginKind;
    type Create: Copy;

    fn layout() -> &'static TypeLayout;
}

struct OfBackends;

impl Kind for OfBackends {
    const KIND: PluginKind = PluginKind::Backend;
    type Create = CreateBackend;

    fn layout() -> &'static TypeLayout {
        stable::layout()
    }
}

struct OfPolicies;

impl Kind for OfPolicies {
    const KIND: PluginKind = PluginKind::Policy;
    type Create = CreatePolicy;

    fn layout() -> &'static TypeLayout {
        stable::policy_layout()
    }
}

/// Maps the plugin at the absolute `path`, which was described as `described`, and makes its backend.
///
/// The library stays mapped for good, also when it is refused here.
pub(super) fn open(path: &Path, described: &Described) -> Result<Box<dyn Backend>, LoadErrorKind> {
    let header = map::<OfBackends>(path, described)?;
    stable::import((header.create)()).map_err(|error| LoadErrorKind::Create { kind: PluginKind::Backend, reason: error.reason })
}

/// A policy out of a file, made for the first time.
pub(super) struct OpenedPolicy {
    pub(super) policy: Box<dyn Policy>,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// Makes another one.
    pub(super) create: CreatePolicy,
}

/// The same for a policy.
pub(super) fn open_policy(path: &Path, described: &Described) -> Result<OpenedPolicy, LoadErrorKind> {
    let create = map::<OfPolicies>(path, described)?.create;
    let (policy, summary) = stable::import_policy(create()).map_err(|reason| LoadErrorKind::Create { kind: PluginKind::Policy, reason })?;
    Ok(OpenedPolicy { policy, summary, create })
}

/// Maps a plugin; its header, whose layout has been compared.
fn map<K: Kind>(path: &Path, described: &Described) -> Result<&'static PluginHeader<K::Create>, LoadErrorKind> {
    assert_eq!(described.kind, K::KIND, "a file is mapped as what it was described as");
    // SAFETY: this runs the file's constructors. `describe` found it to be a whole ELF shared object of this machine that presents itself as a plugin
    // of this contract; whoever puts such a file where plugins are looked for asks for its code to be run.
    // All symbols are bound now, so that a missing one is an error here and not the end of the process later.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(link)?;
    let library = ManuallyDrop::new(library);
    // SAFETY: the type is a pointer, which any address of a symbol is; what it points to is looked at below.
    let symbol = unsafe { library.get::<*const PluginHeader<K::Create>>(described.symbol.as_str()) }.map_err(link)?;
    let header: *const PluginHeader<K::Create> = *symbol;
    if header.is_null() || !header.is_aligned() {
        return Err(LoadErrorKind::Changed);
    }
    // SAFETY: `describe` found a data symbol of this name with at least this many bytes in a segment of the file, and the linker has just mapped the
    // segments; bytes need no alignment. Should another file have come to lie at `path` in between, its symbol of this name is
    // a header of at least these frozen bytes too, unless somebody forged it.
    let bytes = unsafe { header.cast::<[u8; IDENTITY_BYTES]>().read() };
    if PluginIdentity::from_bytes(&bytes) != described.identity {
        return Err(LoadErrorKind::Changed);
    }
    // SAFETY: the identity in memory is the one that `describe` checked: a header of this contract's major version, of this type's size, whose two
    // functions the linker has relocated; what the second one makes goes by the symbol's name, and so by the kind.
    // The pointer is aligned, and the library is never unmapped, so the reference may live for good.
    let header: &'static PluginHeader<K::Create> = unsafe { &*header };
    stable::check_layout(K::layout(), header.layout).map_err(|difference| LoadErrorKind::Layout {
        difference,
        version: described.identity.version(),
        rustc: described.identity.rustc(),
    })?;
    Ok(header)
}

/// What the dynamic linker says about a file.
fn link(error: libloading::Error) -> LoadErrorKind {
    use std::error::Error;
    // The text of the linker is the cause; the error itself only says that there is one.
    LoadErrorKind::Link { reason: error.source().map_or_else(|| error.to_string(), ToString::to_string) }
}
