//! `#[task]` and `#[derive(Data)]` for Poniard. Use them through the `poniard` crate, which re-exports them.

use proc_macro::TokenStream;

mod data;
mod task;

/// Makes a type a task's argument or result.
///
/// Every type can then be passed by reference; one that is also `Clone` can be taken by value. Generic parameters have to be `Data` themselves.
/// The type's identity is its path and the version of its crate.
///
/// Values travel to other processes field by field, if all fields do and the type has no `Drop` of its own. Serde is used instead where a field's type is not `Data`, with attributes for
/// serde on the type or in it, and with `#[data(serde)]`; the type then implements `Serialize` and `Deserialize` and has no parameters. Otherwise values stay, as they do with
/// `#[data(local)]`: for what means something only in the process that made it, such as an index into a `static`.
#[proc_macro_derive(Data, attributes(data))]
pub fn derive_data(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    data::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Keeps a function as it is and adds a module of the same name with a typed `spawn`:
/// `axpy::spawn(&runtime, &x, y, 2.0)` is `runtime.spawn(axpy, (&x, y, 2.0))` with the function's own parameter names.
///
/// `#[task(name = "..", priority = "high")]` says what counts for tasks spawned in this way when nothing else says anything: a name in
/// place of the function's own, and a priority (`low`, `normal`, `high`).
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    task::expand(arguments.into(), &function).unwrap_or_else(syn::Error::into_compile_error).into()
}
