//! Whether a kernel's signature fits its source.

use poniard_interface::{Access, Binding, ElementKind, KernelInterface, Scalar};

use super::Shape;

/// A parameter as the signature has it.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub(crate) shape: Option<Shape>,
    /// Whether it is a `&mut`.
    pub(crate) is_changed: bool,
    /// The type's name.
    pub(crate) name: &'static str,
}

/// Whether parameters and results fit what the source takes.
///
/// # Errors
/// What does not, in words.
pub(super) fn check(interface: &KernelInterface, parameters: &[Parameter], results: &[Shape]) -> Result<(), String> {
    let is_other = |one: &Parameter| matches!(one.shape, None | Some(Shape::Other { .. }));
    if let Some((parameter, place)) = parameters.iter().zip(1..).find(|(parameter, _)| is_other(parameter)) {
        let name = parameter.name;
        return Err(format!(
            "parameter {place} is a `{name}`: a kernel's parameters are `&Buffer`, `&mut Buffer`, `View`, `ViewMut` and numbers by value"
        ));
    }
    for result in results {
        if let Shape::Scalar { name, .. } | Shape::Other { name } = result {
            return Err(format!("its result is a `{name}`: a kernel returns nothing, a `Buffer`, or a tuple of up to four of them"));
        }
    }
    let mut bindings = interface.bindings.iter();
    let mut scalars = interface.scalars.iter();
    let count = |is_buffer: bool| {
        parameters.iter().filter(|one| one.shape.is_some_and(|shape| is_buffer == matches!(shape, Shape::Buffer { .. }))).count()
    };
    let (buffer_count, scalar_count) = (count(true) + results.len(), count(false));
    if buffer_count != interface.bindings.len() {
        return Err(format!(
            "its source binds {}{}, and its signature has {buffer_count}: {} in its parameters and {} in its result",
            number(interface.bindings.len(), "buffer"),
            names(interface.bindings.iter().map(|binding| &binding.name)),
            count(true),
            results.len()
        ));
    }
    if scalar_count != interface.scalars.len() {
        return Err(format!(
            "its source takes {}{}, and its signature has {scalar_count}",
            number(interface.scalars.len(), "scalar"),
            names(interface.scalars.iter().map(|scalar| &scalar.name))
        ));
    }
    for (parameter, place) in parameters.iter().zip(1..) {
        match parameter.shape {
            Some(shape @ Shape::Buffer { .. }) => {
                let Some(binding) = bindings.next() else { unreachable!("counted") };
                let place = format!("parameter {place}");
                check_buffer(binding, shape, &place)?;
                if binding.access != Access::Read && !parameter.is_changed {
                    return Err(format!(
                        "its source writes to `{}`, and {place} is a `&Buffer`: what a kernel changes in place is a `&mut Buffer`, and what it makes is in its result",
                        binding.name
                    ));
                }
            }
            Some(Shape::Scalar { kind, name }) => {
                let Some(scalar) = scalars.next() else { unreachable!("counted") };
                check_scalar(scalar, kind, name, place)?;
            }
            Some(Shape::Other { .. }) | None => unreachable!("refused above"),
        }
    }
    for (shape, place) in results.iter().zip(1..) {
        let Some(binding) = bindings.next() else { unreachable!("counted") };
        let place = if results.len() == 1 { "the result".into() } else { format!("result {place}") };
        check_buffer(binding, *shape, &place)?;
        if binding.access == Access::Read {
            return Err(format!("its source does not write to `{}`, which is {place}", binding.name));
        }
    }
    Ok(())
}

fn check_buffer(binding: &Binding, shape: Shape, place: &str) -> Result<(), String> {
    use ElementKind::{I8, I16, I32, U8, U16, U32};
    let Shape::Buffer { kind, bytes, name } = shape else { return Ok(()) };
    // Structures are what the user says they are, if the sizes fit; vectors and nested arrays hold several of their scalar.
    let fits = if kind == ElementKind::Opaque || binding.element == ElementKind::Opaque {
        binding.element_bytes == bytes
    } else if matches!(kind, U8 | I8 | U16 | I16) && matches!(binding.element, U32 | I32) {
        // WGSL has no numbers that small: several of them lie in one.
        true
    } else {
        kind == binding.element
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "`{}` has elements of {} and {} bytes in the source, and {place} is a `Buffer<{name}>`, whose elements have {bytes} bytes",
        binding.name,
        type_name(binding.element),
        binding.element_bytes
    ))
}

fn check_scalar(scalar: &Scalar, kind: ElementKind, name: &str, place: usize) -> Result<(), String> {
    if scalar.kind == kind {
        return Ok(());
    }
    Err(format!("`{}` is of type {} in the source, and parameter {place} is of type {name}", scalar.name, type_name(scalar.kind)))
}

fn type_name(kind: ElementKind) -> &'static str {
    match kind {
        ElementKind::Opaque => "a structure",
        ElementKind::U8 => "u8",
        ElementKind::U16 => "u16",
        ElementKind::U32 => "u32",
        ElementKind::U64 => "u64",
        ElementKind::I8 => "i8",
        ElementKind::I16 => "i16",
        ElementKind::I32 => "i32",
        ElementKind::I64 => "i64",
        ElementKind::F32 => "f32",
        ElementKind::F64 => "f64",
        ElementKind::F16 => "f16",
        _ => "another type",
    }
}

fn number(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.is_empty() { names } else { format!(" ({names})") }
}
