//! The kernels that graph files can name.
//!
//! A [`Definition`] is a name with one or more typed forms; [`Form::kernel`] makes a [`poniard::ErasedKernel`] of it. Bodies are host code,
//! so every kernel runs on any processor of kind `cpu`.
//!
//! Kernels are pure but for `wait`: files come in as inputs and go out by `output`, so a kernel never needs to know where the graph
//! file lies. Arithmetic is IEEE 754: overflow gives an infinity and 0/0 a NaN, which pass on; a kernel that needs an order
//! (`sort`, `median`, …) fails on a NaN.

use std::collections::BTreeMap;

mod control;
mod definition;
mod images;
pub(crate) mod limits;
mod matrices;
mod numbers;
mod random;
mod texts;
mod value;
mod vectors;

pub(crate) use definition::{Definition, Form};
pub(crate) use value::{Image, Matrix, Type, Value, ValueRef};

/// A kernel for those who list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogueEntry {
    /// Its name in graph files.
    pub(crate) name: &'static str,
    /// Its forms in one line: `divide(dividend: number, divisor: number) -> number`.
    pub(crate) signature: String,
    /// What it computes, in a sentence.
    pub(crate) summary: &'static str,
}

/// All kernels, by subject and within it in the order in which a reader would want them.
pub(crate) fn catalogue() -> Vec<CatalogueEntry> {
    definitions(0)
        .into_iter()
        .map(|definition| CatalogueEntry { name: definition.name, signature: definition.signature(), summary: definition.summary })
        .collect()
}

/// The kernels as bodies for a run with `seed`, by name.
pub(crate) fn by_name(seed: u64) -> BTreeMap<&'static str, Definition> {
    definitions(seed).into_iter().map(|definition| (definition.name, definition)).collect()
}

fn definitions(seed: u64) -> Vec<Definition> {
    [
        numbers::definitions(),
        vectors::definitions(seed),
        matrices::definitions(seed),
        images::definitions(seed),
        texts::definitions(),
        control::definitions(),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
