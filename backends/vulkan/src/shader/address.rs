//! Buffers by their addresses: the words of a kernel, as naga writes them, changed so that some buffers are no bindings any more.
//!
//! A binding has a greatest length, and what lies at an address has none. naga knows no addresses, so what it wrote is rewritten: the push constants get members at
//! the end, for each of these buffers a pointer to it and the number of elements of its array. A function that uses the buffer loads the pointer first, and goes on with it
//! as it would with the variable. What asks for the array's length loads the number. The checks that naga wrote are therefore the same, and hold what is read and
//! written within the buffer: nobody else looks after that, as `robustBufferAccess` is about bindings.
//!
//! Nothing is believed to be what naga writes today: a pointer that goes where it cannot be followed is an error.

use std::collections::{BTreeMap, BTreeSet};

use poniard_interface::InspectError;
use spirv::{AddressingModel, Capability, Decoration, MemoryAccess, Op, StorageClass};

use super::spirv::{HEADER_WORDS, Instruction, instructions};

/// What a buffer takes among the push constants, in bytes: its address and the number of its elements, behind all addresses.
pub(super) const ADDRESS_BYTES: u32 = 8;
pub(super) const COUNT_BYTES: u32 = 4;
/// Addresses are multiples of this, in bytes, so no access is said to be aligned to more.
pub(super) const ADDRESS_ALIGNMENT: u64 = 16;
/// The extension, as SPIR-V before 1.5 has it.
const EXTENSION: &[u8] = b"SPV_KHR_physical_storage_buffer\0";

/// Rewrites a module so that the buffers with these binding numbers are reached by their addresses, which lie at `offset` among the push constants.
pub(super) fn rewrite(words: &[u32], numbers: &[u32], offset: u32) -> Result<Vec<u32>, InspectError> {
    let instructions = instructions(words)?;
    let first = instructions.iter().position(|instruction| instruction.is(Op::Function)).unwrap_or(instructions.len());
    let (head, functions) = instructions.split_at(first);
    let mut rewriter = Rewriter { bound: words[3], ..Rewriter::default() };
    for instruction in head {
        rewriter.read(instruction, numbers)?;
    }
    if rewriter.buffers.is_empty() {
        return Ok(words.to_vec());
    }
    rewriter.declare(numbers.len(), offset);
    let mut code = Vec::new();
    for function in functions.split_inclusive(|instruction| instruction.is(Op::FunctionEnd)) {
        rewriter.function(function, &mut code)?;
    }
    let mut out = words[..HEADER_WORDS].to_vec();
    rewriter.head(head, &mut out)?;
    out.append(&mut rewriter.declarations);
    out.append(&mut code);
    out[3] = rewriter.bound;
    Ok(out)
}

/// A buffer that is to be reached by its address.
struct Buffer {
    /// Which of them it is.
    slot: u32,
    /// The structure that the variable holds.
    block: u32,
    /// The members of the push constants with its address and its number of elements.
    members: [u32; 2],
}

/// The push constants of the module.
#[derive(Default)]
struct PushConstants {
    variable: u32,
    /// Their structure as it was; 0 if there was none.
    before: u32,
    /// Their structure now.
    block: u32,
}

#[derive(Default)]
struct Rewriter {
    /// The next number that is free.
    bound: u32,
    /// How data types are aligned, in bytes.
    alignments: BTreeMap<u32, u32>,
    structures: BTreeMap<u32, Vec<u32>>,
    /// What pointer types point to.
    pointees: BTreeMap<u32, u32>,
    /// Variables that are bound to one of the numbers, with their places in the list.
    slots: BTreeMap<u32, u32>,
    buffers: BTreeMap<u32, Buffer>,
    push: PushConstants,
    /// The type `u32`.
    word: u32,
    /// Pointer types that were declared here, by their storage class and what they point to.
    made: BTreeMap<(u32, u32), u32>,
    constants: BTreeMap<u32, u32>,
    decorations: Vec<u32>,
    declarations: Vec<u32>,
    /// In the function at hand: pointers into the buffers, and what they point to.
    pointers: BTreeMap<u32, (u32, u32)>,
}

