//! `#[derive(Data)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Fields, GenericParam, Member, Path, Result, Type};

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
    let wire = wire(input)?;
    let bytes = by_parts(input).map(|Parts { bytes, .. }| {
        quote! {
            #[allow(unused_imports, unused_variables, unreachable_code, clippy::allow_attributes, reason = "types without parts")]
            const BYTES: fn(&Self) -> u64 = {
                use ::poniard::private::NoWire as _;
                #bytes
            };
        }
    });
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
            #[allow(
                unused_imports, unused_variables, unreachable_code, clippy::allow_attributes, reason = "types without parts, and those that the compiler knows less of"
            )]
            const WIRE: ::core::option::Option<::poniard::private::Wire<Self>> = #wire;
            #bytes
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

/// The expression that says how values travel.
///
/// Part by part, if all of them are `Data` and nothing is done when a value is dropped; else as serde writes them, if it can. Both are found out by the compiler, since a
/// macro sees the names of types and nothing else. Attributes for serde say how values are to be written, so they count.
fn wire(input: &DeriveInput) -> Result<TokenStream> {
    let said = said(input)?;
    if said == Said::Local {
        return Ok(quote!(::core::option::Option::None));
    }
    // Of a type with parameters the compiler does not know it: serde's traits are no bounds of theirs.
    let serde = match input.generics.params.is_empty() {
        true => quote!(::poniard::private::Probe::<Self>::SERDE),
        false => quote!(::core::option::Option::None),
    };
    let wire = match by_parts(input).filter(|_| said == Said::Nothing) {
        Some(Parts { types, wire, .. }) => quote! {
            if true #(&& ::poniard::private::Probe::<#types>::IS_DATA)* && !::poniard::private::Probe::<Self>::HAS_DROP {
                #wire
            } else {
                #serde
            }
        },
        None => serde,
    };
    Ok(quote! {{
        use ::poniard::private::NoWire as _;
        #wire
    }})
}

/// How a type travels part by part, and how many bytes those have.
struct Parts {
    types: Vec<Type>,
    /// An expression.
    wire: TokenStream,
    /// The same.
    bytes: TokenStream,
}

fn by_parts(input: &DeriveInput) -> Option<Parts> {
    let has = |attributes: &[Attribute], name: &str| attributes.iter().any(|attribute| attribute.path().is_ident(name));
    // References to the fields of a packed structure cannot be made.
    let is_packed = input.attrs.iter().any(|attribute| {
        let mut packed = false;
        // What `repr` says is checked by the compiler.
        let _ = attribute.parse_nested_meta(|meta| {
            packed |= meta.path.is_ident("packed");
            Ok(())
        });
        attribute.path().is_ident("repr") && packed
    });
    let cases: Vec<(Path, &Fields)> = match &input.data {
        Data::Struct(data) => vec![(syn::parse_quote!(Self), &data.fields)],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                (syn::parse_quote!(Self::#name), &variant.fields)
            })
            .collect(),
        Data::Union(_) => return None,
    };
    let for_serde = has(&input.attrs, "serde")
        || matches!(&input.data, Data::Enum(data) if data.variants.iter().any(|variant| has(&variant.attrs, "serde")))
        || cases.iter().any(|(_, fields)| fields.iter().any(|field| has(&field.attrs, "serde")));
    if is_packed || for_serde {
        return None;
    }
    let text = input.ident.to_string();
    let (mut types, mut writes, mut reads, mut sums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, (path, fields)) in (0u32..).zip(&cases) {
        let members: Vec<Member> = fields.members().collect();
        let names: Vec<_> = (0..members.len()).map(|number| format_ident!("part_{number}")).collect();
        let of_case: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
        let variant = matches!(input.data, Data::Enum(_)).then(|| quote!(writer.put_variant(#index);));
        writes.push(quote! {
            #path { #(#members: ref #names),* } => {
                #variant
                #(::poniard::private::Probe::<#of_case>::put(#names, writer)?;)*
            }
        });
        sums.push(quote! {
            #path { #(#members: ref #names),* } => 0u64 #(.saturating_add(::poniard::private::Probe::<#of_case>::len_bytes(#names)))*,
        });
        let read = quote!(#path { #(#members: ::poniard::private::Probe::<#of_case>::take(reader)?),* });
        reads.push(match input.data {
            Data::Enum(_) => quote!(#index => #read),
            _ => read,
        });
        types.extend(of_case.into_iter().cloned());
    }
    let read = match input.data {
        Data::Enum(_) => quote! {
            match reader.take_variant()? {
                #(#reads,)*
                other => return ::core::result::Result::Err(::poniard::private::WireError::no_variant(other, #text)),
            }
        },
        _ => quote!(#(#reads)*),
    };
    let wire = quote! {
        ::core::option::Option::Some(::poniard::private::Wire::of_parts(
            |value: &Self, writer: &mut ::poniard::private::Writer<'_>| {
                match *value {
                    #(#writes)*
                }
                ::core::result::Result::Ok(())
            },
            |reader: &mut ::poniard::private::Reader<'_>| ::core::result::Result::Ok(#read),
            |parts: &mut ::poniard::private::Parts| parts.knows::<Self>() || (true #(&& ::poniard::private::Probe::<#types>::travels(parts))*),
        ))
    };
    let bytes = quote! {
        |value: &Self| match *value {
            #(#sums)*
        }
    };
    Some(Parts { types, wire, bytes })
}

/// What `#[data(...)]` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// Values stay in their process.
    Local,
    /// They travel as serde writes them.
    Serde,
}

fn said(input: &DeriveInput) -> Result<Said> {
    let mut said = Said::Nothing;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("data")) {
        attribute.parse_nested_meta(|meta| {
            said = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                Some("local") => Said::Local,
                Some("serde") => Said::Serde,
                _ => {
                    let known = "`#[data(...)]` knows `local`: values of this type stay in the process that made them; and `serde`: they travel as serde writes them";
                    return Err(meta.error(known));
                }
            };
            Ok(())
        })?;
    }
    Ok(said)
}
