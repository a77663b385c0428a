//! Code of ours around a kernel's: what reads its scalars, and what tells it which part of a launch it is.
//!
//! The kernel's function becomes an ordinary one, and a new one stands in its place that calls it. It has the same arguments, and says where the part begins
//! by adding to them. The kernel's block of scalars becomes a private variable that is filled before the call. Compilers see through both.

use naga::{
    AddressSpace, BinaryOperator, Binding, Block, BuiltIn, Expression, FunctionArgument, GlobalVariable, Handle, Literal, MathFunction,
    MemoryDecorations, Module, Range, Scalar, ScalarKind, Span, Statement, StructMember, Type, TypeInner, VectorSize,
};

/// Our code, as it grows.
struct Body {
    expressions: naga::Arena<Expression>,
    block: Block,
}

impl Body {
    /// Adds an expression that needs no evaluation.
    fn name(&mut self, expression: Expression) -> Handle<Expression> {
        self.expressions.append(expression, Span::UNDEFINED)
    }

    /// Adds an expression that is evaluated here.
    fn eval(&mut self, expression: Expression) -> Handle<Expression> {
        let handle = self.name(expression);
        self.block.push(Statement::Emit(Range::new_from_bounds(handle, handle)), Span::UNDEFINED);
        handle
    }

    /// Reads a member of the structure behind a pointer.
    fn load(&mut self, base: Handle<Expression>, index: u32) -> Handle<Expression> {
        let pointer = self.eval(Expression::AccessIndex { base, index });
        self.eval(Expression::Load { pointer })
    }
}

/// What a part of a launch adds to what the kernel is told.
struct Part {
    /// The first workgroup.
    base: Handle<Expression>,
    /// The number of workgroups of the whole launch.
    groups: Handle<Expression>,
    /// The invocation that the first workgroup begins with.
    first: Handle<Expression>,
}

/// Wraps the module's only entry point.
///
/// With `parts` the launch is done in parts: there, among the push constants, is the first workgroup of this one, and 16 bytes further the number of
/// workgroups of the whole launch; both are `vec3<u32>`.
pub(super) fn wrap(module: &mut Module, parts: Option<u32>) {
    let mut body = Body { expressions: naga::Arena::new(), block: Block::new() };
    let mut members = Vec::new();
    let word = insert(module, TypeInner::Scalar(Scalar::U32));
    let vector = insert(module, TypeInner::Vector { size: VectorSize::Tri, scalar: Scalar::U32 });
    let scalars = module.global_variables.iter().find(|(_, known)| matches!(known.space, AddressSpace::Immediate | AddressSpace::Uniform));
    let scalars = scalars.map(|(handle, variable)| (handle, variable.ty));
    let pieces = scalars.map(|(_, ty)| pieces(module, ty, word, &mut members)).unwrap_or_default();
    let scalars_len = members.len();
    if let Some(offset) = parts {
        members.push(member(vector, offset));
        members.push(member(vector, offset + 16));
    }
    let Some(last) = members.last() else { return };
    let end = last.offset + module.types[last.ty].inner.size(module.to_ctx());
    let block = insert(module, TypeInner::Struct { members, span: end.next_multiple_of(16) });
    if let Some((handle, _)) = scalars {
        let variable = module.global_variables.get_mut(handle);
        (variable.space, variable.binding) = (AddressSpace::Private, None);
    }
    let block = GlobalVariable {
        name: Some("launch".to_owned()),
        space: AddressSpace::Immediate,
        binding: None,
        ty: block,
        init: None,
        memory_decorations: MemoryDecorations::empty(),
    };
    let launch = Expression::GlobalVariable(module.global_variables.append(block, Span::UNDEFINED));
    let launch = body.name(launch);

    if let Some((handle, ty)) = scalars {
        let components: Vec<_> = pieces.iter().map(|piece| piece.read(&mut body, launch)).collect();
        let value = match (&module.types[ty].inner, components.first()) {
            (TypeInner::Scalar(_), Some(&only)) => only,
            _ => body.eval(Expression::Compose { ty, components }),
        };
        let pointer = body.name(Expression::GlobalVariable(handle));
        body.block.push(Statement::Store { pointer, value }, Span::UNDEFINED);
    }

    let Some(entry) = module.entry_points.first_mut() else { return };
    let part = parts.map(|_| {
        let at = u32::try_from(scalars_len).unwrap_or(u32::MAX);
        let (base, groups) = (body.load(launch, at), body.load(launch, at + 1));
        let components = entry.workgroup_size.map(|axis| body.name(Expression::Literal(Literal::U32(axis)))).to_vec();
        let right = body.eval(Expression::Compose { ty: vector, components });
        let first = body.eval(Expression::Binary { op: BinaryOperator::Multiply, left: base, right });
        Part { base, groups, first }
    });

    let mut kernel = std::mem::take(&mut entry.function);
    entry.function.name.clone_from(&kernel.name);
    entry.function.arguments.clone_from(&kernel.arguments);
    entry.function.diagnostic_filter_leaf = kernel.diagnostic_filter_leaf;
    kernel.name = Some("kernel".to_owned());
    let mut arguments = Vec::new();
    for (index, FunctionArgument { ty, binding, .. }) in (0..).zip(&mut kernel.arguments) {
        let given = body.name(Expression::FunctionArgument(index));
        let value = match &module.types[*ty].inner {
            TypeInner::Struct { members, .. } if part.is_some() => {
                let mut components = Vec::new();
                for (index, member) in (0..).zip(members) {
                    let given = body.eval(Expression::AccessIndex { base: given, index });
                    components.push(shift(&mut body, given, member.binding.as_ref(), part.as_ref()));
                }
                body.eval(Expression::Compose { ty: *ty, components })
            }
            _ => shift(&mut body, given, binding.as_ref(), part.as_ref()),
        };
        arguments.push(value);
        *binding = None;
    }
    let function = module.functions.append(kernel, Span::UNDEFINED);
    body.block.push(Statement::Call { function, arguments, result: None }, Span::UNDEFINED);
    body.block.push(Statement::Return { value: None }, Span::UNDEFINED);
    entry.function.expressions = body.expressions;
    entry.function.body = body.block;
}

