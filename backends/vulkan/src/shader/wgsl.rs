//! Kernels in WGSL: checked and compiled by naga.

use std::error::Error;

use naga::valid::{
    Capabilities, EntryPointError, FunctionError, FunctionInfo, GlobalUse, GlobalVariableError, ModuleInfo, ValidationError,
    ValidationFlags, Validator,
};
use naga::{AddressSpace, ArraySize, Expression, Function, Handle, MathFunction, Module, ScalarKind, ShaderStage, TypeInner};
use poniard_interface::{InspectError, KernelInterface, Scalar};

use super::Target;
use super::address;
use super::features;
use super::place::error_at;
use super::shape::{Shape, access, addresses_offset, check_workgroup, is_scalar, scalars_bytes, sort_bindings};
use super::wrap;

/// What naga lets through: what some Vulkan device has and [`features`] has a name for.
const CAPABILITIES: Capabilities = Capabilities::IMMEDIATES
    .union(Capabilities::FLOAT64)
    .union(Capabilities::SHADER_FLOAT16)
    .union(Capabilities::SHADER_FLOAT16_IN_FLOAT32)
    .union(Capabilities::SHADER_INT16)
    .union(Capabilities::SHADER_INT64)
    .union(Capabilities::SHADER_INT64_ATOMIC_MIN_MAX)
    .union(Capabilities::SHADER_INT64_ATOMIC_ALL_OPS)
    .union(Capabilities::SHADER_FLOAT32_ATOMIC)
    .union(Capabilities::SUBGROUP)
    .union(Capabilities::SUBGROUP_BARRIER)
    .union(Capabilities::MEMORY_DECORATION_COHERENT)
    .union(Capabilities::MEMORY_DECORATION_VOLATILE);

/// A kernel that was found good.
pub(super) struct Checked {
    module: Module,
    info: ModuleInfo,
    /// Without the features, which the compiled module knows.
    interface: KernelInterface,
    /// Whether scalars have to be read by our code, since naga does not take their type among push constants.
    is_wrapped: bool,
}

/// Where the kernel's scalars are.
struct Scalars {
    variable: Handle<naga::GlobalVariable>,
    /// Each with its length in bytes.
    list: Vec<(Scalar, u32)>,
}

/// Reads and checks `text`.
pub(super) fn check(text: &str) -> Result<Checked, InspectError> {
    let mut module = naga::front::wgsl::parse_str(text).map_err(|error| {
        let labels: Vec<_> = error.labels().collect();
        let notes = error.notes().fold(String::new(), |notes, note| format!("{notes}: {note}"));
        error_at(text, &format!("{}{notes}", error.message()), &labels)
    })?;
    module.entry_points.retain(|entry| entry.stage == ShaderStage::Compute);
    let entry = match module.entry_points.as_slice() {
        [entry] => entry,
        [] => return Err(InspectError::new("the source has no function that is marked with `@compute`")),
        several => {
            let names: Vec<_> = several.iter().map(|entry| format!("`{}`", entry.name)).collect();
            return Err(InspectError::new(format!(
                "the source has {} functions that are marked with `@compute`, one is possible: {}",
                names.len(),
                names.join(", ")
            )));
        }
    };
    let is_overridden = entry.workgroup_size_overrides.is_some_and(|axes| axes.iter().any(Option::is_some));
    if !is_overridden {
        check_workgroup(entry.workgroup_size)?;
    }

    let shapes = shapes(&module);
    let scalars = find_scalars(text, &module, &shapes)?;
    let (list, block_bytes) = match &scalars {
        Some(found) => {
            let at = module.global_variables.get_span(found.variable);
            let bytes = scalars_bytes(&found.list).map_err(|error| error_at(text, &error.reason, &[(at, "")]))?;
            (found.list.iter().map(|(scalar, _)| scalar.clone()).collect(), bytes)
        }
        None => (Vec::new(), 0),
    };
    // naga wants no 16-bit types among push constants: they are checked as a uniform and read by our code.
    let is_wrapped = scalars.as_ref().is_some_and(|found| found.list.iter().any(|(_, bytes)| *bytes < 4));
    if let Some(found) = &scalars {
        let variable = module.global_variables.get_mut(found.variable);
        (variable.space, variable.binding) = if is_wrapped {
            (AddressSpace::Uniform, Some(naga::ResourceBinding { group: u32::MAX, binding: 0 }))
        } else {
            (AddressSpace::Immediate, None)
        };
    }

    let info = Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module).map_err(|error| {
        // The innermost place; naga's name of what is there is no help.
        error_at(text, &explain(error.as_inner()), &error.spans().take(1).map(|(span, _)| (*span, "")).collect::<Vec<_>>())
    })?;
    refuse_double_functions(text, &module, &info)?;

    let uses = info.get_entry_point(0);
    let mut bindings = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        if let (AddressSpace::Storage { .. }, Some(binding)) = (variable.space, &variable.binding) {
            let used = uses[handle];
            let how = access(used.intersects(GlobalUse::READ | GlobalUse::ATOMIC), used.intersects(GlobalUse::WRITE | GlobalUse::ATOMIC));
            bindings.push(shapes[variable.ty.index()].binding(name(&variable.name), binding.binding, how));
        }
    }
    let bindings = sort_bindings(bindings)?;

    let (module, info) = resolve_overrides(text, module, info)?;
    let workgroup = module.entry_points.first().map_or([0; 3], |entry| entry.workgroup_size);
    check_workgroup(workgroup)?;
    let interface = KernelInterface { bindings, scalars: list, scalars_bytes: block_bytes, workgroup, features: Vec::new() };
    Ok(Checked { module, info, interface, is_wrapped })
}

