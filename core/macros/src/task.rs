//! `#[task]`.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, FnArg, ItemFn, Lit, MetaNameValue, Pat, Result, ReturnType, Token, Type};

pub(crate) fn expand(arguments: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let options = Parser::parse2(options, arguments)?;
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
                let element = &reference.elem;
                quote!(<&'static mut #element as ::poniard::Param>::Of)
            }
            // What `Param` stores for it, written out, so that messages about a wrong argument name the user's own types.
            Type::Reference(reference) => match &*reference.elem {
                Type::Slice(slice) => {
                    let element = &slice.elem;
                    quote!(::std::vec::Vec<#element>)
                }
                Type::Path(path) if path.path.is_ident("str") => quote!(::std::string::String),
                other => quote!(#other),
            },
            other => {
                let other = with_static_lifetimes(quote!(#other));
                quote!(<#other as ::poniard::Param>::Of)
            }
        });
    }
    let output = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    let arguments = quote!((#(#names,)*));
    let spawned = match options {
        None => quote!(handle.spawn(super::#name, #arguments)),
        Some(options) => quote! {
            static OPTIONS: ::std::sync::LazyLock<::poniard::TaskOptions> = ::std::sync::LazyLock::new(|| #options);
            handle.task(super::#name, #arguments).defaults(&OPTIONS).spawn()
        },
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
                #spawned
            }
        }
    })
}

/// What the attribute says, as an expression that makes `TaskOptions`; nothing when it says nothing.
fn options(input: ParseStream<'_>) -> Result<Option<TokenStream>> {
    let settings = Punctuated::<MetaNameValue, Token![,]>::parse_terminated(input)?;
    let mut options = quote!(::poniard::TaskOptions::new());
    let mut known: Vec<String> = Vec::new();
    for setting in &settings {
        let key = setting.path.get_ident().map(ToString::to_string).unwrap_or_default();
        if known.contains(&key) {
            return Err(syn::Error::new_spanned(&setting.path, format!("`{key}` is said twice")));
        }
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &setting.value else {
            return Err(syn::Error::new_spanned(&setting.value, "expected text in quotes, as in `priority = \"high\"`"));
        };
        options = match key.as_str() {
            "name" => quote!(#options.name(#text)),
            "priority" => {
                let level = match text.value().as_str() {
                    "low" => quote!(Low),
                    "normal" => quote!(Normal),
                    "high" => quote!(High),
                    _ => return Err(syn::Error::new_spanned(text, "a priority is `low`, `normal` or `high`")),
                };
                quote!(#options.priority(::poniard::Priority::#level))
            }
            _ => return Err(syn::Error::new_spanned(&setting.path, "`#[task]` knows `name` and `priority`")),
        };
        known.push(key);
    }
    Ok((!settings.is_empty()).then_some(options))
}

/// Replaces `'_`, which means nothing in the type of an argument's trait, by a lifetime that does; what is stored does not depend on it.
fn with_static_lifetimes(tokens: TokenStream) -> TokenStream {
    let mut after_quote = false;
    tokens
        .into_iter()
        .map(|token| {
            let is_quote = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '\'');
            let was_quote = std::mem::replace(&mut after_quote, is_quote);
            match token {
                TokenTree::Ident(name) if was_quote && name == "_" => TokenTree::Ident(Ident::new("static", Span::call_site())),
                TokenTree::Group(group) => TokenTree::Group(Group::new(group.delimiter(), with_static_lifetimes(group.stream()))),
                other => other,
            }
        })
        .collect()
}