/// An argument of the kernel, given what it is in this part alone.
fn shift(body: &mut Body, given: Handle<Expression>, binding: Option<&Binding>, part: Option<&Part>) -> Handle<Expression> {
    let right = match (binding, part) {
        (Some(Binding::BuiltIn(BuiltIn::NumWorkGroups)), Some(part)) => return part.groups,
        (Some(Binding::BuiltIn(BuiltIn::WorkGroupId)), Some(part)) => part.base,
        (Some(Binding::BuiltIn(BuiltIn::GlobalInvocationId)), Some(part)) => part.first,
        _ => return given,
    };
    body.eval(Expression::Binary { op: BinaryOperator::Add, left: given, right })
}

/// Where a scalar is in our block.
struct Piece {
    index: u32,
    /// Of an f16, which is read as half of a word: the offset of its half.
    half: Option<u32>,
}

impl Piece {
    fn read(&self, body: &mut Body, launch: Handle<Expression>) -> Handle<Expression> {
        let value = body.load(launch, self.index);
        let Some(half) = self.half else { return value };
        let base = body.eval(Expression::Math { fun: MathFunction::Unpack2x16float, arg: value, arg1: None, arg2: None, arg3: None });
        let expr = body.eval(Expression::AccessIndex { base, index: half / 2 });
        body.eval(Expression::As { expr, kind: ScalarKind::Float, convert: Some(2) })
    }
}

/// Adds what the scalars of the block `ty` are read from to `members`.
fn pieces(module: &Module, ty: Handle<Type>, word: Handle<Type>, members: &mut Vec<StructMember>) -> Vec<Piece> {
    let scalars: Vec<_> = match &module.types[ty].inner {
        TypeInner::Struct { members, .. } => members.iter().map(|member| (member.ty, member.offset)).collect(),
        _ => vec![(ty, 0)],
    };
    let mut pieces = Vec::new();
    for (ty, offset) in scalars {
        let is_half = module.types[ty].inner.scalar_width() == Some(2);
        let (ty, begin) = if is_half { (word, offset & !3) } else { (ty, offset) };
        if members.last().is_none_or(|last| last.offset != begin) {
            members.push(member(ty, begin));
        }
        let index = u32::try_from(members.len() - 1).unwrap_or(u32::MAX);
        pieces.push(Piece { index, half: is_half.then_some(offset & 3) });
    }
    pieces
}

fn member(ty: Handle<Type>, offset: u32) -> StructMember {
    StructMember { name: None, ty, binding: None, offset }
}

fn insert(module: &mut Module, inner: TypeInner) -> Handle<Type> {
    module.types.insert(Type { name: None, inner }, Span::UNDEFINED)
}
