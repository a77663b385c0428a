//! Which functions are nodes, and what may be given for their parameters: as for a task, but all of it again and again.

use std::sync::Arc;

use super::builder::Wiring;
use super::code::{Constant, Frame, Linked, LinkedMany, MovedOut, SharedConstant};
use super::{Input, Moved, Node};
use crate::data::Data;
use crate::error::BoxError;
use crate::function::{Argument, TaskOutput};
use crate::parameter::{Many, Param, Stored};

/// A function or closure that can be a node of a graph: one that can be a task ([`TaskFn`](crate::TaskFn)), and that can be called any number of times, by
/// several threads at once (`Fn + Send + Sync`).
///
/// `M` is only there to tell the signatures apart; the compiler finds it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a node of a graph",
    note = "a node is run again and again: its function is `Fn + Send + Sync`; its parameters are `T`, `&T` or `Gather<'_, T>` with `T: Data`; \
            its result is `Data` or a `Result` of it; a closure's parameters need types"
)]
pub trait NodeFn<M>: Send + Sync + 'static {
    /// The parameters.
    #[doc(hidden)]
    type Params: Signature;
    /// What the node gives.
    type Value: Data;

    /// Runs the function once.
    #[doc(hidden)]
    fn call(&self, places: <Self::Params as Signature>::Places<'_>) -> Result<Self::Value, BoxError>;
}

/// The parameters of a function.
#[doc(hidden)]
pub trait Signature: 'static {
    /// Where the arguments lie while the function runs.
    type Places<'a>;
}

/// The arguments of one node: a tuple, each element a value, a [`Node`] or [`Input`] (or a reference to one), [`Node::moved`], or an `Arc`.
#[diagnostic::on_unimplemented(
    message = "these arguments do not fit the parameters of the node's function",
    note = "give one tuple with one element for each parameter, as in `graph.task(f, (a,))` or `graph.task(f, (a, &b))`"
)]
pub trait NodeArgs<P: Signature> {
    /// How they are kept.
    #[doc(hidden)]
    type Wired: Wired<P>;

    /// Notes what they depend on.
    #[doc(hidden)]
    fn wire(self, wiring: &mut Wiring<'_>) -> Self::Wired;
}

/// The arguments of a node as the graph keeps them.
#[doc(hidden)]
pub trait Wired<P: Signature>: Send + Sync + 'static {
    /// Where they lie in a run.
    fn places<'a>(&'a self, frame: &Frame<'a>) -> P::Places<'a>;
}

/// What may be given for a parameter of type `T` or `&T`: a `T`, which is kept and used in every run, a `Node<T>` or `Input<T>`, a reference to one, or an
/// `Arc<T>`.
#[diagnostic::on_unimplemented(
    message = "expected a `{S}` or a `Node<{S}>` here, found `{Self}`",
    note = "an argument of a node is a value, a `Node` or an `Input` or a reference to one, `node.moved()`, or an `Arc`; results of tasks are none, and nothing is consumed, as a node is run again and again"
)]
pub trait IntoNodeArg<S: Stored> {
    /// How it is kept.
    #[doc(hidden)]
    type Wired: WiredArg<S>;

    /// Notes what it depends on.
    #[doc(hidden)]
    fn wire(self, wiring: &mut Wiring<'_>) -> Self::Wired;
}

/// One argument of a node as the graph keeps it.
#[doc(hidden)]
pub trait WiredArg<S: Stored>: Send + Sync + 'static {
    /// Where it lies in a run.
    fn place<'a>(&'a self, frame: &Frame<'a>) -> S::Place<'a>;
}

impl<T: Data> IntoNodeArg<T> for T {
    type Wired = Constant<T>;

    #[inline]
    fn wire(self, _wiring: &mut Wiring<'_>) -> Constant<T> {
        Constant(self)
    }
}

impl<T: Data> IntoNodeArg<T> for Arc<T> {
    type Wired = SharedConstant<T>;

    fn wire(self, _wiring: &mut Wiring<'_>) -> SharedConstant<T> {
        SharedConstant(self)
    }
}

