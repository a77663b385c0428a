//! Kernels in SPIR-V: what other compilers write, what is wrong, and damage.

use poniard_interface::{InspectError, Source};
use proptest::prelude::*;
use spirv::{AddressingModel, BuiltIn, Capability, Decoration, ExecutionMode, ExecutionModel, GlslStd450Op, MemoryModel, Op, StorageClass};

use super::super::address::rewrite;
use super::super::{Target, compile, entry_point, inspect};
use super::{GOOD, SAXPY, line, validate};

/// A module in the making.
#[derive(Clone)]
struct Module(Vec<u32>);

impl Module {
    /// The header, and what every kernel has: entry point %1 named `k`, with a size of its workgroups if one is given.
    fn new(size: Option<[u32; 3]>) -> Self {
        let mut module = Self(vec![spirv::MAGIC_NUMBER, 0x0001_0300, 0, 100, 0]);
        module.op(Op::Capability, &[Capability::Shader as u32]);
        module.op(Op::ExtInstImport, &[2, u32::from_le_bytes(*b"GLSL"), u32::from_le_bytes(*b".std"), u32::from_le_bytes(*b".450"), 0]);
        module.op(Op::MemoryModel, &[AddressingModel::Logical as u32, MemoryModel::GLSL450 as u32]);
        module.op(Op::EntryPoint, &[ExecutionModel::GLCompute as u32, 1, u32::from_le_bytes(*b"k\0\0\0")]);
        if let Some([x, y, z]) = size {
            module.op(Op::ExecutionMode, &[1, ExecutionMode::LocalSize as u32, x, y, z]);
        }
        module
    }

    fn op(&mut self, op: Op, operands: &[u32]) -> &mut Self {
        self.0.push((u32::try_from(operands.len()).unwrap() + 1) << 16 | op as u32);
        self.0.extend(operands);
        self
    }

    fn decorate(&mut self, id: u32, decoration: Decoration, value: &[u32]) -> &mut Self {
        self.op(Op::Decorate, &[&[id, decoration as u32], value].concat())
    }

    /// A buffer %`id` of an array of f32 in `class`, without its types.
    fn decorate_buffer(&mut self, id: u32, number: u32, set: u32) -> &mut Self {
        self.decorate(id, Decoration::Binding, &[number]).decorate(id, Decoration::DescriptorSet, &[set])
    }

    /// The types: 10 void, 11 its function, 12 f32, 13 u32, 14 an array of f32, 15 a structure of it, 16 the pointer to that, 17 one to f32,
    /// and the constants 18 and 19, which are 0 and 4. The decorations have to stand before.
    fn types(&mut self, class: StorageClass) -> &mut Self {
        self.op(Op::TypeVoid, &[10]).op(Op::TypeFunction, &[11, 10]);
        self.op(Op::TypeFloat, &[12, 32]).op(Op::TypeInt, &[13, 32, 0]);
        self.op(Op::TypeRuntimeArray, &[14, 12]).op(Op::TypeStruct, &[15, 14]);
        self.op(Op::TypePointer, &[16, class as u32, 15]).op(Op::TypePointer, &[17, class as u32, 12]);
        self.op(Op::Constant, &[13, 18, 0]).op(Op::Constant, &[13, 19, 4])
    }

    fn decorate_types(&mut self, block: Decoration) -> &mut Self {
        self.decorate(14, Decoration::ArrayStride, &[4])
            .decorate(15, block, &[])
            .op(Op::MemberDecorate, &[15, 0, Decoration::Offset as u32, 0])
    }

    fn begin(&mut self) -> &mut Self {
        self.op(Op::Function, &[10, 1, 0, 11]).op(Op::Label, &[5])
    }

    fn end(&mut self) -> &mut Self {
        self.op(Op::Return, &[]).op(Op::FunctionEnd, &[])
    }

    fn look(&self) -> Result<String, InspectError> {
        inspect(Source::SpirV(&self.0)).map(|interface| line(&interface))
    }

    fn error(&self) -> String {
        self.look().unwrap_err().reason
    }
}