/// What the kernel takes.
pub(super) fn inspect(text: &str) -> Result<KernelInterface, InspectError> {
    let mut checked = check(text)?;
    let words = write(&mut checked, Target::default())?;
    checked.interface.features = features::named(&super::spirv::capabilities(&words)?);
    Ok(checked.interface)
}

/// What the invocations of a workgroup share, in bytes.
pub(super) fn workgroup_bytes(text: &str) -> Result<u64, InspectError> {
    let Checked { module, info, .. } = check(text)?;
    let used = info.get_entry_point(0);
    let shared =
        module.global_variables.iter().filter(|(handle, variable)| variable.space == AddressSpace::WorkGroup && !used[*handle].is_empty());
    Ok(shared.map(|(_, variable)| u64::from(module.types[variable.ty].inner.size(module.to_ctx()))).sum())
}

/// The kernel as SPIR-V.
pub(super) fn compile(text: &str, target: Target) -> Result<Vec<u32>, InspectError> {
    let mut checked = check(text)?;
    let words = write(&mut checked, target)?;
    if target.addressed == 0 {
        return Ok(words);
    }
    let is_addressed = |index: &usize| target.addressed >> index & 1 == 1;
    let bindings = checked.interface.bindings.iter().enumerate().filter(|(index, _)| is_addressed(index));
    let numbers: Vec<u32> = bindings.map(|(_, binding)| binding.number).collect();
    address::rewrite(&words, &numbers, addresses_offset(&checked.interface, &target))
}