impl<T: Data> IntoNodeArg<T> for Node<T> {
    type Wired = Linked<T>;

    #[inline]
    fn wire(self, wiring: &mut Wiring<'_>) -> Linked<T> {
        wiring.link(self)
    }
}

impl<T: Data> IntoNodeArg<T> for &Node<T> {
    type Wired = Linked<T>;

    #[inline]
    fn wire(self, wiring: &mut Wiring<'_>) -> Linked<T> {
        wiring.link(*self)
    }
}

impl<T: Data> IntoNodeArg<T> for Input<T> {
    type Wired = Linked<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> Linked<T> {
        wiring.link(self.node())
    }
}

impl<T: Data> IntoNodeArg<T> for &Input<T> {
    type Wired = Linked<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> Linked<T> {
        wiring.link(self.node())
    }
}

impl<T: Data> IntoNodeArg<T> for Moved<T> {
    type Wired = MovedOut<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> MovedOut<T> {
        wiring.move_out(self.0)
    }
}

impl<T: Data> IntoNodeArg<Many<T>> for Vec<Node<T>> {
    type Wired = LinkedMany<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> LinkedMany<T> {
        wiring.link_many(&self)
    }
}

impl<T: Data> IntoNodeArg<Many<T>> for &Vec<Node<T>> {
    type Wired = LinkedMany<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> LinkedMany<T> {
        wiring.link_many(self)
    }
}

impl<T: Data> IntoNodeArg<Many<T>> for &[Node<T>] {
    type Wired = LinkedMany<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> LinkedMany<T> {
        wiring.link_many(self)
    }
}

macro_rules! arity {
    ($($param:ident $arg:ident $stored:ident $wired:ident $index:tt),*) => {
        impl<Function, R: TaskOutput, $($param: Param),*> NodeFn<fn($($param),*) -> R> for Function
        where
            Function: Fn($($param),*) -> R + for<'a> Fn($($param::Item<'a>),*) -> R + Send + Sync + 'static,
        {
            type Params = ($(Argument<$param::Of>,)*);
            type Value = R::Value;

            #[allow(unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn call(&self, places: <Self::Params as Signature>::Places<'_>) -> Result<R::Value, BoxError> {
                self($($param::read(places.$index)),*).into_result()
            }
        }

        impl<$($stored: Stored),*> Signature for ($(Argument<$stored>,)*) {
            type Places<'a> = ($($stored::Place<'a>,)*);
        }

        impl<$($stored: Stored,)* $($arg: IntoNodeArg<$stored>),*> NodeArgs<($(Argument<$stored>,)*)> for ($($arg,)*) {
            type Wired = ($($arg::Wired,)*);

            #[allow(clippy::unused_unit, unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn wire(self, wiring: &mut Wiring<'_>) -> Self::Wired {
                ($(self.$index.wire(wiring),)*)
            }
        }

        impl<$($stored: Stored,)* $($wired: WiredArg<$stored>),*> Wired<($(Argument<$stored>,)*)> for ($($wired,)*) {
            #[allow(clippy::unused_unit, unused_variables, clippy::allow_attributes, reason = "no parameters")]
            #[inline]
            fn places<'a>(&'a self, frame: &Frame<'a>) -> ($($stored::Place<'a>,)*) {
                ($(self.$index.place(frame),)*)
            }
        }
    };
}
arity!();
arity!(P0 A0 S0 W0 0);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2, P3 A3 S3 W3 3);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2, P3 A3 S3 W3 3, P4 A4 S4 W4 4);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2, P3 A3 S3 W3 3, P4 A4 S4 W4 4, P5 A5 S5 W5 5);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2, P3 A3 S3 W3 3, P4 A4 S4 W4 4, P5 A5 S5 W5 5, P6 A6 S6 W6 6);
arity!(P0 A0 S0 W0 0, P1 A1 S1 W1 1, P2 A2 S2 W2 2, P3 A3 S3 W3 3, P4 A4 S4 W4 4, P5 A5 S5 W5 5, P6 A6 S6 W6 6, P7 A7 S7 W7 7);
