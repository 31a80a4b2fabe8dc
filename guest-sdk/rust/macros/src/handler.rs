//! `#[handler]` and `#[batch_handler]`: keep the function as it is, and add the
//! export of the component and its description.
//!
//! Only the export is conditional on WebAssembly. Natively the same glue is
//! compiled and not called, so that a mistake shows in `cargo test` and not only
//! when the component is built.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Error, Expr, ExprArray, ExprLit, FnArg, ItemFn, Lit, LitStr, Result, ReturnType, parse::Parser as _,
    spanned::Spanned,
};

/// The world of the contract that a function is exported for.
#[derive(Clone, Copy, PartialEq)]
pub enum World {
    /// `handler`: one message at a time.
    Single,
    /// `batch-handler`: several messages at a time.
    Batch,
}

/// The arguments of the attribute.
#[derive(Default)]
struct Arguments {
    group: Option<LitStr>,
    topics: Option<Vec<LitStr>>,
    types: Option<Vec<LitStr>>,
    publishes: Option<Vec<LitStr>>,
}

/// Expands the attribute on `item`.
pub fn expand(world: World, arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn =
        syn::parse2(item).map_err(|problem| Error::new(problem.span(), "a handler is a plain function"))?;
    let arguments = Arguments::parse(arguments)?;
    check(world, &function)?;

    let group = arguments.group.ok_or_else(|| {
        Error::new(
            function.sig.ident.span(),
            "a handler belongs to a consumer group: write `#[handler(group = \"..\")]`",
        )
    })?;
    let name = &function.sig.ident;
    let input = input_type(&function)?;
    let (trait_, world_name, invoke, export) = match world {
        World::Single => (
            quote!(::courier_sdk::Input),
            "handler",
            invoke_single(&function),
            quote! {
                struct Export;
                impl ::courier_sdk::wire::single::Guest for Export {
                    fn handle(
                        message: ::courier_sdk::wire::Message,
                        attempt: ::courier_sdk::wire::Attempt,
                    ) -> ::core::result::Result<(), ::courier_sdk::wire::Failure> {
                        ::courier_sdk::wire::handle(message, attempt, invoke)
                    }
                }
                ::courier_sdk::wire::single::export_handler!(
                    Export with_types_in ::courier_sdk::wire::single
                );
            },
        ),
        World::Batch => (
            quote!(::courier_sdk::run::Items),
            "batch-handler",
            quote! {
                fn invoke(
                    contexts: ::std::vec::Vec<::courier_sdk::Context>,
                ) -> ::std::vec::Vec<::core::result::Result<(), ::courier_sdk::Failure>> {
                    ::courier_sdk::run::batch(contexts, #name)
                }
            },
            quote! {
                struct Export;
                impl ::courier_sdk::wire::batch::Guest for Export {
                    fn handle_batch(
                        items: ::std::vec::Vec<::courier_sdk::wire::Delivery>,
                    ) -> ::std::vec::Vec<
                        ::core::result::Result<(), ::courier_sdk::wire::Failure>,
                    > {
                        ::courier_sdk::wire::handle_batch(items, invoke)
                    }
                }
                ::courier_sdk::wire::batch::export_batch_handler!(
                    Export with_types_in ::courier_sdk::wire::batch
                );
            },
        ),
    };
    let topics = list(arguments.topics, quote!(<#input as #trait_>::TOPICS));
    let types = list(arguments.types, quote!(<#input as #trait_>::TYPES));
    let publishes = list(arguments.publishes, quote!(&[]));

    Ok(quote! {
        #function

        // A second handler in the same module fails to compile by this name,
        // which says more than the linker would.
        #[doc(hidden)]
        #[allow(dead_code)]
        struct AComponentHasOneHandler;

        const _: () = {
            #invoke

            const ABOUT: ::courier_sdk::about::About<'static> = ::courier_sdk::about::About {
                name: ::core::env!("CARGO_PKG_NAME"),
                world: #world_name,
                group: #group,
                topics: #topics,
                types: #types,
                publishes: #publishes,
            };
            const LENGTH: usize = ABOUT.length();
            #[cfg_attr(target_arch = "wasm32", used)]
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "courier:handler"))]
            #[allow(dead_code)]
            static SECTION: [u8; LENGTH] = ABOUT.json();

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() = || {
                let _ = invoke;
            };
            #[cfg(target_arch = "wasm32")]
            const _: () = { #export };
        };
    })
}

/// The function that the export calls for one message.
///
/// A handler that needs only its event may leave the context out.
fn invoke_single(function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let call = match function.sig.inputs.len() {
        1 => quote!(|input, _| #name(input)),
        _ => quote!(#name),
    };
    quote! {
        fn invoke(
            context: &::courier_sdk::Context,
        ) -> ::core::result::Result<(), ::courier_sdk::Failure> {
            ::courier_sdk::run::one(context, #call)
        }
    }
}

/// Refuses a function that cannot be exported, in the words of its author.
fn check(world: World, function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new(
            keyword.span(),
            "a handler is not `async`: calls to the host return when they are done",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.span(),
            "a handler has no generic parameters: the component exports one function",
        ));
    }
    let (most, shape) = match world {
        World::Single => (
            2,
            "a handler is `fn(event: YourEvent, ctx: &Context) -> Result<(), Failure>`, \
             with or without `ctx`",
        ),
        World::Batch => (1, "a batch handler is `fn(items: Vec<Item<YourEvent>>) -> Vec<Result<(), Failure>>`"),
    };
    let count = signature.inputs.len();
    if count == 0 || count > most || signature.receiver().is_some() {
        return Err(Error::new(signature.ident.span(), shape));
    }
    if let ReturnType::Default = signature.output {
        return Err(Error::new(signature.ident.span(), shape));
    }
    Ok(())
}

/// The type of the first parameter, the handler's input.
fn input_type(function: &ItemFn) -> Result<TokenStream> {
    match function.sig.inputs.first() {
        Some(FnArg::Typed(first)) => match first.ty.as_ref() {
            syn::Type::Reference(reference) => {
                Err(Error::new(reference.span(), "a handler owns what it is sent: take the event by value"))
            }
            ty => Ok(ty.to_token_stream()),
        },
        _ => Err(Error::new(function.sig.span(), "a handler takes an event first")),
    }
}

/// The given texts as a slice, otherwise the input's own.
fn list(given: Option<Vec<LitStr>>, otherwise: TokenStream) -> TokenStream {
    match given {
        Some(texts) => quote!(&[#(#texts),*]),
        None => otherwise,
    }
}

impl Arguments {
    fn parse(tokens: TokenStream) -> Result<Self> {
        let mut arguments = Arguments::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("group") {
                let text: LitStr = meta.value()?.parse()?;
                if text.value().is_empty() {
                    return Err(Error::new(text.span(), "a group has a name"));
                }
                return once(&mut arguments.group, text, &meta);
            }
            let slot = if meta.path.is_ident("topics") {
                &mut arguments.topics
            } else if meta.path.is_ident("types") {
                &mut arguments.types
            } else if meta.path.is_ident("publishes") {
                &mut arguments.publishes
            } else {
                return Err(meta.error(format!(
                    "unknown key `{}`: a handler takes `group`, `topics`, `types` and `publishes`",
                    meta.path.to_token_stream()
                )));
            };
            let texts = texts(&meta.value()?.parse()?)?;
            once(slot, texts, &meta)
        });
        parser.parse2(tokens)?;
        Ok(arguments)
    }
}

/// Fills a slot that may be filled only once.
fn once<T>(slot: &mut Option<T>, value: T, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
    if slot.is_some() {
        return Err(meta.error("this key is given twice"));
    }
    *slot = Some(value);
    Ok(())
}

/// Reads `["a", "b"]`.
fn texts(array: &ExprArray) -> Result<Vec<LitStr>> {
    array
        .elems
        .iter()
        .map(|element| match element {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if !text.value().is_empty() => Ok(text.clone()),
            other => {
                Err(Error::new(other.span(), "this is a list of names in quotes, for example [\"order\", \"stock\"]"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(world: World, arguments: &str, function: &str) -> String {
        expand(world, arguments.parse().unwrap(), function.parse().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn says_what_is_wrong() {
        let good = "fn f(a: A, ctx: &Context) -> Result<(), Failure> { Ok(()) }";
        for (arguments, function, expected) in [
            ("", good, "belongs to a consumer group"),
            ("group = \"\"", good, "a group has a name"),
            ("grup = \"a\"", good, "unknown key `grup`"),
            ("group = \"a\", group = \"b\"", good, "given twice"),
            ("group = \"a\", topics = [1]", good, "list of names"),
            ("group = \"a\"", "struct A;", "plain function"),
            ("group = \"a\"", "async fn f(a: A) -> Result<(), Failure> { Ok(()) }", "not `async`"),
            ("group = \"a\"", "fn f<T>(a: T) -> Result<(), Failure> { Ok(()) }", "no generic"),
            ("group = \"a\"", "fn f() -> Result<(), Failure> { Ok(()) }", "a handler is"),
            ("group = \"a\"", "fn f(a: A) {}", "a handler is"),
            ("group = \"a\"", "fn f(a: &A) -> Result<(), Failure> { Ok(()) }", "by value"),
        ] {
            let problem = problem(World::Single, arguments, function);
            assert!(problem.contains(expected), "{arguments} {function}: {problem}");
        }
        let problem = problem(World::Batch, "group = \"a\"", good);
        assert!(problem.contains("a batch handler is"), "{problem}");
    }
}