fn put(out: &mut Vec<u32>, op: Op, operands: &[u32]) {
    let len = u32::try_from(operands.len() + 1).unwrap_or(u32::MAX);
    out.push(len << 16 | op as u32);
    out.extend(operands);
}

fn copy(out: &mut Vec<u32>, instruction: &Instruction<'_>) {
    let len = u32::try_from(instruction.operands.len() + 1).unwrap_or(u32::MAX);
    out.push(len << 16 | instruction.opcode);
    out.extend(instruction.operands);
}

/// Which operand is the pointer that an instruction works on.
fn pointer_operand(op: Op) -> Option<usize> {
    match op {
        Op::Store | Op::AtomicStore => Some(0),
        Op::Load | Op::AccessChain | Op::InBoundsAccessChain | Op::ArrayLength | Op::AtomicFAddEXT => Some(2),
        _ if (Op::AtomicLoad as u32..=Op::AtomicXor as u32).contains(&(op as u32)) => Some(2),
        _ => None,
    }
}

impl Rewriter {
    fn fresh(&mut self) -> u32 {
        self.bound += 1;
        self.bound - 1
    }

    /// Reads what stands before the functions.
    fn read(&mut self, instruction: &Instruction<'_>, numbers: &[u32]) -> Result<(), InspectError> {
        let operand = |index| instruction.operand(index);
        let alignment = |index| operand(index).map(|ty| self.alignments.get(&ty).copied().unwrap_or(1));
        let Some(op) = Op::from_u32(instruction.opcode) else { return Ok(()) };
        match op {
            Op::TypeInt | Op::TypeFloat => {
                self.alignments.insert(operand(0)?, operand(1)? / 8);
                if op == Op::TypeInt && operand(1)? == 32 && operand(2)? == 0 {
                    self.word = operand(0)?;
                }
            }
            Op::TypeVector => drop(self.alignments.insert(operand(0)?, alignment(1)? * operand(2)?.next_power_of_two())),
            Op::TypeMatrix | Op::TypeArray | Op::TypeRuntimeArray => drop(self.alignments.insert(operand(0)?, alignment(1)?)),
            Op::TypeStruct => {
                let members = instruction.rest(1);
                let most = members.iter().filter_map(|member| self.alignments.get(member)).max().copied();
                self.alignments.insert(operand(0)?, most.unwrap_or(1));
                self.structures.insert(operand(0)?, members.to_vec());
            }
            Op::TypePointer => drop(self.pointees.insert(operand(0)?, operand(2)?)),
            Op::Decorate if operand(1)? == Decoration::Binding as u32 => {
                let number = operand(2)?;
                self.slots
                    .extend((0..).zip(numbers).filter(|(_, known)| **known == number).map(|(slot, _)| (instruction.operands[0], slot)));
            }
            Op::Variable => {
                let (variable, class) = (operand(1)?, operand(2)?);
                let block = self.pointees.get(&operand(0)?).copied().unwrap_or_default();
                if class == StorageClass::StorageBuffer as u32
                    && let Some(&slot) = self.slots.get(&variable)
                {
                    self.buffers.insert(variable, Buffer { slot, block, members: [0; 2] });
                } else if class == StorageClass::PushConstant as u32 {
                    self.push = PushConstants { variable, before: block, block: 0 };
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Declares the push constants anew, with members for the buffers.
    fn declare(&mut self, slot_count: usize, offset: u32) {
        if self.word == 0 {
            self.word = self.fresh();
            put(&mut self.declarations, Op::TypeInt, &[self.word, 32, 0]);
        }
        self.push.block = self.fresh();
        if self.push.variable == 0 {
            self.push.variable = self.fresh();
        }
        let mut members = self.structures.get(&self.push.before).cloned().unwrap_or_default();
        let mut buffers = std::mem::take(&mut self.buffers);
        let counts = offset + u32::try_from(slot_count).unwrap_or(u32::MAX) * ADDRESS_BYTES;
        for (what, begin, bytes) in [(0, offset, ADDRESS_BYTES), (1, counts, COUNT_BYTES)] {
            for buffer in buffers.values_mut() {
                let index = u32::try_from(members.len()).unwrap_or(u32::MAX);
                buffer.members[what] = index;
                members.push(if what == 0 { self.pointer(StorageClass::PhysicalStorageBuffer, buffer.block) } else { self.word });
                let place = [self.push.block, index, Decoration::Offset as u32, begin + buffer.slot * bytes];
                put(&mut self.decorations, Op::MemberDecorate, &place);
            }
        }
        self.buffers = buffers;
        put(&mut self.decorations, Op::Decorate, &[self.push.block, Decoration::Block as u32]);
        members.insert(0, self.push.block);
        put(&mut self.declarations, Op::TypeStruct, &members);
        let pointer = self.pointer(StorageClass::PushConstant, self.push.block);
        put(&mut self.declarations, Op::Variable, &[pointer, self.push.variable, StorageClass::PushConstant as u32]);
    }

    /// The type of pointers of this class to `pointee`.
    fn pointer(&mut self, class: StorageClass, pointee: u32) -> u32 {
        if let Some(&known) = self.made.get(&(class as u32, pointee)) {
            return known;
        }
        let made = self.fresh();
        put(&mut self.declarations, Op::TypePointer, &[made, class as u32, pointee]);
        self.made.insert((class as u32, pointee), made);
        made
    }

    /// Loads a member of the push constants.
    fn load(&mut self, out: &mut Vec<u32>, member: u32, ty: u32, result: u32) {
        let index = match self.constants.get(&member) {
            Some(&known) => known,
            None => {
                let made = self.fresh();
                put(&mut self.declarations, Op::Constant, &[self.word, made, member]);
                self.constants.insert(member, made);
                made
            }
        };
        let (pointer, place) = (self.pointer(StorageClass::PushConstant, ty), self.fresh());
        put(out, Op::AccessChain, &[pointer, place, self.push.variable, index]);
        put(out, Op::Load, &[ty, result, place]);
    }

    /// Rewrites a function.
    fn function(&mut self, function: &[Instruction<'_>], out: &mut Vec<u32>) -> Result<(), InspectError> {
        self.pointers.clear();
        let is_used = |variable: &u32| {
            function.iter().any(|instruction| {
                let at = Op::from_u32(instruction.opcode).filter(|op| *op != Op::ArrayLength).and_then(pointer_operand);
                at.is_some_and(|at| instruction.operands.get(at) == Some(variable))
            })
        };
        let used: Vec<_> =
            self.buffers.iter().filter(|(id, _)| is_used(id)).map(|(id, known)| (*id, known.block, known.members[0])).collect();
        let body = function.iter().position(|instruction| instruction.is(Op::Label)).map_or(0, |at| at + 1);
        // A function's own variables stand before everything else.
        let begin = body + function[body..].iter().take_while(|instruction| instruction.is(Op::Variable)).count();
        for (index, instruction) in function.iter().enumerate() {
            if index == begin {
                for &(variable, block, member) in &used {
                    let (ty, result) = (self.pointer(StorageClass::PhysicalStorageBuffer, block), self.fresh());
                    self.load(out, member, ty, result);
                    self.pointers.insert(variable, (result, block));
                }
            }
            if !self.rewrites(instruction, out)? {
                copy(out, instruction);
            }
        }
        Ok(())
    }

    /// Writes another instruction in the place of one that has to do with the buffers; false for any other.
    fn rewrites(&mut self, instruction: &Instruction<'_>, out: &mut Vec<u32>) -> Result<bool, InspectError> {
        let operand = |index| instruction.operand(index);
        let Some(op) = Op::from_u32(instruction.opcode) else { return Ok(false) };
        if op == Op::ArrayLength
            && let Some(count) = self.buffers.get(&operand(2)?).map(|buffer| buffer.members[1])
        {
            self.load(out, count, operand(0)?, operand(1)?);
            return Ok(true);
        }
        let Some(at) = pointer_operand(op) else {
            let passed = match op {
                Op::FunctionCall | Op::Select | Op::Phi | Op::CopyObject | Op::CopyMemory | Op::ReturnValue | Op::PtrAccessChain => {
                    instruction.operands
                }
                Op::ExtInst => instruction.rest(4),
                _ => &[],
            };
            if passed.iter().any(|id| self.pointers.contains_key(id) || self.buffers.contains_key(id)) {
                return Err(instruction.error("it hands on a pointer into a buffer that is reached by its address"));
            }
            return Ok(false);
        };
        let Some(&(pointer, pointee)) = self.pointers.get(&operand(at)?) else { return Ok(false) };
        let mut operands = instruction.operands.to_vec();
        operands[at] = pointer;
        match op {
            Op::AccessChain | Op::InBoundsAccessChain => {
                let target = self.pointees.get(&operands[0]).copied().ok_or_else(|| instruction.error("its type is no pointer"))?;
                operands[0] = self.pointer(StorageClass::PhysicalStorageBuffer, target);
                self.pointers.insert(operands[1], (operands[1], target));
            }
            Op::Load | Op::Store => {
                let most = u32::try_from(ADDRESS_ALIGNMENT).unwrap_or(1);
                let alignment = self.alignments.get(&pointee).copied().unwrap_or(1).min(most);
                // Behind the pointer and, of a store, the value: which operands follow, and these in the order of their bits, from the lowest.
                let access = at + if op == Op::Store { 2 } else { 1 };
                if access == operands.len() {
                    operands.push(0);
                }
                if operands[access] & MemoryAccess::ALIGNED.bits() == 0 {
                    operands[access] |= MemoryAccess::ALIGNED.bits();
                    operands.insert(access + 1, alignment);
                }
            }
            _ => {}
        }
        put(out, op, &operands);
        Ok(true)
    }

    /// Writes what stands before the functions, up to the declarations of our own.
    fn head(&mut self, head: &[Instruction<'_>], out: &mut Vec<u32>) -> Result<(), InspectError> {
        let (mut is_extended, mut is_decorated) = (false, false);
        let mut passed = BTreeSet::new();
        for instruction in head {
            let op = Op::from_u32(instruction.opcode).unwrap_or(Op::Nop);
            let target = instruction.operands.first().copied().unwrap_or_default();
            if op != Op::Capability && !is_extended {
                is_extended = true;
                put(out, Op::Capability, &[Capability::PhysicalStorageBufferAddresses as u32]);
                let words = EXTENSION.chunks(4).map(|part| part.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)));
                put(out, Op::Extension, &words.collect::<Vec<_>>());
            }
            // The first type: names and decorations are over.
            if matches!(op, Op::TypeVoid | Op::TypeInt | Op::TypeFloat | Op::TypeBool | Op::Variable) && !is_decorated {
                is_decorated = true;
                out.append(&mut self.decorations);
            }
            let buffer = self.buffers.get(&target);
            match (op, buffer) {
                (Op::MemoryModel, _) => put(out, op, &[AddressingModel::PhysicalStorageBuffer64 as u32, instruction.operand(1)?]),
                (Op::Name, Some(_)) => {}
                (Op::Decorate, Some(buffer)) => {
                    // What is said of all accesses to a variable is said of the members behind its pointer.
                    let said = instruction.operand(1)?;
                    if said == Decoration::Coherent as u32 || said == Decoration::Volatile as u32 {
                        for member in (0..).zip(self.structures.get(&buffer.block).into_iter().flatten()).map(|(member, _)| member) {
                            if passed.insert((buffer.block, member, said)) {
                                put(out, Op::MemberDecorate, &[buffer.block, member, said]);
                            }
                        }
                    }
                }
                (Op::MemberDecorate, _) if target == self.push.before => {
                    copy(out, instruction);
                    put(out, op, &[&[self.push.block], instruction.rest(1)].concat());
                }
                (Op::Variable, _) => {
                    let variable = instruction.operand(1)?;
                    if variable != self.push.variable && !self.buffers.contains_key(&variable) {
                        copy(out, instruction);
                    }
                }
                _ => copy(out, instruction),
            }
        }
        Ok(())
    }
}
