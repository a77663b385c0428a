//! Named code with one body for each processor kind.

use std::fmt;
use std::sync::Arc;

use crate::buffer::ElementKind;
use crate::erased::Erased;
use crate::ids::ProcessorKind;
use crate::launch::Source;
use crate::processor::operation_error;
use crate::type_key::TypeKey;

/// How a task uses an argument.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `&T`: the argument is read.
    Read = 0,
    /// `&mut T`: the argument is read and written in place.
    Write = 1,
    /// `&mut T` whose old contents need not be there.
    Overwrite = 2,
}

/// One parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, for messages and for graph files.
    pub name: &'static str,
    /// The type it takes.
    pub key: TypeKey,
    /// The type's name, for messages.
    pub type_name: &'static str,
    /// How it is used.
    pub access: Access,
}

/// A body for the host: arguments in, result out. It runs in the image that made it, on any thread.
pub type HostBody = Arc<dyn Fn(&[&Erased]) -> Result<Erased, KernelError> + Send + Sync>;

/// The code of one body.
#[derive(Clone)]
#[non_exhaustive]
pub enum Code {
    /// A function of the host.
    Host(HostBody),
    /// Source in WGSL, compiled by the backend.
    Wgsl(Arc<str>),
    /// SPIR-V words.
    SpirV(Arc<[u32]>),
}

impl Code {
    /// What a backend compiles; nothing of a function of the host.
    pub fn source(&self) -> Option<Source<'_>> {
        match self {
            Self::Host(_) => None,
            Self::Wgsl(source) => Some(Source::Wgsl(source)),
            Self::SpirV(words) => Some(Source::SpirV(words)),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(_) => f.write_str("Host(..)"),
            Self::Wgsl(source) => write!(f, "Wgsl({} bytes)", source.len()),
            Self::SpirV(words) => write!(f, "SpirV({} words)", words.len()),
        }
    }
}

/// Named code: a signature, and one body for each kind of processor that can run it.
///
/// Operations know no backend and backends know no operation; this is where they meet.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: String,
    parameters: Vec<Parameter>,
    bodies: Vec<(ProcessorKind, Code)>,
}

impl Kernel {
    /// A kernel without bodies.
    pub fn new(name: impl Into<String>, parameters: Vec<Parameter>) -> Self {
        Self { name: name.into(), parameters, bodies: Vec::new() }
    }

    /// Adds or replaces the body for processors of `kind`.
    #[must_use]
    pub fn with_body(mut self, kind: ProcessorKind, code: Code) -> Self {
        self.bodies.retain(|(known, _)| *known != kind);
        self.bodies.push((kind, code));
        self
    }

    /// Adds or replaces the body for processors of kind `cpu`.
    #[must_use]
    pub fn with_host_body(self, body: impl Fn(&[&Erased]) -> Result<Erased, KernelError> + Send + Sync + 'static) -> Self {
        self.with_body(ProcessorKind::cpu(), Code::Host(Arc::new(body)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its signature.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The body for processors of `kind`.
    pub fn code(&self, kind: &ProcessorKind) -> Option<&Code> {
        self.bodies.iter().find(|(known, _)| known == kind).map(|(_, code)| code)
    }

    /// The kinds of processors that can run it.
    pub fn kinds(&self) -> impl Iterator<Item = &ProcessorKind> {
        self.bodies.iter().map(|(kind, _)| kind)
    }
}

/// What a body takes, as its source says.
///
/// Buffers are bound in the order of their binding numbers; scalars lie in one block of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelInterface {
    /// The buffers, in the order of their numbers.
    pub bindings: Vec<Binding>,
    /// The scalar parameters, in the order in which they are declared.
    pub scalars: Vec<Scalar>,
    /// Length of the block of scalars, in bytes.
    pub scalars_bytes: u32,
    /// Invocations in a workgroup, along x, y and z.
    pub workgroup: [u32; 3],
    /// What a device has to have for it, besides the ordinary: `f64`, `f16`, `i64`.
    pub features: Vec<String>,
}

/// A buffer that a body takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name in the source, for messages.
    pub name: String,
    /// Its number in the source.
    pub number: u32,
    /// What it is made of: the scalar type, also where the elements are made of several of it; `Opaque` where types are mixed.
    pub element: ElementKind,
    /// Distance from one element to the next, in bytes; all of it, where it is no array. The length of a buffer is a multiple of it, above `len_bytes_min`.
    pub element_bytes: u32,
    /// The shortest buffer that it can be, in bytes: with one element, where the source declares an array of unknown length.
    pub len_bytes_min: u64,
    /// Whether the length has to be just that: the source declares no array of unknown length.
    pub is_sized: bool,
    /// How the code uses it, whatever its declaration allows. [`Access::Overwrite`]: nothing of it is read.
    pub access: Access,
}

/// A scalar parameter of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Its name in the source, for messages.
    pub name: String,
    /// Its type.
    pub kind: ElementKind,
    /// Where it lies in the block, in bytes.
    pub offset_bytes: u32,
}

operation_error!(
    /// A body's source is no kernel. The reason may have several lines: the place in the source is shown.
    InspectError,
    "{reason}"
);

/// A kernel's body failed; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KernelError(pub String);

impl KernelError {
    /// A failure in words: lower case, no full stop.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
