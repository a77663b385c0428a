//! How a buffer is laid out, whichever language says so.

use poniard_interface::{Access, Binding, ElementKind, InspectError, KernelInterface, Scalar};

use super::address::{ADDRESS_ALIGNMENT, ADDRESS_BYTES, COUNT_BYTES};
use super::{PARTS_BYTES, Target};

/// More buffers are not bound: a device that has push descriptors takes this many.
pub(super) const BINDINGS_MAX: usize = 32;
/// More bytes of scalars are not taken: what every device has room for in push constants.
pub(super) const SCALARS_BYTES_MAX: u32 = 128;
/// More invocations in a workgroup are not taken. A device may have less, and no less than 128.
pub(super) const WORKGROUP_MAX: u64 = 1024;
/// More elements no index tells apart: it has 32 bits, and devices take it as a number with a sign.
const ELEMENTS_MAX: u32 = 1 << 31;

/// What a type is in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The scalar that all of it is made of; `Opaque` if there are several.
    pub(super) element: ElementKind,
    /// Its length in bytes, without the array of unknown length at the end.
    pub(super) bytes: u64,
    /// Of an array, and of a structure that ends with one of unknown length: the distance of its elements; else the length of it all.
    pub(super) stride: u32,
    /// Whether it ends with an array of unknown length.
    pub(super) has_tail: bool,
    /// Whether it is one scalar.
    pub(super) is_scalar: bool,
}

impl Shape {
    /// Something of `bytes` bytes that has no structure that we know.
    pub(super) fn opaque(bytes: u64) -> Self {
        Self::solid(ElementKind::Opaque, bytes)
    }

    /// Something of `bytes` bytes made of one scalar type.
    pub(super) fn solid(element: ElementKind, bytes: u64) -> Self {
        Self { element, bytes, stride: u32::try_from(bytes).unwrap_or(u32::MAX), has_tail: false, is_scalar: false }
    }

    /// A scalar of `bits` bits: 's'igned, 'u'nsigned, or 'f'loating-point.
    pub(super) fn scalar(class: char, bits: u32) -> Self {
        let element = match (class, bits) {
            ('f', 16) => ElementKind::F16,
            ('f', 32) => ElementKind::F32,
            ('f', 64) => ElementKind::F64,
            ('s', 8) => ElementKind::I8,
            ('s', 16) => ElementKind::I16,
            ('s', 32) => ElementKind::I32,
            ('s', 64) => ElementKind::I64,
            ('u', 8) => ElementKind::U8,
            ('u', 16) => ElementKind::U16,
            ('u', 32) => ElementKind::U32,
            ('u', 64) => ElementKind::U64,
            _ => ElementKind::Opaque,
        };
        Self { is_scalar: element != ElementKind::Opaque, ..Self::solid(element, u64::from(bits) / 8) }
    }

    /// An array of it; of unknown length if there is no `count`.
    pub(super) fn array(self, count: Option<u64>, stride: u32) -> Self {
        Self {
            element: self.element,
            bytes: count.unwrap_or(0).saturating_mul(stride.into()),
            stride,
            has_tail: count.is_none(),
            is_scalar: false,
        }
    }

    /// A structure of `members` with their offsets, of `bytes` bytes if it has no tail.
    pub(super) fn structure(members: &[(u32, Self)], bytes: u64) -> Self {
        let Some((&(offset, last), rest)) = members.split_last() else { return Self::opaque(bytes) };
        // Wrapped in a structure of its own, as SPIR-V wants it, everything stays what it is.
        if rest.is_empty() && offset == 0 {
            return Self { is_scalar: false, ..last };
        }
        let element = if rest.iter().all(|(_, member)| member.element == last.element) { last.element } else { ElementKind::Opaque };
        if last.has_tail { Self { element, bytes: u64::from(offset) + last.bytes, ..last } } else { Self::solid(element, bytes) }
    }

    /// The buffer that it makes.
    pub(super) fn binding(self, name: String, number: u32, access: Access) -> Binding {
        Binding {
            name,
            number,
            element: self.element,
            element_bytes: self.stride,
            len_bytes_min: if self.has_tail { self.bytes + u64::from(self.stride) } else { self.bytes },
            is_sized: !self.has_tail,
            access,
        }
    }
}

/// How something is used that is `read` and `written`.
pub(super) fn access(read: bool, written: bool) -> Access {
    match (read, written) {
        (true, true) => Access::Write,
        (false, true) => Access::Overwrite,
        (_, false) => Access::Read,
    }
}