/// Two buffers, %20 and %21, before the function.
fn two_buffers(class: StorageClass, block: Decoration, mark: impl FnOnce(&mut Module)) -> Module {
    let mut module = Module::new(Some([8, 1, 1]));
    module.op(Op::Name, &[20, u32::from_le_bytes(*b"x\0\0\0")]);
    mark(&mut module);
    module.decorate_types(block).decorate_buffer(20, 3, 0).decorate_buffer(21, 1, 0);
    module.types(class).op(Op::Variable, &[16, 20, class as u32]).op(Op::Variable, &[16, 21, class as u32]);
    module
}

/// The instructions of a good module, with their operands.
fn instructions(words: &[u32]) -> impl Iterator<Item = (Op, &[u32])> {
    let mut rest = &words[5..];
    std::iter::from_fn(move || {
        let (instruction, next) = rest.split_at_checked((rest.first()? >> 16) as usize)?;
        rest = next;
        Some((Op::from_u32(instruction[0] & 0xffff)?, &instruction[1..]))
    })
}

/// How often `op` is in the words.
pub(super) fn count(words: &[u32], op: Op) -> usize {
    instructions(words).filter(|(known, _)| *known == op).count()
}

/// The structure of the push constants.
fn push_constants(words: &[u32]) -> &[u32] {
    let class = StorageClass::PushConstant as u32;
    let (_, variable) = instructions(words).find(|(op, operands)| *op == Op::Variable && operands[2] == class).unwrap();
    find(words, Op::TypeStruct, find(words, Op::TypePointer, variable[0]).unwrap()[2]).unwrap()
}

fn find(words: &[u32], op: Op, id: u32) -> Option<&[u32]> {
    instructions(words).find(|(known, operands)| *known == op && operands[0] == id).map(|(_, operands)| operands)
}

fn offsets_of(words: &[u32], block: u32) -> Vec<u32> {
    instructions(words)
        .filter(|(op, operands)| *op == Op::MemberDecorate && operands[0] == block && operands[2] == Decoration::Offset as u32)
        .map(|(_, operands)| operands[3])
        .collect()
}

/// The offsets in the block of push constants.
pub(super) fn offsets_of_push_constants(words: &[u32]) -> Vec<u32> {
    offsets_of(words, push_constants(words)[0])
}

/// The offsets in the structure that the block of push constants begins with, or, if there is none, in the block.
pub(super) fn offsets_of_launch(words: &[u32]) -> Vec<u32> {
    let block = push_constants(words);
    offsets_of(words, if find(words, Op::TypeStruct, block[1]).is_some() { block[1] } else { block[0] })
}

/// The numbers that are bound, sorted.
pub(super) fn bindings(words: &[u32]) -> Vec<u32> {
    let is_number = |(op, operands): &(Op, &[u32])| *op == Op::Decorate && operands[1] == Decoration::Binding as u32;
    let mut numbers: Vec<u32> = instructions(words).filter(is_number).map(|(_, operands)| operands[2]).collect();
    numbers.sort_unstable();
    numbers
}

/// What is said of members of structures.
pub(super) fn member_decorations(words: &[u32]) -> Vec<u32> {
    instructions(words).filter(|(op, _)| *op == Op::MemberDecorate).map(|(_, operands)| operands[2]).collect()
}

#[test]
fn buffers_as_other_compilers_write_them() {
    for (class, block) in [(StorageClass::StorageBuffer, Decoration::Block), (StorageClass::Uniform, Decoration::BufferBlock)] {
        let mut module = two_buffers(class, block, |_| {});
        module.begin().op(Op::AccessChain, &[17, 30, 20, 18, 18]).op(Op::AccessChain, &[17, 31, 21, 18, 18]);
        module.op(Op::Load, &[12, 32, 30]).op(Op::Store, &[31, 32]).end();
        assert_eq!(module.look().unwrap(), "@1 F32/4 >=4 Overwrite; x@3 F32/4 >=4 Read; 0 bytes; [8, 1, 1]");
        assert_eq!(entry_point(&module.0).unwrap(), "k");
        assert_eq!(compile(Source::SpirV(&module.0), &Target::default()).unwrap(), module.0);
        validate(&module.0, "a module of our own");
    }
}

