//! What a plugin file says about itself before any of its code runs.
//!
//! Each plugin exports one symbol, `poniard_backend_<name>` or `poniard_policy_<name>`, whose bytes are a [`PluginHeader`]. The loader reads them from the *file*, and
//! refuses a foreign, older or broken plugin with a sentence about it before the dynamic linker runs a constructor of the file.
#![expect(unsafe_code, reason = "reads the header's bytes out of a file")]

use crate::stable::TypeLayout;

/// First bytes of every header.
pub const MAGIC: [u8; 8] = *b"PONIARD\0";
/// Raised when an older plugin can no longer be used.
pub const ABI_MAJOR: u32 = 4;
/// Raised when something was added that an older host does not know.
pub const ABI_MINOR: u32 = 0;
/// The compiler of this image, as `rustc --version` prints it.
pub const RUSTC: &str = env!("PONIARD_RUSTC");

/// What a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    /// A [`Backend`](crate::Backend).
    Backend,
    /// A [`Policy`](crate::policy::Policy).
    Policy,
}

impl PluginKind {
    /// Its word: `backend`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Policy => "policy",
        }
    }

    /// Several of them: `backends`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Backend => "backends",
            Self::Policy => "policies",
        }
    }

    /// What the names of its files begin with.
    #[must_use]
    pub const fn file_prefix(self) -> &'static str {
        match self {
            Self::Backend => "libponiard_backend_",
            Self::Policy => "libponiard_policy_",
        }
    }

    /// The symbol that the plugin `name` exports.
    #[must_use]
    pub fn symbol(self, name: &str) -> String {
        format!("poniard_{}_{name}", self.name())
    }
}

impl std::fmt::Display for PluginKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The part of the header that is frozen for all versions: it is read from files of any age.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginIdentity {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`ABI_MAJOR`] of the plugin.
    pub abi_major: u32,
    /// [`ABI_MINOR`] of the plugin.
    pub abi_minor: u32,
    /// `size_of::<PluginHeader>()` in the plugin.
    pub header_bytes: u32,
    /// `size_of::<usize>()` in the plugin.
    pub pointer_bytes: u32,
    /// The plugin's name, padded with zeros.
    pub name: [u8; 32],
    /// The plugin's version, padded with zeros.
    pub version: [u8; 32],
    /// The plugin's compiler, padded with zeros.
    pub rustc: [u8; 64],
}

/// Length of [`PluginIdentity`] in bytes.
pub const IDENTITY_BYTES: usize = size_of::<PluginIdentity>();

impl PluginIdentity {
    /// Reads an identity from the first [`IDENTITY_BYTES`] of a header, in the byte order of this machine.
    pub fn from_bytes(bytes: &[u8; IDENTITY_BYTES]) -> Self {
        // SAFETY: the type is plain numbers without padding, so every bit pattern is a value; the read does not need alignment.
        unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
    }

    /// The name as text.
    pub fn name(&self) -> String {
        text(&self.name)
    }

    /// The version as text.
    pub fn version(&self) -> String {
        text(&self.version)
    }

    /// The compiler as text.
    pub fn rustc(&self) -> String {
        text(&self.rustc)
    }
}

/// What the exported symbol holds. Made by [`export_backend!`](crate::export_backend) and [`export_policy!`](crate::export_policy). `Create` is a function: headers of both
/// kinds have one size.
#[repr(C)]
#[derive(Debug)]
pub struct PluginHeader<Create> {
    /// Read from the file, before the plugin's code can run.
    pub identity: PluginIdentity,
    /// The layout of the contract as the plugin was compiled with it.
    pub layout: extern "C" fn() -> &'static TypeLayout,
    /// Makes the backend or the policy.
    pub create: Create,
}

impl<Create: Copy> PluginHeader<Create> {
    /// The header of the plugin `name`. Evaluated at compile time.
    ///
    /// # Panics
    /// When the name or the version is longer than 31 bytes: a compile error where it is used.
    pub const fn new(name: &str, version: &str, layout: extern "C" fn() -> &'static TypeLayout, create: Create) -> Self {
        assert!(name.len() < 32, "a plugin's name has at most 31 bytes");
        assert!(version.len() < 32, "a plugin's version has at most 31 bytes");
        Self {
            identity: PluginIdentity {
                magic: MAGIC,
                abi_major: ABI_MAJOR,
                abi_minor: ABI_MINOR,
                header_bytes: size_of::<Self>() as u32,
                pointer_bytes: size_of::<usize>() as u32,
                name: padded(name),
                version: padded(version),
                rustc: padded(RUSTC),
            },
            layout,
            create,
        }
    }
}

/// `text` cut or padded with zeros to `N` bytes, the last one always zero.
const fn padded<const N: usize>(text: &str) -> [u8; N] {
    let bytes = text.as_bytes();
    let mut out = [0; N];
    let mut index = 0;
    while index < bytes.len() && index + 1 < N {
        out[index] = bytes[index];
        index += 1;
    }
    out
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
