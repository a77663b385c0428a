//! What flows along the edges of a graph file: five types, each one plain Rust type.

use std::fmt;

use ndarray::{Array2, Array3};
use poniard::{Data, Erased, ErasedExt, TypeKey};

/// A list of numbers.
pub(crate) type Vector = Vec<f64>;

/// Rows of numbers.
pub(crate) type Matrix = Array2<f64>;

/// Samples by `[row, column, channel]`, nominally 0 to 1, with one channel (grey) or three (red, green, blue).
///
/// Floating point, not bytes, so that a chain of filters rounds once: when the image is written.
pub(crate) type Image = Array3<f32>;

/// The type of a value in a graph file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Type {
    /// One `f64`.
    Number,
    /// A `String`.
    Text,
    /// A [`Vector`].
    Vector,
    /// A [`Matrix`].
    Matrix,
    /// An [`Image`].
    Image,
}

impl Type {
    /// Its name in documents and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::Image => "image",
        }
    }

    /// Its identity for the runtime.
    pub(crate) fn key(self) -> TypeKey {
        match self {
            Self::Number => f64::KEY,
            Self::Text => String::KEY,
            Self::Vector => Vector::KEY,
            Self::Matrix => Matrix::KEY,
            Self::Image => Image::KEY,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that a graph file can hold.
pub(crate) trait Typed: Data {
    /// Its type in a graph file.
    const TYPE: Type;
}

impl Typed for f64 {
    const TYPE: Type = Type::Number;
}
impl Typed for String {
    const TYPE: Type = Type::Text;
}
impl Typed for Vector {
    const TYPE: Type = Type::Vector;
}
impl Typed for Matrix {
    const TYPE: Type = Type::Matrix;
}
impl Typed for Image {
    const TYPE: Type = Type::Image;
}

/// A value that a graph file holds or names, not yet given to the runtime.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// One number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list of numbers.
    Vector(Vector),
    /// A list of rows.
    Matrix(Matrix),
    /// A decoded image.
    Image(Image),
}

impl Value {
    /// Its type.
    pub(crate) fn value_type(&self) -> Type {
        match self {
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::Vector(_) => Type::Vector,
            Self::Matrix(_) => Type::Matrix,
            Self::Image(_) => Type::Image,
        }
    }

    /// The value as the runtime passes it around.
    pub(crate) fn into_erased(self) -> Erased {
        match self {
            Self::Number(value) => Erased::of(value),
            Self::Text(value) => Erased::of(value),
            Self::Vector(value) => Erased::of(value),
            Self::Matrix(value) => Erased::of(value),
            Self::Image(value) => Erased::of(value),
        }
    }
}

/// A look at a task's result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueRef<'a> {
    /// One number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// A list of numbers.
    Vector(&'a [f64]),
    /// A list of rows.
    Matrix(&'a Matrix),
    /// An image.
    Image(&'a Image),
}

impl<'a> ValueRef<'a> {
    /// What `erased` holds, if it is one of the five types.
    pub(crate) fn of(erased: &'a Erased) -> Option<Self> {
        erased
            .get::<f64>()
            .map(|value| Self::Number(*value))
            .or_else(|| erased.get::<String>().map(|value| Self::Text(value)))
            .or_else(|| erased.get::<Vector>().map(|value| Self::Vector(value)))
            .or_else(|| erased.get::<Matrix>().map(Self::Matrix))
            .or_else(|| erased.get::<Image>().map(Self::Image))
    }
}