/// What is done to a module.
type Change<'a> = &'a dyn Fn(&mut Module);

#[test]
fn what_is_done_to_buffers() {
    let look = |mark: Change<'_>, body: Change<'_>| {
        let mut module = two_buffers(StorageClass::StorageBuffer, Decoration::Block, |module| mark(module));
        module.begin().op(Op::AccessChain, &[17, 30, 20, 18, 18]);
        body(&mut module);
        let line = module.end().look().unwrap();
        line.split("x@3 F32/4 >=4 ").nth(1).unwrap().split(';').next().unwrap().to_owned()
    };
    let cases: [(&str, Change<'_>); 10] = [
        ("Read", &|_| {}),
        ("Read", &|m| _ = m.op(Op::ArrayLength, &[13, 40, 20, 0])),
        ("Write", &|m| _ = m.op(Op::AtomicFAddEXT, &[12, 40, 30, 19, 18, 18])),
        ("Read", &|m| _ = m.op(Op::AtomicLoad, &[12, 40, 30, 19, 18])),
        ("Overwrite", &|m| _ = m.op(Op::AtomicStore, &[30, 19, 18, 18])),
        ("Overwrite", &|m| _ = m.op(Op::CopyObject, &[17, 40, 30]).op(Op::CopyMemory, &[40, 99])),
        // Out of sight: given to a function, chosen among others, stored somewhere.
        ("Write", &|m| _ = m.op(Op::FunctionCall, &[10, 40, 50, 30])),
        ("Write", &|m| _ = m.op(Op::Phi, &[17, 40, 30, 5, 99, 6])),
        ("Write", &|m| _ = m.op(Op::ExtInst, &[12, 40, 2, GlslStd450Op::Modf as u32, 99, 30])),
        // Numbers that only look like the pointer.
        ("Read", &|m| _ = m.op(Op::CompositeExtract, &[12, 40, 99, 30]).op(Op::Switch, &[99, 5, 30, 6])),
    ];
    for (index, (expected, body)) in cases.into_iter().enumerate() {
        assert_eq!(look(&|_| {}, body), expected, "{index}");
    }
    let write: Change<'_> = &|m| _ = m.op(Op::FunctionCall, &[10, 40, 50, 30]);
    assert_eq!(look(&|m| _ = m.decorate(20, Decoration::NonWritable, &[]), write), "Read");
    assert_eq!(look(&|m| _ = m.decorate(20, Decoration::NonReadable, &[]), write), "Overwrite");
    // A loop uses a pointer before the instruction that makes it.
    let mut module = two_buffers(StorageClass::StorageBuffer, Decoration::Block, |_| {});
    module.begin().op(Op::Phi, &[17, 40, 99, 5, 41, 6]).op(Op::AccessChain, &[17, 41, 20, 18, 18]).end();
    assert!(module.look().unwrap().contains("x@3 F32/4 >=4 Write"));
}

/// Buffers that are reached by their addresses are followed only as far as naga's words go.
#[test]
fn a_pointer_that_cannot_be_followed_is_an_error() {
    let rewrite = |body: &dyn Fn(&mut Module)| {
        let mut module = two_buffers(StorageClass::StorageBuffer, Decoration::Block, |_| {});
        module.begin().op(Op::AccessChain, &[17, 30, 20, 18, 18]);
        body(&mut module);
        module.end();
        rewrite(&module.0, &[3], 0)
    };
    let words = rewrite(&|m| _ = m.op(Op::Load, &[12, 40, 30]).op(Op::Store, &[30, 40])).unwrap();
    validate(&words, "a load and a store");
    assert_eq!(bindings(&words), [1], "the buffer with number 3 is not bound");
    let cases: [&dyn Fn(&mut Module); 6] = [
        &|m| _ = m.op(Op::CopyObject, &[17, 40, 30]),
        &|m| _ = m.op(Op::CopyMemory, &[30, 99]),
        &|m| _ = m.op(Op::FunctionCall, &[10, 40, 50, 20]),
        &|m| _ = m.op(Op::Phi, &[17, 40, 30, 5, 99, 6]),
        &|m| _ = m.op(Op::ReturnValue, &[30]),
        &|m| _ = m.op(Op::ExtInst, &[12, 40, 2, GlslStd450Op::Modf as u32, 99, 30]),
    ];
    for (index, body) in cases.into_iter().enumerate() {
        let error = rewrite(body).unwrap_err().reason;
        assert!(error.ends_with("it hands on a pointer into a buffer that is reached by its address"), "{index}: {error}");
    }
}

#[test]
fn the_size_of_a_workgroup_is_said_in_three_ways() {
    let mut module = Module::new(None);
    assert_eq!(module.error(), "the SPIR-V does not say how large a workgroup is");
    module.op(Op::ExecutionModeId, &[1, ExecutionMode::LocalSizeId as u32, 19, 19, 19]);
    assert_eq!(module.error(), "the SPIR-V does not say how large a workgroup is");
    module.types(StorageClass::StorageBuffer);
    assert_eq!(module.look().unwrap(), "0 bytes; [4, 4, 4]");

    let mut module = Module::new(Some([1, 1, 1]));
    module.decorate(50, Decoration::BuiltIn, &[BuiltIn::WorkgroupSize as u32]).types(StorageClass::StorageBuffer);
    module.op(Op::SpecConstant, &[13, 51, 16]).op(Op::SpecConstantComposite, &[52, 50, 51, 19, 19]);
    assert_eq!(module.look().unwrap(), "0 bytes; [16, 4, 4]");
}

#[test]
fn what_is_wrong_is_named() {
    let damaged = |change: &dyn Fn(&mut Vec<u32>)| {
        let mut module = two_buffers(StorageClass::StorageBuffer, Decoration::Block, |_| {});
        change(&mut module.0);
        module.error()
    };
    assert_eq!(damaged(&|words| words.truncate(4)), "the SPIR-V is cut short: it has 4 words, and the header alone has 5");
    assert_eq!(damaged(&|words| words.truncate(0)), "the SPIR-V is cut short: it has 0 words, and the header alone has 5");
    assert_eq!(damaged(&|words| words.truncate(6)), "the SPIR-V is cut short: the instruction at word 5 has 2 words, and 1 are left");
    assert_eq!(damaged(&|words| words[5] &= 0xffff), "the SPIR-V is cut short: the instruction at word 5 has 0 words, and 94 are left");
    assert_eq!(damaged(&|words| words[0] = 7), "this is no SPIR-V: it begins with 0x00000007 instead of 0x07230203");
    assert_eq!(damaged(&|words| words[0] = words[0].swap_bytes()), "the SPIR-V has the bytes of each word in the other order");
    assert_eq!(damaged(&|words| words[1] = 0x0001_0900), "the SPIR-V has version 1.9, versions 1.0 to 1.6 are known");
    assert_eq!(damaged(&|words| words[3] = 0), "the SPIR-V says that its numbers are below 0, from 1 to 4194303 is possible");
    assert_eq!(
        damaged(&|words| words.extend([1 << 16 | Op::TypeInt as u32])),
        "word 99 of the SPIR-V, OpTypeInt: it has 0 operands, which are too few"
    );
    assert_eq!(damaged(&|words| words.truncate(5)), "the SPIR-V has no entry point for compute");

    let with = |change: Change<'_>| {
        let mut module = two_buffers(StorageClass::StorageBuffer, Decoration::Block, |_| {});
        change(&mut module);
        module.error()
    };
    assert_eq!(
        with(&|m| _ = m.op(Op::EntryPoint, &[ExecutionModel::GLCompute as u32, 9, u32::from_le_bytes(*b"two\0")])),
        "the SPIR-V has 2 entry points for compute, one is possible: `k`, `two`"
    );
    assert_eq!(
        with(&|m| _ = m.op(Op::MemoryModel, &[AddressingModel::PhysicalStorageBuffer64 as u32, 1])),
        "word 99 of the SPIR-V, OpMemoryModel: the kernel works with addresses of buffers, which a launch does not give"
    );
    assert_eq!(with(&|m| _ = m.decorate_buffer(21, 1, 2)), "the variable %21 is in descriptor set 2: a kernel's buffers are in set 0");
    assert_eq!(with(&|m| _ = m.decorate_buffer(21, 3, 0)), "`x` and `` have the same binding number, 3");
    assert_eq!(with(&|m| _ = m.op(Op::Variable, &[16, 22, StorageClass::StorageBuffer as u32])), "the variable %22 has no binding number");
    assert_eq!(
        with(&|m| _ = m.op(Op::Variable, &[16, 22, StorageClass::Uniform as u32])),
        "the variable %22 is a uniform buffer: a kernel in SPIR-V takes its scalars as push constants"
    );
    assert_eq!(
        with(&|m| _ = m.op(Op::Variable, &[16, 22, StorageClass::UniformConstant as u32])),
        "the variable %22 is a texture, a sampler or the like: a kernel takes buffers and scalars"
    );
    assert_eq!(
        with(&|m| _ = m.op(Op::Variable, &[17, 22, StorageClass::StorageBuffer as u32])),
        "the variable %22 is no buffer: that is a structure of numbers and arrays of them"
    );
    assert_eq!(
        with(&|m| _ = m.op(Op::Variable, &[16, 22, StorageClass::PushConstant as u32])),
        "the variable %22 has a member `` that is no scalar: push constants are of the types f32, i32, u32, f64, i64, u64 and f16"
    );
    assert_eq!(
        with(&|m| _ = m.op(Op::TypeFloat, &[60, 64]).op(Op::ExtInst, &[60, 61, 2, GlslStd450Op::Atan2 as u32, 62, 62])),
        "word 102 of the SPIR-V, OpExtInst: no Vulkan device has `atan2` for f64: compute it in f32, or of sums and products"
    );
    let large = Module::new(Some([1024, 2, 1]));
    assert_eq!(large.error(), "a workgroup of 1024 x 2 x 1 has 2048 invocations: from 1 to 1024 are possible");
    assert_eq!(
        compile(Source::SpirV(&compile(Source::Wgsl(SAXPY), &Target::default()).unwrap()), &Target { parts: true, ..Target::default() })
            .unwrap_err()
            .reason,
        "a kernel in SPIR-V is launched as a whole, and this launch has more workgroups than the device takes at once: \
        give it as WGSL, or let each invocation do more"
    );
}

#[test]
fn what_is_not_known_is_a_feature_that_nobody_has() {
    let mut module = Module::new(Some([1, 1, 1]));
    module.op(Op::Capability, &[Capability::Kernel as u32]).op(Op::Capability, &[Capability::Float64 as u32]).op(Op::Capability, &[60000]);
    assert_eq!(module.look().unwrap(), "0 bytes; [1, 1, 1]; f64, SPIR-V Kernel, SPIR-V capability 60000");
}

proptest! {
    /// Words from anywhere are an error or a kernel.
    #[test]
    fn damaged_words_are_an_error_or_a_kernel(
        which in 0..GOOD.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u32>(), 0_u32..100, Just(u32::MAX)], any::<bool>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut words = compile(Source::Wgsl(GOOD[which].0), &Target::default()).unwrap();
        for (at, value, is_bit) in changes {
            let at = at.index(words.len());
            if is_bit { words[at] ^= 1 << (value % 32) } else { words[at] = value }
        }
        if cut {
            words.truncate(end.index(words.len()));
        }
        if let Err(error) = inspect(Source::SpirV(&words)) {
            prop_assert!(!error.reason.is_empty() && !error.reason.ends_with('.'), "{}", error.reason);
        }
        let _ = entry_point(&words);
    }
}