/// Whether a launch may give it as a scalar.
pub(super) fn is_scalar(shape: Shape) -> bool {
    use ElementKind as K;
    shape.is_scalar && matches!(shape.element, K::F32 | K::I32 | K::U32 | K::F64 | K::I64 | K::U64 | K::F16)
}

/// The buffers of a group, sorted; refused if there are too many, or two with one number.
pub(super) fn sort_bindings(mut bindings: Vec<Binding>) -> Result<Vec<Binding>, InspectError> {
    bindings.sort_by_key(|binding| binding.number);
    if let Some(pair) = bindings.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(InspectError::new(format!(
            "`{}` and `{}` have the same binding number, {}",
            pair[0].name, pair[1].name, pair[0].number
        )));
    }
    if bindings.len() > BINDINGS_MAX {
        return Err(InspectError::new(format!("the kernel has {} buffers, at most {BINDINGS_MAX} are possible", bindings.len())));
    }
    Ok(bindings)
}

/// The length of a block of scalars: up to the end of the last one, in whole words, as Vulkan wants it.
pub(super) fn scalars_bytes(scalars: &[(Scalar, u32)]) -> Result<u32, InspectError> {
    let end = scalars.iter().map(|(scalar, bytes)| u64::from(scalar.offset_bytes) + u64::from(*bytes)).max().unwrap_or(0);
    match u32::try_from(end) {
        Ok(end) if end <= SCALARS_BYTES_MAX => Ok(end.next_multiple_of(4)),
        _ => Err(InspectError::new(format!(
            "the kernel has {end} bytes of scalars, at most {SCALARS_BYTES_MAX} are possible: put them into a buffer"
        ))),
    }
}

/// Refuses workgroups that no device takes.
pub(super) fn check_workgroup(workgroup: [u32; 3]) -> Result<(), InspectError> {
    let [x, y, z] = workgroup;
    let count = [x, y, z].iter().fold(1_u64, |count, &axis| count.saturating_mul(axis.into()));
    if count == 0 || count > WORKGROUP_MAX {
        return Err(InspectError::new(format!(
            "a workgroup of {x} x {y} x {z} has {count} invocations: from 1 to {WORKGROUP_MAX} are possible"
        )));
    }
    Ok(())
}

/// Where, among the push constants, what a launch in parts has of its own begins: behind the scalars.
pub fn parts_offset(interface: &KernelInterface) -> u32 {
    interface.scalars_bytes.next_multiple_of(16)
}

/// Where, among the push constants, the addresses of the buffers begin that are reached by them: behind everything else.
pub fn addresses_offset(interface: &KernelInterface, target: &Target) -> u32 {
    let before = if target.parts { parts_offset(interface) + PARTS_BYTES } else { interface.scalars_bytes.next_multiple_of(4) };
    if target.addressed == 0 { before } else { before.next_multiple_of(ADDRESS_BYTES) }
}

/// How many bytes of push constants a launch has.
pub fn pushed_bytes(interface: &KernelInterface, target: &Target) -> u32 {
    addresses_offset(interface, target) + target.addressed.count_ones() * (ADDRESS_BYTES + COUNT_BYTES)
}

/// What is pushed at [`addresses_offset`]: the addresses, and behind them the numbers of elements, for buffers of these addresses and lengths in bytes.
///
/// # Errors
/// In words why a buffer is not reached.
pub fn addresses<'a>(buffers: impl Iterator<Item = (&'a Binding, u64, u64)> + Clone) -> Result<Vec<u8>, String> {
    let mut bytes: Vec<u8> = buffers.clone().flat_map(|(_, address, _)| address.to_le_bytes()).collect();
    for (binding, address, len_bytes) in buffers {
        let refuse = |reason: String| Err(format!("buffer `{}`: {reason}", binding.name));
        let Binding { len_bytes_min, element_bytes, is_sized, .. } = *binding;
        if len_bytes < len_bytes_min {
            return refuse(format!("it has {len_bytes} bytes, and the kernel takes {len_bytes_min} at least"));
        }
        if !address.is_multiple_of(ADDRESS_ALIGNMENT) {
            return refuse(format!("it is reached by its address, {address:#x}, which is no multiple of {ADDRESS_ALIGNMENT}"));
        }
        // What stands before an array of unknown length is as long as the least length without its one element.
        let stride = u64::from(element_bytes.max(1));
        let count = if is_sized { 0 } else { (len_bytes - len_bytes_min) / stride + 1 };
        match u32::try_from(count) {
            Ok(count) if count <= ELEMENTS_MAX => bytes.extend(count.to_le_bytes()),
            _ => return refuse(format!("it has {count} elements, and a kernel tells at most {ELEMENTS_MAX} apart")),
        }
    }
    Ok(bytes)
}
