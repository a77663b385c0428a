//! Kernels in SPIR-V: the words are read as far as they say what the kernel takes. They come from anywhere, so nothing in them is believed.
//!
//! Whether a module is valid in every respect is for the driver's compiler, or `spirv-val`, to say.

use std::collections::{BTreeMap, BTreeSet};

use poniard_interface::{Access, ElementKind, InspectError, KernelInterface, Scalar};
use spirv::{AddressingModel, BuiltIn, Decoration, ExecutionMode, ExecutionModel, GlslStd450Op, Op, StorageClass};

use super::features;
use super::shape::{Shape, access, check_workgroup, is_scalar, scalars_bytes, sort_bindings};
use super::wgsl::double_function;

/// The words before the first instruction.
pub(super) const HEADER_WORDS: usize = 5;
/// More numbers than this no module has: the limit that SPIR-V says every consumer takes.
const BOUND_MAX: u32 = 0x003f_ffff;

/// One instruction.
#[derive(Clone, Copy)]
pub(super) struct Instruction<'a> {
    /// Where it begins, in words.
    at: usize,
    pub(super) opcode: u32,
    pub(super) operands: &'a [u32],
}

impl<'a> Instruction<'a> {
    pub(super) fn error(&self, message: &str) -> InspectError {
        let name = Op::from_u32(self.opcode).map_or_else(|| format!("instruction {}", self.opcode), |known| format!("Op{known:?}"));
        InspectError::new(format!("word {} of the SPIR-V, {name}: {message}", self.at))
    }

    pub(super) fn is(&self, op: Op) -> bool {
        self.opcode == op as u32
    }

    pub(super) fn operand(&self, index: usize) -> Result<u32, InspectError> {
        self.operands.get(index).copied().ok_or_else(|| self.error(&format!("it has {} operands, which are too few", self.operands.len())))
    }

    /// The operands from `index` on; none where it has not that many.
    pub(super) fn rest(&self, index: usize) -> &'a [u32] {
        self.operands.get(index..).unwrap_or_default()
    }

    /// The text that begins with the operand `index`.
    fn text(&self, index: usize) -> String {
        let bytes: Vec<u8> = self.rest(index).iter().flat_map(|word| word.to_le_bytes()).take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Cuts the words into instructions.
pub(super) fn instructions(words: &[u32]) -> Result<Vec<Instruction<'_>>, InspectError> {
    let wrong = |message: String| Err(InspectError::new(message));
    let [magic, version, _, bound, _, body @ ..] = words else {
        return wrong(format!("the SPIR-V is cut short: it has {} words, and the header alone has {HEADER_WORDS}", words.len()));
    };
    if *magic == spirv::MAGIC_NUMBER.swap_bytes() {
        return wrong("the SPIR-V has the bytes of each word in the other order".to_owned());
    }
    if *magic != spirv::MAGIC_NUMBER {
        return wrong(format!("this is no SPIR-V: it begins with {magic:#010x} instead of {:#010x}", spirv::MAGIC_NUMBER));
    }
    let (major, minor) = (version >> 16 & 0xff, version >> 8 & 0xff);
    if major != 1 || minor > 6 {
        return wrong(format!("the SPIR-V has version {major}.{minor}, versions 1.0 to 1.6 are known"));
    }
    if *bound == 0 || *bound > BOUND_MAX {
        return wrong(format!("the SPIR-V says that its numbers are below {bound}, from 1 to {BOUND_MAX} is possible"));
    }
    let mut found = Vec::new();
    let (mut rest, mut at) = (body, HEADER_WORDS);
    while let Some((&first, _)) = rest.split_first() {
        let len = (first >> 16) as usize;
        if len == 0 || len > rest.len() {
            return wrong(format!("the SPIR-V is cut short: the instruction at word {at} has {len} words, and {} are left", rest.len()));
        }
        let (instruction, next) = rest.split_at(len);
        found.push(Instruction { at, opcode: first & 0xffff, operands: &instruction[1..] });
        (rest, at) = (next, at + len);
    }
    Ok(found)
}

/// What the module asks for, each once.
pub(super) fn capabilities(words: &[u32]) -> Result<Vec<u32>, InspectError> {
    let mut found = Vec::new();
    for instruction in instructions(words)?.iter().filter(|instruction| instruction.is(Op::Capability)) {
        let capability = instruction.operand(0)?;
        if !found.contains(&capability) {
            found.push(capability);
        }
    }
    Ok(found)
}

