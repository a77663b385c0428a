//! `#[derive(Data)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, GenericParam, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let text = name.to_string();
    // A module's path does not tell two functions apart, each of which may declare a type of this name; where it stands does. A macro's
    // declaration stands where it is written and where the macro is called.
    let start = name.span().unwrap().start();
    let place = format!(":{}:{}", start.line(), start.column());
    let mut generics = input.generics.clone();
    let mut folded = TokenStream::new();
    for parameter in &mut generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                parameter.bounds.push(syn::parse_quote!(::poniard::Data));
                let ident = &parameter.ident;
                folded.extend(quote!(.with_parameter(<#ident as ::poniard::Data>::KEY)));
            }
            GenericParam::Const(parameter) => {
                let ident = &parameter.ident;
                // Constants have no key of their own. What may be one converts without loss: numbers, `bool`, `char`.
                folded.extend(quote!(.with_constant(#ident as u128)));
            }
            GenericParam::Lifetime(parameter) => {
                return Err(syn::Error::new_spanned(parameter, "a task's data owns what it holds: `Data` has no lifetimes"));
            }
        }
    }
    // Only of a type without parameters is it known here whether serde can write it.
    let wire = if is_local(input)? || !input.generics.params.is_empty() {
        quote!(::core::option::Option::None)
    } else {
        quote! {{
            #[allow(unused_imports, clippy::allow_attributes, reason = "only for types that serde cannot write")]
            use ::poniard::private::NoWire as _;
            ::poniard::private::Probe::<Self>::WIRE
        }}
    };
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let predicates = where_clause.map(|clause| &clause.predicates);
    Ok(quote! {
        // SAFETY: the key is made of the type's own path and place, the version of its crate and the keys of its parameters.
        #[automatically_derived]
        unsafe impl #impl_generics ::poniard::Data for #name #type_generics #where_clause {
            const KEY: ::poniard::TypeKey = ::poniard::TypeKey::of::<Self>(
                ::core::concat!(::core::module_path!(), "::", #text, #place, ":", ::core::line!(), ":", ::core::column!(), "@", ::core::env!("CARGO_PKG_VERSION")),
                ::poniard::TypeKey::build_of(::core::env!("CARGO_PKG_VERSION")),
            ) #folded;
            const NAME: &'static str = #text;
            const WIRE: ::core::option::Option<::poniard::private::Wire<Self>> = #wire;
        }

        #[automatically_derived]
        impl #impl_generics ::poniard::Param for #name #type_generics
        where
            for<'always> #name #type_generics: ::core::clone::Clone,
            #predicates
        {
            type Of = Self;
            type Item<'a> = Self;
            const TAKES: bool = true;

            #[inline]
            fn get(slot: &mut ::poniard::private::Slot<Self>) -> Self {
                ::poniard::private::take(slot)
            }

            #[inline]
            fn get_kept(slot: &mut ::poniard::private::Slot<Self>) -> Self {
                ::poniard::private::copy(slot)
            }

            #[inline]
            fn read(place: <Self as ::poniard::private::Stored>::Place<'_>) -> Self::Item<'_> {
                ::poniard::private::take_place(place)
            }
        }
    })
}

/// Whether `#[data(local)]` says that values stay in their process.
fn is_local(input: &DeriveInput) -> Result<bool> {
    let mut local = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("data")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("local") {
                return Err(meta.error("`#[data(...)]` knows `local`: values of this type stay in the process that made them"));
            }
            local = true;
            Ok(())
        })?;
    }
    Ok(local)
}
