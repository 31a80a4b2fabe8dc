//! `#[derive(Event)]`: reads the attributes and implements the trait.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, Field, LitStr, Member, Result, spanned::Spanned};

/// Implements `courier_sdk::Event` for a struct.
pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(
            input.ident.span(),
            "`Event` can be derived for a struct only: give each type of message a struct of its own",
        ));
    };
    let name = &input.ident;
    let (topic, type_) = attribute(input)?;
    let type_ = type_.unwrap_or_else(|| LitStr::new(&name.to_string(), name.span()));
    let key = match primary_key(data.fields.iter())? {
        Some(member) => quote!(::courier_sdk::Key::key(&self.#member)),
        None => quote!(::core::option::Option::None),
    };
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::courier_sdk::Event for #name #arguments #conditions {
            const TOPIC: &'static str = #topic;
            const TYPE: &'static str = #type_;
            fn key(&self) -> ::core::option::Option<::std::vec::Vec<u8>> {
                #key
            }
        }
    })
}

/// Reads `#[event(topic = "..", type = "..")]`; the topic is required.
fn attribute(input: &DeriveInput) -> Result<(LitStr, Option<LitStr>)> {
    let mut topic = None;
    let mut type_ = None;
    for attribute in &input.attrs {
        if attribute.path().is_ident("primary_key") {
            return Err(Error::new(attribute.span(), "`#[primary_key]` belongs on the field whose value is the key"));
        }
        if !attribute.path().is_ident("event") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            let slot = if meta.path.is_ident("topic") {
                &mut topic
            } else if meta.path.is_ident("type") {
                &mut type_
            } else {
                return Err(meta.error(format!(
                    "unknown key `{}`: `#[event(..)]` takes `topic` and `type`",
                    meta.path.to_token_stream()
                )));
            };
            if slot.is_some() {
                return Err(meta.error("this key is given twice"));
            }
            let text: LitStr = meta.value()?.parse()?;
            if text.value().is_empty() {
                return Err(Error::new(text.span(), "this must not be empty"));
            }
            *slot = Some(text);
            Ok(())
        })?;
    }
    let topic = topic.ok_or_else(|| {
        Error::new(
            input.ident.span(),
            format!("`{}` names no topic: add `#[event(topic = \"..\")]` above the struct", input.ident),
        )
    })?;
    Ok((topic, type_))
}

/// Finds the one field that carries `#[primary_key]`, if any does.
fn primary_key<'a>(fields: impl Iterator<Item = &'a Field>) -> Result<Option<Member>> {
    let mut found: Option<Member> = None;
    for (index, field) in fields.enumerate() {
        for attribute in &field.attrs {
            if !attribute.path().is_ident("primary_key") {
                continue;
            }
            attribute.meta.require_path_only()?;
            if found.is_some() {
                return Err(Error::new(
                    attribute.span(),
                    "an event has one primary key: join the fields in a type that implements `courier_sdk::Key`",
                ));
            }
            found = Some(match &field.ident {
                Some(name) => Member::Named(name.clone()),
                None => Member::Unnamed(index.into()),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(source: &str) -> String {
        derive(&syn::parse_str(source).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn says_what_is_wrong() {
        for (source, expected) in [
            ("struct A { id: String }", "`A` names no topic"),
            ("#[event(topic = \"a\")] enum A { B }", "can be derived for a struct only"),
            ("#[event(topic = \"a\", topic = \"b\")] struct A;", "given twice"),
            ("#[event(topic = \"\")] struct A;", "must not be empty"),
            ("#[event(topic = \"a\", kind = \"b\")] struct A;", "unknown key `kind`"),
            ("#[event(topic = \"a\")] struct A { #[primary_key] a: u8, #[primary_key] b: u8 }", "one primary key"),
            ("#[event(topic = \"a\")] #[primary_key] struct A { a: u8 }", "belongs on the field"),
        ] {
            let problem = problem(source);
            assert!(problem.contains(expected), "{source}: {problem}");
        }
    }

    #[test]
    fn a_tuple_struct_may_have_a_key() {
        let input = syn::parse_str("#[event(topic = \"a\")] struct A(u8, #[primary_key] String);").unwrap();
        let code = derive(&input).unwrap().to_string();
        assert!(code.contains("self . 1"), "{code}");
    }
}