fn write(checked: &mut Checked, target: Target) -> Result<Vec<u32>, InspectError> {
    use naga::back::spv;
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

    if checked.is_wrapped || target.parts {
        wrap::wrap(&mut checked.module, target.parts.then(|| super::parts_offset(&checked.interface)));
        // The user's code was checked as it was written: barriers depend on scalars here, which are uniform and no longer look so.
        let flags = ValidationFlags::all().difference(ValidationFlags::CONTROL_FLOW_UNIFORMITY);
        checked.info = Validator::new(flags, CAPABILITIES)
            .validate(&checked.module)
            .map_err(|error| InspectError::new(format!("the kernel cannot be launched in parts: {}", causes(error.as_inner()))))?;
    }
    let policy = if target.unchecked { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
    let options = spv::Options {
        lang_version: (1, 3),
        // Names, in each build: what a driver and its layers say is about the source, and the same source makes the same words.
        flags: spv::WriterFlags::DEBUG,
        // Those of the source, that is.
        fake_missing_bindings: true,
        capabilities: Some(
            features::supported().chain([::spirv::Capability::Shader]).filter(|&c| c != ::spirv::Capability::Int8).collect(),
        ),
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: if target.zeroes_workgroup_memory {
            spv::ZeroInitializeWorkgroupMemoryMode::Native
        } else {
            spv::ZeroInitializeWorkgroupMemoryMode::Polyfill
        },
        // Without it a compiler may take an endless loop for one that is never reached, and the checks before it for superfluous.
        force_loop_bounding: !target.unchecked,
        emit_int_div_checks: !target.unchecked,
        use_storage_input_output_16: false,
        ..spv::Options::default()
    };
    spv::write_vec(&checked.module, &checked.info, &options, None)
        .map_err(|error| InspectError::new(format!("the kernel cannot be compiled: {}", causes(&error))))
}

/// What each type is in memory. A type stands behind those that it is made of.
fn shapes(module: &Module) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(module.types.len());
    for (_, ty) in module.types.iter() {
        let shape = match &ty.inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => scalar_shape(*scalar),
            TypeInner::Vector { size, scalar } => {
                let of = scalar_shape(*scalar);
                Shape::solid(of.element, of.bytes * (*size as u64))
            }
            TypeInner::Matrix { scalar, .. } => {
                Shape::solid(scalar_shape(*scalar).element, ty.inner.try_size(module.to_ctx()).unwrap_or_default().into())
            }
            TypeInner::Array { base, size, stride } => {
                let count = match size {
                    ArraySize::Constant(count) => Some(count.get().into()),
                    // Only memory of a workgroup has such a length.
                    ArraySize::Pending(_) => Some(0),
                    ArraySize::Dynamic => None,
                };
                shapes[base.index()].array(count, *stride)
            }
            TypeInner::Struct { members, span } => {
                let members: Vec<_> = members.iter().map(|member| (member.offset, shapes[member.ty.index()])).collect();
                Shape::structure(&members, (*span).into())
            }
            _ => Shape::opaque(0),
        };
        shapes.push(shape);
    }
    shapes
}

fn scalar_shape(scalar: naga::Scalar) -> Shape {
    let class = match scalar.kind {
        ScalarKind::Sint => 's',
        ScalarKind::Uint => 'u',
        ScalarKind::Float => 'f',
        _ => return Shape::opaque(scalar.width.into()),
    };
    Shape::scalar(class, u32::from(scalar.width) * 8)
}

