//! A named kernel of graph files: its forms, each with a typed signature and a body.

use std::fmt::Write as _;
use std::sync::Arc;

use poniard::{Access, Erased, ErasedExt, ErasedKernel, HostBody, KernelError, Parameter};

use super::value::{Type, Typed};

/// One input of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// What it is for.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) value_type: Type,
}

/// One way to call a kernel. The forms of a kernel differ in the number or the types of their inputs, so at most one fits.
#[derive(Clone)]
pub(crate) struct Form {
    /// The inputs in order.
    pub(crate) inputs: Vec<Input>,
    /// Whether the last input may be given any number of times, at least once.
    pub(crate) repeats: bool,
    /// The type of the result.
    pub(crate) output: Type,
    body: HostBody,
}

impl Form {
    /// Whether `count` inputs are neither too few nor too many.
    pub(crate) fn takes(&self, count: usize) -> bool {
        if self.repeats { count >= self.inputs.len() } else { count == self.inputs.len() }
    }

    /// The input that the argument at `position` goes to.
    pub(crate) fn input_at(&self, position: usize) -> Option<Input> {
        let last = self.inputs.len().checked_sub(1)?;
        if self.repeats { self.inputs.get(position.min(last)).copied() } else { self.inputs.get(position).copied() }
    }

    /// The kernel for `count` arguments. A [`ErasedKernel`] has a fixed number of parameters, so a form that repeats its last input is
    /// a family of kernels with one body.
    pub(crate) fn kernel(&self, name: &str, count: usize) -> ErasedKernel {
        let parameters = (0..count)
            .filter_map(|position| self.input_at(position))
            .map(|input| Parameter {
                name: input.name,
                key: input.value_type.key(),
                type_name: input.value_type.name(),
                access: Access::Read,
            })
            .collect();
        let body = Arc::clone(&self.body);
        ErasedKernel::new(name, parameters).with_host_body(move |arguments| body(arguments))
    }

    /// The body alone, for a task whose options have no place in `spawn_kernel`.
    pub(crate) fn body(&self) -> HostBody {
        Arc::clone(&self.body)
    }
}

/// A kernel as the catalogue lists it.
#[derive(Clone)]
pub(crate) struct Definition {
    /// Its name in graph files: lower-case words joined by `-`.
    pub(crate) name: &'static str,
    /// What it computes, in a sentence.
    pub(crate) summary: &'static str,
    /// The ways to call it.
    pub(crate) forms: Vec<Form>,
}

impl Definition {
    /// A kernel that cannot be called yet.
    pub(crate) fn new(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, forms: Vec::new() }
    }

    /// Adds a form: one name for each parameter of `body`.
    pub(crate) fn form<M, const N: usize>(mut self, names: [&'static str; N], body: impl TypedBody<M, N>) -> Self {
        let (types, output, body) = body.erase();
        let inputs = names.into_iter().zip(types).map(|(name, value_type)| Input { name, value_type }).collect();
        self.forms.push(Form { inputs, repeats: false, output, body });
        self
    }

    /// Adds a form that takes one or more inputs of one type.
    pub(crate) fn repeated<T: Typed, R: Answer>(mut self, name: &'static str, body: impl Fn(&[&T]) -> R + Send + Sync + 'static) -> Self {
        let body: HostBody = Arc::new(move |arguments| {
            let values = (0..arguments.len()).map(|position| argument::<T>(arguments, position)).collect::<Result<Vec<_>, _>>()?;
            body(&values).into_erased()
        });
        self.forms.push(Form { inputs: vec![Input { name, value_type: T::TYPE }], repeats: true, output: R::TYPE, body });
        self
    }

    /// The signature in one line. Forms that differ in types only are written as one, `add(value: number|vector...) -> number|vector`,
    /// where the first alternative goes with the first, the second with the second; other forms are separated by `; `.
    pub(crate) fn signature(&self) -> String {
        let mut groups: Vec<Vec<&Form>> = Vec::new();
        for form in &self.forms {
            let same = |other: &&Form| {
                other.repeats == form.repeats && other.inputs.iter().map(|input| input.name).eq(form.inputs.iter().map(|input| input.name))
            };
            match groups.iter_mut().find(|group| group.first().is_some_and(same)) {
                Some(group) => group.push(form),
                None => groups.push(vec![form]),
            }
        }
        let mut text = String::new();
        for group in groups {
            let Some(first) = group.first() else { continue };
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(self.name);
            text.push('(');
            for (position, input) in first.inputs.iter().enumerate() {
                if position > 0 {
                    text.push_str(", ");
                }
                let types: Vec<Type> = group.iter().filter_map(|form| form.inputs.get(position)).map(|input| input.value_type).collect();
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{}: {}", input.name, alternatives(&types));
            }
            if first.repeats {
                text.push_str("...");
            }
            let outputs: Vec<Type> = group.iter().map(|form| form.output).collect();
            let _ = write!(text, ") -> {}", alternatives(&outputs));
        }
        text
    }
}

/// `number` where all are numbers, else every type in order, so that alternatives of several inputs line up.
fn alternatives(types: &[Type]) -> String {
    match types.first() {
        Some(first) if types.iter().all(|other| other == first) => first.name().to_owned(),
        _ => types.iter().map(|value_type| value_type.name()).collect::<Vec<_>>().join("|"),
    }
}

/// What a body returns: a value, or a value or the reason why there is none.
pub(crate) trait Answer {
    /// The type of the value.
    const TYPE: Type;
    /// The value as the runtime passes it around.
    fn into_erased(self) -> Result<Erased, KernelError>;
}

impl<T: Typed> Answer for T {
    const TYPE: Type = T::TYPE;
    fn into_erased(self) -> Result<Erased, KernelError> {
        Ok(Erased::of(self))
    }
}

impl<T: Typed> Answer for Result<T, KernelError> {
    const TYPE: Type = T::TYPE;
    fn into_erased(self) -> Result<Erased, KernelError> {
        self.map(Erased::of)
    }
}

/// A closure over references to typed values, from which the signature is read. `M` tells the implementations apart.
pub(crate) trait TypedBody<M, const N: usize> {
    /// The parameters' types, the result's type, and the body over erased values.
    fn erase(self) -> ([Type; N], Type, HostBody);
}

macro_rules! typed_body {
    ($count:literal $($parameter:ident $position:tt),*) => {
        impl<F, R: Answer, $($parameter: Typed),*> TypedBody<fn($($parameter),*) -> R, $count> for F
        where
            F: Fn($(&$parameter),*) -> R + Send + Sync + 'static,
        {
            fn erase(self) -> ([Type; $count], Type, HostBody) {
                ([$($parameter::TYPE),*], R::TYPE, Arc::new(move |arguments| self($(argument::<$parameter>(arguments, $position)?),*).into_erased()))
            }
        }
    };
}

typed_body!(1 A 0);
typed_body!(2 A 0, B 1);
typed_body!(3 A 0, B 1, C 2);
typed_body!(4 A 0, B 1, C 2, D 3);
typed_body!(5 A 0, B 1, C 2, D 3, E 4);

/// The argument at `position`, which the check of the graph has found to be a `T`; a caller that skipped it gets an error.
fn argument<'a, T: Typed>(arguments: &[&'a Erased], position: usize) -> Result<&'a T, KernelError> {
    let given = arguments.get(position).ok_or_else(|| KernelError::new(format!("input {} is missing", position + 1)))?;
    given.get::<T>().ok_or_else(|| KernelError::new(format!("input {} is {}, expected {}", position + 1, given.type_name(), T::TYPE)))
}
