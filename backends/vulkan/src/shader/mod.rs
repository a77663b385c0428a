//! A stand-in for what reads and compiles kernel code.

use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};
use poniard_interface::{Access, Binding, ElementKind, InspectError, KernelInterface, Source};

/// What a device can compute with besides the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of features")]
pub(crate) struct DeviceFeatures {
    pub(crate) f64: bool,
    pub(crate) f16: bool,
    pub(crate) i64: bool,
    pub(crate) i16: bool,
    pub(crate) f32_atomics: bool,
    pub(crate) i64_atomics: bool,
    pub(crate) subgroups: bool,
}

/// How to compile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    /// Whether indexes are not checked.
    pub(crate) unchecked: bool,
}

fn parse(source: Source<'_>) -> Result<(naga::Module, naga::valid::ModuleInfo), InspectError> {
    let Source::Wgsl(text) = source else { return Err(InspectError::new("no WGSL")) };
    let module = naga::front::wgsl::parse_str(text).map_err(|error| InspectError::new(error.emit_to_string(text)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|error| InspectError::new(error.emit_to_string(text)))?;
    Ok((module, info))
}

/// What the code takes.
pub(crate) fn inspect(source: Source<'_>) -> Result<KernelInterface, InspectError> {
    let (module, info) = parse(source)?;
    let entry = module.entry_points.first().ok_or_else(|| InspectError::new("no entry point"))?;
    let uses = info.get_entry_point(0);
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| InspectError::new(error.to_string()))?;
    let mut interface = KernelInterface { workgroup: entry.workgroup_size, ..KernelInterface::default() };
    for (handle, variable) in module.global_variables.iter() {
        match (variable.space, variable.binding) {
            (naga::AddressSpace::Storage { .. }, Some(place)) => {
                let (reads, writes) = (uses[handle].contains(GlobalUse::READ), uses[handle].contains(GlobalUse::WRITE));
                interface.bindings.push(Binding {
                    name: variable.name.clone().unwrap_or_default(),
                    number: place.binding,
                    element: ElementKind::F32,
                    element_bytes: 4,
                    len_bytes_min: 4,
                    is_sized: false,
                    access: match (reads, writes) {
                        (_, false) => Access::Read,
                        (true, true) => Access::Write,
                        (false, true) => Access::Overwrite,
                    },
                });
            }
            (naga::AddressSpace::Immediate, _) => interface.scalars_bytes = layouter[variable.ty].size,
            _ => {}
        }
    }
    interface.bindings.sort_by_key(|binding| binding.number);
    Ok(interface)
}

/// SPIR-V of the code.
pub(crate) fn compile(source: Source<'_>, target: &Target) -> Result<Vec<u32>, InspectError> {
    if let Source::SpirV(words) = source {
        return Ok(words.to_vec());
    }
    let _ = target.unchecked;
    let (module, info) = parse(source)?;
    let options = naga::back::spv::Options { lang_version: (1, 5), ..Default::default() };
    naga::back::spv::write_vec(&module, &info, &options, None).map_err(|error| InspectError::new(error.to_string()))
}

/// What the device lacks.
pub(crate) fn missing(interface: &KernelInterface, features: &DeviceFeatures) -> Option<String> {
    interface.features.iter().find(|feature| *feature == "f64" && !features.f64).cloned()
}