/// Finds the kernel's scalars, and refuses what a launch does not give.
fn find_scalars(text: &str, module: &Module, shapes: &[Shape]) -> Result<Option<Scalars>, InspectError> {
    let mut found: Option<Scalars> = None;
    for (handle, variable) in module.global_variables.iter() {
        let at = |message: &str| error_at(text, message, &[(module.global_variables.get_span(handle), "")]);
        let name = name(&variable.name);
        match variable.space {
            AddressSpace::Storage { .. } => {
                if matches!(module.types[variable.ty].inner, TypeInner::BindingArray { .. }) {
                    return Err(at(&format!("`{name}` is an array of buffers: a kernel takes each by a name of its own")));
                }
                if let Some(binding) = &variable.binding
                    && binding.group != 0
                {
                    return Err(at(&format!("`{name}` is in group {}: a kernel's buffers are in `@group(0)`", binding.group)));
                }
            }
            AddressSpace::Immediate | AddressSpace::Uniform => {
                if let Some(first) = &found {
                    let first = self::name(&module.global_variables[first.variable].name);
                    return Err(at(&format!("`{name}` is a second block of scalars beside `{first}`: put all into one structure")));
                }
                let list = scalars_of(&name, module, variable.ty, shapes).map_err(|message| at(&message))?;
                found = Some(Scalars { variable: handle, list });
            }
            AddressSpace::Handle => {
                return Err(at(&format!("`{name}` is a texture, a sampler or the like: a kernel takes buffers and scalars")));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The members of the block `name`, each with its length; in words what is wrong with one.
fn scalars_of(name: &str, module: &Module, ty: Handle<naga::Type>, shapes: &[Shape]) -> Result<Vec<(Scalar, u32)>, String> {
    let scalar = |name: String, ty: Handle<naga::Type>, offset_bytes| {
        let shape = shapes[ty.index()];
        if !is_scalar(shape) || matches!(module.types[ty].inner, TypeInner::Atomic(_)) {
            return Err(format!("`{name}` is no scalar: a block of scalars has members of the types f32, i32, u32, f64, i64, u64 and f16"));
        }
        Ok((Scalar { name, kind: shape.element, offset_bytes }, shape.stride))
    };
    match &module.types[ty].inner {
        TypeInner::Struct { members, .. } => {
            members.iter().map(|member| scalar(self::name(&member.name), member.ty, member.offset)).collect()
        }
        _ => Ok(vec![scalar(name.to_owned(), ty, 0)?]),
    }
}

fn name(name: &Option<String>) -> String {
    name.clone().unwrap_or_default()
}

/// What Vulkan's instructions compute for 16 and 32 bits only. naga writes them for 64 bits too, and drivers crash on them.
const NOT_FOR_DOUBLES: [MathFunction; 20] = {
    use MathFunction as M;
    [
        M::Cos,
        M::Cosh,
        M::Sin,
        M::Sinh,
        M::Tan,
        M::Tanh,
        M::Acos,
        M::Asin,
        M::Atan,
        M::Atan2,
        M::Asinh,
        M::Acosh,
        M::Atanh,
        M::Radians,
        M::Degrees,
        M::Exp,
        M::Exp2,
        M::Log,
        M::Log2,
        M::Pow,
    ]
};

fn refuse_double_functions(text: &str, module: &Module, info: &ModuleInfo) -> Result<(), InspectError> {
    let check = |function: &Function, info: &FunctionInfo| {
        for (handle, expression) in function.expressions.iter() {
            if let Expression::Math { fun, arg, .. } = expression
                && NOT_FOR_DOUBLES.contains(fun)
                && info[*arg].ty.inner_with(&module.types).scalar() == Some(naga::Scalar::F64)
            {
                let message = double_function(&format!("{fun:?}").to_lowercase());
                return Err(error_at(text, &message, &[(function.expressions.get_span(handle), "")]));
            }
        }
        Ok(())
    };
    module.functions.iter().try_for_each(|(handle, function)| check(function, &info[handle]))?;
    module.entry_points.iter().enumerate().try_for_each(|(index, entry)| check(&entry.function, info.get_entry_point(index)))
}

/// What is said about `function` of f64.
pub(super) fn double_function(function: &str) -> String {
    format!("no Vulkan device has `{function}` for f64: compute it in f32, or of sums and products")
}

/// Puts their defaults in place of `override` declarations: nobody sets them.
fn resolve_overrides(text: &str, module: Module, info: ModuleInfo) -> Result<(Module, ModuleInfo), InspectError> {
    if let Some((handle, unset)) = module.overrides.iter().find(|(_, known)| known.init.is_none()) {
        let message = format!("`{}` has no value: nobody sets it at a launch, so write `const` or give it a default", name(&unset.name));
        return Err(error_at(text, &message, &[(module.overrides.get_span(handle), "")]));
    }
    if module.overrides.is_empty() {
        return Ok((module, info));
    }
    let (resolved, resolved_info) = naga::back::pipeline_constants::process_overrides(&module, &info, None, &Default::default())
        .map_err(|error| InspectError::new(format!("the values of `override` declarations do not fit: {}", causes(&error))))?;
    Ok((resolved.into_owned(), resolved_info.into_owned()))
}

/// What the validator found, in words: ours for what happens often.
fn explain(error: &ValidationError) -> String {
    match error {
        ValidationError::GlobalVariable { name, source: GlobalVariableError::MissingTypeFlags { .. }, .. } => {
            format!("`{name}` is of a type that host and device cannot share, such as bool")
        }
        ValidationError::Function { source: FunctionError::InvalidStorePointer(_), .. }
        | ValidationError::EntryPoint { source: EntryPointError::Function(FunctionError::InvalidStorePointer(_)), .. } => {
            "this cannot be written: buffers that can are declared as `var<storage, read_write>`".to_owned()
        }
        _ => causes(error),
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{}: {cause}", text.trim_end_matches('.'));
        next = cause.source();
    }
    text
}
