//! `#[task]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{FnArg, ItemFn, Pat, Result, ReturnType, Type};

pub(crate) fn expand(arguments: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(syn::Error::new_spanned(arguments, "`#[task]` takes no arguments"));
    }
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(syn::Error::new_spanned(asyncness, "a task function is not `async`: tasks wait by depending on other tasks"));
    }
    if !signature.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &signature.generics,
            "`#[task]` needs a function without generic parameters; spawn a generic one with `runtime.spawn`",
        ));
    }
    let name = &signature.ident;
    let visibility = &function.vis;
    let mut names = Vec::new();
    let mut taken = Vec::new();
    for (index, input) in signature.inputs.iter().enumerate() {
        let FnArg::Typed(input) = input else {
            return Err(syn::Error::new_spanned(input, "a task is a free function: it has no `self`"));
        };
        names.push(match &*input.pat {
            Pat::Ident(pattern) => pattern.ident.clone(),
            _ => format_ident!("argument_{index}"),
        });
        taken.push(match &*input.ty {
            Type::Reference(reference) if reference.mutability.is_some() => {
                return Err(syn::Error::new_spanned(reference, "a task's parameters are `T` or `&T`"));
            }
            Type::Reference(reference) => (*reference.elem).clone(),
            other => other.clone(),
        });
    }
    let output = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    let description = format!("Spawns [`{name}`] as a task; each argument is a value, a `Task`, a `&Task` or an `Arc`.");
    // A function in a private module cannot name types that are private to its parent, so the module looks through `super`.
    Ok(quote! {
        #function

        #[allow(missing_docs, unused_imports, clippy::too_many_arguments, clippy::allow_attributes, reason = "generated beside the function")]
        #visibility mod #name {
            use super::*;

            #[doc = #description]
            #[track_caller]
            pub fn spawn(
                handle: &::poniard::Handle,
                #(#names: impl ::poniard::IntoArg<#taken>),*
            ) -> ::poniard::Task<<#output as ::poniard::TaskOutput>::Value> {
                handle.spawn(super::#name, (#(#names,)*))
            }
        }
    })
}
