//! Which functions are tasks.

use std::any::TypeId;
use std::panic::Location;
use std::sync::Arc;

use crate::data::Data;
use crate::error::{BoxError, TaskError};
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Plan, Planner, Survey, Unplanned};
use crate::kernel::{Body, Origin, Shape};
use crate::mutable::{Seen, Touch};
use crate::parameter::{IntoArg, Param, Slots, Stored};
use crate::residency::Lineage;
use crate::retry::Retrying;
use crate::task::record::{Edge, Header};
use crate::wire::{Parts, Reader, WireError, Writer};

/// What a task function returns: a value, or a `Result` whose error makes the task fail.
///
/// `fn -> T` gives a `Task<T>`; so does `fn -> Result<T, E>`, for every error that converts into a boxed one: types that implement
/// `Error`, `String`, `&str`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    note = "return a `T: Data` (`#[derive(poniard::Data)]`) or a `Result<T, E>` with `E: Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait TaskOutput {
    /// What the task's handle will give.
    type Value: Data;

    /// The value, or the error.
    ///
    /// # Errors
    /// What the function returned.
    fn into_result(self) -> Result<Self::Value, BoxError>;
}

impl<T: Data> TaskOutput for T {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        Ok(self)
    }
}

impl<T: Data, E: Into<BoxError>> TaskOutput for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}

/// A function or closure that can be a task: up to eight parameters, each a `&T`, a `&mut T`, a `T` or a [`Gather`](crate::Gather), with `T:` [`Data`].
///
/// `M` is only there to tell the signatures apart; the compiler finds it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task function",
    note = "its parameters are `T`, `&T`, `&mut T` or `Gather<'_, T>` with `T: Data`; its result is `Data` or a `Result` of it; a closure's parameters need types; \
            what a closure captures is moved into it and `Send`; an error is a type that implements `Error`, a `String` or a `&str`; at most eight parameters"
)]
pub trait TaskFn<M>: Send + Sized + 'static {
    /// The stored arguments.
    #[doc(hidden)]
    type Params: Send + 'static + Predecessors;
    /// What the task's handle will give.
    type Value: Data;
    /// Which parameters it takes by value, one bit for each, the first one lowest; none of a function that is called several times.
    #[doc(hidden)]
    const TAKES: u8 = 0;
    /// The same, also of a function that is called several times.
    #[doc(hidden)]
    const OWNS: u8 = 0;

    /// What another process calls: the function itself, or the one that is tried again from here.
    #[doc(hidden)]
    type Tried: TaskFn<Self::Signature, Params = Self::Params, Value = Self::Value>;
    /// The signature of that.
    #[doc(hidden)]
    type Signature;

    /// How often and after which pauses it is called again.
    #[doc(hidden)]
    fn retries(&self) -> Option<Retrying<()>> {
        None
    }

    /// Whether it is a kernel's launch. Only then the next four are called.
    #[doc(hidden)]
    const LAUNCHES: bool = false;

    /// The kernel.
    #[doc(hidden)]
    fn body(&self) -> Option<Arc<Body>> {
        None
    }

    /// What its parameters and its results are.
    #[doc(hidden)]
    fn shapes() -> (Vec<Parameter>, Vec<Shape>) {
        Default::default()
    }

    /// What a device has to do, once the arguments are there.
    ///
    /// # Errors
    /// Why it is no launch, in words.
    #[doc(hidden)]
    fn plan(&self, _params: &Self::Params) -> Result<Plan, Unplanned> {
        unreachable!("a function is no launch")
    }

    /// How much a launch works on, once the arguments are there.
    #[doc(hidden)]
    fn survey(&self, _params: &Self::Params) -> Survey {
        unreachable!("a function is no launch")
    }

    /// How its results are computed again, of the function and the arguments.
    #[doc(hidden)]
    fn lineage(self, _params: Self::Params, _origin: Origin) -> Option<Arc<dyn Lineage>> {
        None
    }

    /// The type of the function that a user named, and what gives its name.
    #[doc(hidden)]
    fn known_as() -> (TypeId, fn() -> &'static str) {
        (TypeId::of::<Self>(), std::any::type_name::<Self>)
    }

    /// Runs the function once.
    #[doc(hidden)]
    fn call(self, params: &mut Self::Params) -> Result<Self::Value, BoxError>;

    /// Runs the function and leaves the arguments for another call: what it takes by value is a clone.
    #[doc(hidden)]
    fn call_keeping(self, params: &mut Self::Params) -> Result<Self::Value, BoxError>;
}