/// The only entry point for compute: its number and its name.
fn find_entry_point(instructions: &[Instruction<'_>]) -> Result<(u32, String), InspectError> {
    let mut found = Vec::new();
    for instruction in instructions.iter().filter(|instruction| instruction.is(Op::EntryPoint)) {
        if instruction.operand(0)? == ExecutionModel::GLCompute as u32 {
            found.push((instruction.operand(1)?, instruction.text(2)));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(InspectError::new("the SPIR-V has no entry point for compute")),
        count => {
            let names: Vec<_> = found.iter().map(|(_, name)| format!("`{name}`")).collect();
            Err(InspectError::new(format!("the SPIR-V has {count} entry points for compute, one is possible: {}", names.join(", "))))
        }
    }
}

/// See [`super::entry_point`].
pub(super) fn entry_point(words: &[u32]) -> Result<String, InspectError> {
    find_entry_point(&instructions(words)?).map(|(_, name)| name)
}

/// A type, as far as buffers are made of it.
#[derive(Clone, Copy)]
enum Type {
    /// Something in memory, with its alignment in bytes.
    Data(Shape, u64),
    /// What points to a type.
    Pointer(u32),
    Other,
}

/// A variable outside functions.
struct Variable {
    id: u32,
    class: u32,
    target: u32,
}

/// What was read so far, by the numbers of the module.
#[derive(Default)]
struct Reader {
    names: BTreeMap<u32, String>,
    member_names: BTreeMap<(u32, u32), String>,
    decorations: BTreeMap<(u32, u32), u32>,
    offsets: BTreeMap<(u32, u32), u32>,
    types: BTreeMap<u32, Type>,
    /// The types of structures' members.
    members: BTreeMap<u32, Vec<u32>>,
    constants: BTreeMap<u32, u32>,
    composites: BTreeMap<u32, Vec<u32>>,
    variables: Vec<Variable>,
    /// The size of a workgroup, and whether these are numbers of constants.
    local_size: Option<([u32; 3], bool)>,
    /// What GLSL's instructions are called by.
    glsl: BTreeSet<u32>,
    /// The variable that each pointer leads to.
    roots: BTreeMap<u32, u32>,
    read: BTreeSet<u32>,
    written: BTreeSet<u32>,
}

/// What the kernel takes.
pub(super) fn inspect(words: &[u32]) -> Result<KernelInterface, InspectError> {
    let instructions = instructions(words)?;
    let (entry, _) = find_entry_point(&instructions)?;
    let mut reader = Reader::default();
    for instruction in &instructions {
        reader.declare(instruction, entry)?;
    }
    // In a loop a pointer may be used before the instruction that makes it, so all are known before any use is looked at.
    for instruction in &instructions {
        reader.note_use(instruction)?;
    }
    reader.finish(features::named(&capabilities(words)?))
}

impl Reader {
    fn declare(&mut self, instruction: &Instruction<'_>, entry: u32) -> Result<(), InspectError> {
        let operand = |index| instruction.operand(index);
        let Some(op) = Op::from_u32(instruction.opcode) else { return Ok(()) };
        match op {
            Op::MemoryModel if operand(0)? != AddressingModel::Logical as u32 => {
                return Err(instruction.error("the kernel works with addresses of buffers, which a launch does not give"));
            }
            Op::ExtInstImport if instruction.text(1) == "GLSL.std.450" => drop(self.glsl.insert(operand(0)?)),
            Op::ExecutionMode | Op::ExecutionModeId if operand(0)? == entry => {
                let mode = operand(1)?;
                if mode == ExecutionMode::LocalSize as u32 || mode == ExecutionMode::LocalSizeId as u32 {
                    self.local_size = Some(([operand(2)?, operand(3)?, operand(4)?], mode == ExecutionMode::LocalSizeId as u32));
                }
            }
            Op::Name => drop(self.names.insert(operand(0)?, instruction.text(1))),
            Op::MemberName => drop(self.member_names.insert((operand(0)?, operand(1)?), instruction.text(2))),
            Op::Decorate => drop(self.decorations.insert((operand(0)?, operand(1)?), instruction.rest(2).first().copied().unwrap_or(0))),
            Op::MemberDecorate if operand(2)? == Decoration::Offset as u32 => {
                self.offsets.insert((operand(0)?, operand(1)?), operand(3)?);
            }
            Op::Constant | Op::SpecConstant => drop(self.constants.insert(operand(1)?, operand(2)?)),
            Op::ConstantComposite | Op::SpecConstantComposite => drop(self.composites.insert(operand(1)?, instruction.rest(2).to_vec())),
            Op::TypeInt => {
                let shape = Shape::scalar(if operand(2)? == 0 { 'u' } else { 's' }, operand(1)?);
                self.types.insert(operand(0)?, Type::Data(shape, shape.bytes));
            }
            Op::TypeFloat => {
                let shape = Shape::scalar('f', operand(1)?);
                self.types.insert(operand(0)?, Type::Data(shape, shape.bytes));
            }
            Op::TypeVector => {
                let (of, count) = (self.data(instruction, 1)?.0, u64::from(operand(2)?));
                // Three align as four do.
                let align = of.bytes.saturating_mul(count.next_power_of_two());
                self.types.insert(operand(0)?, Type::Data(Shape::solid(of.element, of.bytes.saturating_mul(count)), align));
            }
            Op::TypeMatrix => {
                let ((column, align), count) = (self.data(instruction, 1)?, u64::from(operand(2)?));
                self.types.insert(operand(0)?, Type::Data(Shape::solid(column.element, align.saturating_mul(count)), align));
            }
            Op::TypeArray | Op::TypeRuntimeArray => {
                let stride = self.decorations.get(&(operand(0)?, Decoration::ArrayStride as u32)).copied();
                let count = match op {
                    Op::TypeArray => Some(self.constants.get(&operand(2)?).copied().unwrap_or(0).into()),
                    _ => None,
                };
                let ty = match self.types.get(&operand(1)?) {
                    Some(&Type::Data(of, align)) => Type::Data(of.array(count, stride.unwrap_or(of.stride)), align),
                    _ => Type::Other,
                };
                self.types.insert(operand(0)?, ty);
            }
            Op::TypeStruct => {
                let (id, types) = (operand(0)?, instruction.rest(1).to_vec());
                self.types.insert(id, self.structure(id, &types).map_or(Type::Other, |(shape, align)| Type::Data(shape, align)));
                self.members.insert(id, types);
            }
            Op::TypePointer => drop(self.types.insert(operand(0)?, Type::Pointer(operand(2)?))),
            Op::Variable => {
                let (id, class) = (operand(1)?, operand(2)?);
                let Some(&Type::Pointer(target)) = self.types.get(&operand(0)?) else {
                    return Err(instruction.error("its type is no pointer"));
                };
                if class != StorageClass::Function as u32 {
                    self.variables.push(Variable { id, class, target });
                    self.roots.insert(id, id);
                }
            }
            Op::AccessChain | Op::InBoundsAccessChain | Op::PtrAccessChain | Op::InBoundsPtrAccessChain | Op::CopyObject => {
                if let Some(&root) = self.roots.get(&operand(2)?) {
                    self.roots.insert(operand(1)?, root);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The type that an operand is the number of.
    fn data(&self, instruction: &Instruction<'_>, index: usize) -> Result<(Shape, u64), InspectError> {
        match self.types.get(&instruction.operand(index)?) {
            Some(&Type::Data(shape, align)) => Ok((shape, align)),
            _ => Ok((Shape::opaque(0), 1)),
        }
    }

    /// The structure `id` and its alignment; nothing if a buffer has no such.
    fn structure(&self, id: u32, types: &[u32]) -> Option<(Shape, u64)> {
        let mut members = Vec::new();
        let (mut end, mut align) = (0_u64, 1);
        for (index, ty) in (0..).zip(types) {
            let &Type::Data(shape, member_align) = self.types.get(ty)? else { return None };
            // In memory that is not shared with the host there are no offsets, and no need of them.
            let offset = self.offsets.get(&(id, index)).copied().unwrap_or_default();
            end = end.max(shape.bytes.saturating_add(offset.into()));
            align = align.max(member_align);
            members.push((offset, shape));
        }
        Some((Shape::structure(&members, end.checked_next_multiple_of(align).unwrap_or(end)), align))
    }

    /// Notes which variables an instruction reads and writes. What is done with a pointer out of our sight is taken for both.
    fn note_use(&mut self, instruction: &Instruction<'_>) -> Result<(), InspectError> {
        let operand = |index| instruction.operand(index);
        let Some(op) = Op::from_u32(instruction.opcode) else { return Ok(()) };
        let roots = &self.roots;
        let root = |id: u32| roots.get(&id).copied();
        let (read, written, unknown): (Option<u32>, Option<u32>, &[u32]) = match op {
            Op::Load | Op::AtomicLoad | Op::CooperativeMatrixLoadKHR => (Some(operand(2)?), None, &[]),
            Op::Store => (None, Some(operand(0)?), &instruction.operands[1..2.min(instruction.operands.len())]),
            Op::AtomicStore | Op::CooperativeMatrixStoreKHR => (None, Some(operand(0)?), &[]),
            Op::CopyMemory | Op::CopyMemorySized => (Some(operand(1)?), Some(operand(0)?), &[]),
            Op::ExtInst => {
                let function = operand(3)?;
                if self.glsl.contains(&operand(2)?)
                    && (GlslStd450Op::Radians as u32..=GlslStd450Op::Log2 as u32).contains(&function)
                    && self.data(instruction, 0)?.0.element == ElementKind::F64
                {
                    let name = GlslStd450Op::from_u32(function).map_or_else(String::new, |known| format!("{known:?}").to_lowercase());
                    return Err(instruction.error(&double_function(&name)));
                }
                (None, None, instruction.rest(4))
            }
            // These only name a pointer, or have literals that look like one.
            Op::AccessChain
            | Op::InBoundsAccessChain
            | Op::PtrAccessChain
            | Op::InBoundsPtrAccessChain
            | Op::CopyObject
            | Op::ArrayLength
            | Op::CompositeExtract
            | Op::CompositeInsert
            | Op::VectorShuffle
            | Op::SelectionMerge
            | Op::LoopMerge
            | Op::Switch
            | Op::Line
            | Op::Variable => return Ok(()),
            // What stands outside functions: names, types, constants.
            _ if instruction.opcode < Op::Function as u32 || is_annotation(op) => return Ok(()),
            _ => (None, None, instruction.operands),
        };
        let unknown: Vec<u32> = unknown.iter().copied().filter_map(root).collect();
        let (read, written) = (read.and_then(root), written.and_then(root));
        self.read.extend(read.into_iter().chain(unknown.iter().copied()));
        self.written.extend(written.into_iter().chain(unknown));
        Ok(())
    }

    fn finish(&self, features: Vec<String>) -> Result<KernelInterface, InspectError> {
        let mut bindings = Vec::new();
        let mut scalars: Option<Vec<(Scalar, u32)>> = None;
        for variable in &self.variables {
            let wrong = |message: &str| Err(InspectError::new(format!("{} {message}", self.title(variable))));
            let has = |decoration| self.decorations.contains_key(&(variable.target, decoration as u32));
            let class = StorageClass::from_u32(variable.class);
            match class {
                Some(StorageClass::StorageBuffer | StorageClass::Uniform) => {
                    if class == Some(StorageClass::Uniform) && !has(Decoration::BufferBlock) {
                        return wrong("is a uniform buffer: a kernel in SPIR-V takes its scalars as push constants");
                    }
                    let Some((&Type::Data(shape, _), true)) =
                        self.types.get(&variable.target).map(|ty| (ty, self.members.contains_key(&variable.target)))
                    else {
                        return wrong("is no buffer: that is a structure of numbers and arrays of them");
                    };
                    let Some(&number) = self.decorations.get(&(variable.id, Decoration::Binding as u32)) else {
                        return wrong("has no binding number");
                    };
                    match self.decorations.get(&(variable.id, Decoration::DescriptorSet as u32)) {
                        Some(0) => {}
                        Some(set) => return wrong(&format!("is in descriptor set {set}: a kernel's buffers are in set 0")),
                        None => return wrong("has no descriptor set"),
                    }
                    bindings.push(shape.binding(self.name(variable), number, self.access(variable.id)));
                }
                Some(StorageClass::PushConstant) => {
                    if scalars.is_some() {
                        return wrong("is a second block of push constants, one is possible");
                    }
                    match self.scalars(variable) {
                        Ok(list) => scalars = Some(list),
                        Err(name) => {
                            return wrong(&format!(
                                "has a member `{name}` that is no scalar: push constants are of the types f32, i32, u32, f64, i64, u64 and f16"
                            ));
                        }
                    }
                }
                Some(StorageClass::Input | StorageClass::Private | StorageClass::Workgroup) => {}
                _ => return wrong("is a texture, a sampler or the like: a kernel takes buffers and scalars"),
            }
        }
        let scalars = scalars.unwrap_or_default();
        let scalars_bytes = scalars_bytes(&scalars)?;
        let workgroup = self.workgroup()?;
        check_workgroup(workgroup)?;
        let scalars = scalars.into_iter().map(|(scalar, _)| scalar).collect();
        Ok(KernelInterface { bindings: sort_bindings(bindings)?, scalars, scalars_bytes, workgroup, features })
    }

    /// What the variable is called, or else its type.
    fn name(&self, variable: &Variable) -> String {
        let named = |id| self.names.get(&id).filter(|name| !name.is_empty()).cloned();
        named(variable.id).or_else(|| named(variable.target)).unwrap_or_default()
    }

    /// How messages speak of the variable.
    fn title(&self, variable: &Variable) -> String {
        match self.name(variable) {
            name if name.is_empty() => format!("the variable %{}", variable.id),
            name => format!("`{name}`"),
        }
    }

    fn access(&self, id: u32) -> Access {
        let may = |forbidden| !self.decorations.contains_key(&(id, forbidden as u32));
        access(self.read.contains(&id) && may(Decoration::NonReadable), self.written.contains(&id) && may(Decoration::NonWritable))
    }

    /// The scalars of the block that `variable` is, each with its length in bytes; the name of a member that is none.
    fn scalars(&self, variable: &Variable) -> Result<Vec<(Scalar, u32)>, String> {
        let mut block = variable.target;
        // naga wraps the structure in another one.
        if let Some([only]) = self.members.get(&block).map(Vec::as_slice)
            && self.members.contains_key(only)
        {
            block = *only;
        }
        let mut found = Vec::new();
        for (index, ty) in (0..).zip(self.members.get(&block).into_iter().flatten()) {
            let name = self.member_names.get(&(block, index)).cloned().unwrap_or_else(|| self.name(variable));
            match self.types.get(ty) {
                Some(Type::Data(shape, _)) if is_scalar(*shape) => {
                    let offset_bytes = self.offsets.get(&(block, index)).copied().unwrap_or_default();
                    found.push((Scalar { name, kind: shape.element, offset_bytes }, shape.stride));
                }
                _ => return Err(name),
            }
        }
        Ok(found)
    }

    fn workgroup(&self) -> Result<[u32; 3], InspectError> {
        let unknown = || InspectError::new("the SPIR-V does not say how large a workgroup is");
        let constant = |id: &u32| self.constants.get(id).copied().ok_or_else(unknown);
        // A constant that is marked as the size comes before what the entry point says.
        let marked = self
            .decorations
            .iter()
            .find(|((_, decoration), what)| *decoration == Decoration::BuiltIn as u32 && **what == BuiltIn::WorkgroupSize as u32);
        if let Some([x, y, z]) = marked.and_then(|((id, _), _)| self.composites.get(id)).map(Vec::as_slice) {
            return Ok([constant(x)?, constant(y)?, constant(z)?]);
        }
        match &self.local_size {
            Some((size, false)) => Ok(*size),
            Some(([x, y, z], true)) => Ok([constant(x)?, constant(y)?, constant(z)?]),
            None => Err(unknown()),
        }
    }
}

/// Whether an instruction whose number is above those of functions says something about others only.
fn is_annotation(op: Op) -> bool {
    matches!(
        op,
        Op::Decorate
            | Op::MemberDecorate
            | Op::DecorateId
            | Op::DecorateString
            | Op::MemberDecorateString
            | Op::DecorationGroup
            | Op::GroupDecorate
            | Op::GroupMemberDecorate
            | Op::ModuleProcessed
            | Op::ExecutionModeId
            | Op::NoLine
    )
}