/// The arguments of one spawn: a tuple, each element a value, a `Task<T>`, a `&Task<T>` or an `Arc<T>`.
#[diagnostic::on_unimplemented(
    message = "these arguments do not fit the task function's parameters",
    note = "give one tuple with one element for each parameter, as in `spawn(f, (a,))` or `spawn(f, (a, &b))`"
)]
pub trait Args<P> {
    /// Which of them are for a parameter by value alone, one bit for each.
    #[doc(hidden)]
    const CONSUMED: u8 = 0;
    /// Whether a place may be empty before the task or after it.
    #[doc(hidden)]
    const EMPTIES: bool = false;
    /// Stores them.
    #[doc(hidden)]
    fn into_params(self) -> P;
}

/// What the stored arguments of a task depend on.
#[doc(hidden)]
pub trait Predecessors {
    /// Calls `visit` with each task that an argument is the result of, and the edge that the argument keeps for it.
    #[doc(hidden)]
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge));
    /// Calls `visit` with each task whose result an argument takes, with the number of the argument and, in a collection of results, its own; both from 1.
    #[doc(hidden)]
    fn visit_numbered(&self, visit: &mut impl FnMut(usize, Option<usize>, &Header));
    /// The error of a task among them that failed. Only once all have finished.
    #[doc(hidden)]
    fn failed(&self) -> Option<TaskError>;
    /// Whether an argument is access to a [`Mutable`](crate::Mutable).
    #[doc(hidden)]
    fn touches_places(&self) -> bool;
    /// Calls `visit` for each that is.
    #[doc(hidden)]
    fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch));
    /// Shows what they depend on, in their order, before the task has been ordered: tasks whose results they are, and places.
    #[doc(hidden)]
    fn see(&self, see: &mut impl FnMut(Seen<'_>));
    /// Whether all of them can travel to another process.
    #[doc(hidden)]
    const TRAVEL: bool = false;
    /// Whether all that their types are made of can, too.
    #[doc(hidden)]
    fn parts_travel(_parts: &mut Parts) -> bool {
        false
    }
    /// Writes them: see `Slots::send`. Those whose bit is set in `gives` are needed by nobody when the task has begun.
    ///
    /// # Errors
    /// [`WireError`] when one cannot be written after all.
    #[doc(hidden)]
    fn send(&self, _writer: &mut Writer<'_>, _gives: u8) -> Result<(), WireError> {
        unreachable!("these arguments do not travel")
    }
    /// Writes what the body has made of those that are access to a [`Mutable`](crate::Mutable).
    ///
    /// # Errors
    /// [`WireError`] when one cannot be written.
    #[doc(hidden)]
    fn send_back(&self, _writer: &mut Writer<'_>) -> Result<(), WireError> {
        Ok(())
    }
    /// Reads that.
    ///
    /// # Errors
    /// [`WireError`] when it is not there.
    #[doc(hidden)]
    fn take_back(&mut self, _reader: &mut Reader<'_>) -> Result<(), WireError> {
        Ok(())
    }
    /// Whether one of them can be the result of a launch on a device.
    #[doc(hidden)]
    const ELSEWHERE: bool = false;
    /// Sees to it that the host has the contents of all their buffers.
    ///
    /// # Errors
    /// Why it cannot have them, in words.
    #[doc(hidden)]
    fn bring(&self) -> Result<(), String> {
        Ok(())
    }
    /// Sees to it that they are at hand for the body, which has those for its own whose bit is set in `takes`.
    ///
    /// # Errors
    /// Why one cannot be had, in words.
    #[doc(hidden)]
    fn look_at(&self, _takes: u8) -> Result<(), String> {
        Ok(())
    }
    /// The body is over: what it has changed may be spilled.
    #[doc(hidden)]
    fn offer(&self) {}
    /// Shows them to a launch, in their order.
    #[doc(hidden)]
    fn plan(&self, _planner: &mut Planner) {}
    /// Says how much they are. Only once all that they are results of have finished with a value.
    #[doc(hidden)]
    fn survey(&self, _survey: &mut Survey) {}
    /// Puts in the place of those that are on a device alone how they are computed again. The longest history among those.
    #[doc(hidden)]
    fn remember(&mut self) -> u32 {
        0
    }
    /// Computes what `remember` has put there.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    #[doc(hidden)]
    fn restore(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// Writes a value among them: see `Slots::send_again`.
    #[doc(hidden)]
    fn send_again(&self, _number: u64, _writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
        None
    }
    /// Reads them: see `Slots::receive`.
    ///
    /// # Errors
    /// [`WireError`] when they are not there.
    #[doc(hidden)]
    fn receive(_reader: &mut Reader<'_>) -> Result<Self, WireError>
    where
        Self: Sized,
    {
        unreachable!("these arguments do not travel")
    }
}

/// A stored argument.
#[doc(hidden)]
#[derive(Debug)]
pub struct Argument<S: Stored>(pub(crate) S::Slots);

macro_rules! arity {
    ($($param:ident $arg:ident $stored:ident $index:tt),*) => {
        impl<Function, R: TaskOutput, $($param: Param),*> TaskFn<fn($($param),*) -> R> for Function
        where
            Function: FnOnce($($param),*) -> R + for<'a> FnOnce($($param::Item<'a>),*) -> R + Send + 'static,
        {
            type Params = ($(Argument<$param::Of>,)*);
            type Value = R::Value;
            type Tried = Self;
            type Signature = fn($($param),*) -> R;
            const TAKES: u8 = 0 $(| (($param::TAKES as u8) << $index))*;
            const OWNS: u8 = Self::TAKES;

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn call(self, params: &mut Self::Params) -> Result<R::Value, BoxError> {
                self($($param::get(&mut params.$index.0)),*).into_result()
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn call_keeping(self, params: &mut Self::Params) -> Result<R::Value, BoxError> {
                self($($param::get_kept(&mut params.$index.0)),*).into_result()
            }
        }

        impl<$($stored: Stored,)* $($arg: IntoArg<$stored>),*> Args<($(Argument<$stored>,)*)> for ($($arg,)*) {
            const CONSUMED: u8 = 0 $(| (($arg::CONSUMES as u8) << $index))*;
            const EMPTIES: bool = false $(|| $arg::EMPTIES)*;

            #[allow(clippy::unused_unit, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn into_params(self) -> ($(Argument<$stored>,)*) {
                ($(Argument(self.$index.into_slots()),)*)
            }
        }

        impl<$($stored: Stored),*> Predecessors for ($(Argument<$stored>,)*) {
            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
                $(self.$index.0.visit(visit);)*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn visit_numbered(&self, visit: &mut impl FnMut(usize, Option<usize>, &Header)) {
                $(self.$index.0.visit_numbered(&mut |element, header| visit($index + 1, element, header));)*
            }

            #[inline]
            fn failed(&self) -> Option<TaskError> {
                $(if let Some(error) = self.$index.0.failed() { return Some(error); })*
                None
            }

            #[inline]
            fn touches_places(&self) -> bool {
                false $(|| self.$index.0.touches_places())*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch)) {
                $(self.$index.0.visit_places(visit);)*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
                $(self.$index.0.see(see);)*
            }

            const TRAVEL: bool = true $(&& <$stored::Slots as Slots>::TRAVELS)*;

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn parts_travel(parts: &mut Parts) -> bool {
                true $(&& <$stored::Slots as Slots>::parts_travel(parts))*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn send(&self, writer: &mut Writer<'_>, gives: u8) -> Result<(), WireError> {
                $(self.$index.0.send(writer, gives >> $index & 1 == 1)?;)*
                Ok(())
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn send_back(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
                $(self.$index.0.send_back(writer)?;)*
                Ok(())
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn take_back(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
                $(self.$index.0.take_back(reader)?;)*
                Ok(())
            }

            const ELSEWHERE: bool = false $(|| <$stored::Slots as Slots>::ELSEWHERE)*;

            #[inline]
            fn bring(&self) -> Result<(), String> {
                $(self.$index.0.bring()?;)*
                Ok(())
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn look_at(&self, takes: u8) -> Result<(), String> {
                $(self.$index.0.look_at(takes >> $index & 1 == 1)?;)*
                Ok(())
            }

            #[inline]
            fn offer(&self) {
                $(self.$index.0.offer();)*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn plan(&self, planner: &mut Planner) {
                $(self.$index.0.plan(planner);)*
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn survey(&self, survey: &mut Survey) {
                $(self.$index.0.survey(survey);)*
            }

            fn remember(&mut self) -> u32 {
                0 $(.max(self.$index.0.remember()))*
            }

            fn restore(&mut self) -> Result<(), String> {
                $(self.$index.0.restore()?;)*
                Ok(())
            }

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            fn send_again(&self, number: u64, writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
                None$(.or_else(|| self.$index.0.send_again(number, writer)))*
            }

            #[allow(unused_variables, clippy::allow_attributes, clippy::unused_unit, reason = "no parameters")]
            fn receive(reader: &mut Reader<'_>) -> Result<Self, WireError> {
                Ok(($(Argument(<$stored::Slots as Slots>::receive(reader)?),)*))
            }
        }
    };
}
arity!();
arity!(P0 A0 S0 0);
arity!(P0 A0 S0 0, P1 A1 S1 1);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2, P3 A3 S3 3);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2, P3 A3 S3 3, P4 A4 S4 4);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2, P3 A3 S3 3, P4 A4 S4 4, P5 A5 S5 5);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2, P3 A3 S3 3, P4 A4 S4 4, P5 A5 S5 5, P6 A6 S6 6);
arity!(P0 A0 S0 0, P1 A1 S1 1, P2 A2 S2 2, P3 A3 S3 3, P4 A4 S4 4, P5 A5 S5 5, P6 A6 S6 6, P7 A7 S7 7);

/// Refuses, when it is compiled, to consume what the function only looks at.
pub(crate) const fn check_consumed<M, F: TaskFn<M>, A: Args<F::Params>>() {
    assert!(
        A::CONSUMED & !F::OWNS == 0,
        "`consume` moves the value into a parameter `T`; for a parameter `&T` it is `read`, for `&mut T` `write`"
    );
}

/// A readable name for the function `F`: the last part of its path, or where the closure stands.
pub(crate) fn function_name(type_name: &str) -> String {
    // Generic arguments would only repeat types: `sum<alloc::vec::Vec<f64>>` is `sum`.
    let path = type_name.split('<').next().unwrap_or(type_name);
    let mut parts = path.rsplit("::");
    match parts.next() {
        Some("{{closure}}") => match parts.find(|part| *part != "{{closure}}") {
            Some(outer) => format!("closure in {outer}"),
            None => "closure".into(),
        },
        Some(name) if !name.is_empty() => name.into(),
        _ => type_name.into(),
    }
}

/// Where the caller of a `#[track_caller]` function stands.
#[track_caller]
pub(crate) fn caller() -> &'static Location<'static> {
    Location::caller()
}

#[cfg(test)]
mod tests {
    use super::function_name;

    #[test]
    fn names_are_the_last_part_of_the_path() {
        assert_eq!(function_name("app::linear::scale"), "scale");
        assert_eq!(function_name("app::main::{{closure}}"), "closure in main");
        assert_eq!(function_name("app::main::{{closure}}::{{closure}}"), "closure in main");
        assert_eq!(function_name("app::sum<alloc::vec::Vec<f64>>"), "sum");
        assert_eq!(function_name("fn(u64) -> u64"), "fn(u64) -> u64");
    }
}
