//! Inspects an upload without compiling it: whether it is a component, exports a
//! handler, and imports only what is offered here. The refusal is one sentence
//! that a developer understands. Further exports are allowed.

use serde_json::Value;
use sha2::{Digest, Sha256};
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Parser, Payload, TypeBounds};

use super::fault::size;
use super::imports;
use super::limits::{MAX_NESTING, MAX_UPLOAD_BYTES, MAX_WANTS_BYTES};
use super::proposals;

/// The custom section in which a handler declares its topics, group and types,
/// as JSON.
const WANTS_SECTION: &str = "courier:handler";

/// The world of the contract that a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// It exports `handle`: one message at a time.
    Handler,
    /// It exports `handle-batch`: several messages at a time.
    BatchHandler,
}

/// The result of an inspection.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The size of the component in bytes.
    pub size: usize,
    /// The world it exports. One that exports both handlers is a batch handler.
    pub world: World,
    /// The names of its imports, sorted.
    pub imports: Vec<String>,
    /// The names of its exports, sorted.
    pub exports: Vec<String>,
    /// The handler's declaration: topics, group, types.
    pub wants: Option<Value>,
}

/// Why an upload is refused, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RefusedUpload(pub(super) String);

/// Inspects a component. A large one takes some milliseconds of CPU time, so an
/// async caller runs this on a blocking thread.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, RefusedUpload> {
    check_form(wasm)?;
    proposals::validate(wasm).map_err(RefusedUpload)?;
    let found = scan(wasm).map_err(|error| RefusedUpload(format!("not a valid WebAssembly component: {error}")))?;

    let exported = |name| found.functions.iter().any(|function| function == name);
    let world = match (exported("handle-batch"), exported("handle")) {
        (true, _) => World::BatchHandler,
        (false, true) => World::Handler,
        (false, false) => {
            let exports = if found.exports.is_empty() { "nothing".into() } else { quoted(&found.exports) };
            return Err(RefusedUpload(format!(
                "it exports neither `handle` nor `handle-batch`, so it is no handler: build it for a world of courier:plugin (it exports {exports})"
            )));
        }
    };
    if let Some(import) = found.imports.iter().find(|import| !offered(import)) {
        return Err(RefusedUpload(format!(
            "it imports `{import}`, which no host offers; offered are the interfaces of courier:plugin {} and of WASI {}x ({})",
            imports::VERSIONS.map(|version| format!("{version}x")).join(" and "),
            imports::wasi::VERSIONS,
            imports::wasi::INTERFACES.map(|(package, _)| package).join(", "),
        )));
    }
    let wants = match found.wants {
        None => None,
        Some(section) => Some(parse_wants(section)?),
    };
    Ok(Inspection {
        digest: digest(wasm),
        size: wasm.len(),
        world,
        imports: found.imports,
        exports: found.exports,
        wants,
    })
}

/// `sha256:` and the digest of these bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn check_form(wasm: &[u8]) -> Result<(), RefusedUpload> {
    if wasm.len() > MAX_UPLOAD_BYTES {
        let mib = wasm.len().div_ceil(1024 * 1024);
        return Err(RefusedUpload(format!("{mib}MiB is over the limit of {}", size(MAX_UPLOAD_BYTES as u64))));
    }
    if wasm.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(wasm).is_some() {
        return Err(RefusedUpload(
            "this is a precompiled artefact, which could hold any machine code: upload the component itself".into(),
        ));
    }
    if Parser::is_component(wasm) {
        return check_nesting(wasm);
    }
    if Parser::is_core_wasm(wasm) {
        return Err(RefusedUpload(
            "this is a core module, not a component: build it for wasm32-wasip2, or make a component of it with \
             `wasm-tools component new`"
                .into(),
        ));
    }
    let what = if wasm.is_empty() { "it is empty" } else { "it does not begin with a component's header" };
    Err(RefusedUpload(format!("not WebAssembly: {what}")))
}

/// Refuses components within components deeper than any tool makes them. The time to
/// validate them grows with the square of their depth: 12,000 empty ones, in 142 KB, took
/// two seconds.
fn check_nesting(wasm: &[u8]) -> Result<(), RefusedUpload> {
    let mut depth = 0_u32;
    // What cannot be read is told by the validation.
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(RefusedUpload(format!(
                "it has components within components, more than {MAX_NESTING} deep: build it with fewer layers"
            )));
        }
    }
    Ok(())
}

/// The parts of a component that the inspection reads.
#[derive(Default)]
struct ComponentParts<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    functions: Vec<String>,
    wants: Option<&'a [u8]>,
}

fn scan(wasm: &[u8]) -> Result<ComponentParts<'_>, wasmparser::BinaryReaderError> {
    let mut found = ComponentParts::default();
    // Nested modules and components come in the same stream, each with its own
    // end.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import?;
                    // Types that a world `use`s are among its imports too, but a name for a type
                    // needs nothing from the host.
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        found.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export?;
                    found.exports.push(export.name.name.to_owned());
                    if export.kind == ComponentExternalKind::Func {
                        found.functions.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::CustomSection(section) if section.name() == WANTS_SECTION => {
                found.wants.get_or_insert(section.data());
            }
            _ => {}
        }
    }
    found.imports.sort();
    found.exports.sort();
    Ok(found)
}

fn parse_wants(section: &[u8]) -> Result<Value, RefusedUpload> {
    if section.len() > MAX_WANTS_BYTES {
        let limit = size(MAX_WANTS_BYTES as u64);
        return Err(RefusedUpload(format!("its section `{WANTS_SECTION}` is over the limit of {limit}")));
    }
    serde_json::from_slice(section)
        .map_err(|error| RefusedUpload(format!("its section `{WANTS_SECTION}` is not valid JSON: {error}")))
}

/// Whether an import, as `package:name/interface@version`, is offered.
fn offered(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    if package == imports::PACKAGE {
        return imports::VERSIONS.iter().any(|known| version.starts_with(known))
            && imports::INTERFACES.contains(&interface);
    }
    version.starts_with(imports::wasi::VERSIONS)
        && imports::wasi::INTERFACES
            .iter()
            .any(|(name, interfaces)| *name == package && interfaces.contains(&interface))
}

fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(wasm: &[u8]) -> String {
        inspect(wasm).expect_err("it should be refused").to_string()
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("the text is WebAssembly")
    }

    #[track_caller]
    fn check(wasm: &[u8], expected: &str) {
        let text = refusal(wasm);
        assert!(text.contains(expected), "{text}");
    }

    /// A component whose `handle` takes nothing, which is enough for an inspection.
    fn handler(more: &str) -> Vec<u8> {
        wat(&format!(
            r#"(component {more}
                (core module $m (func (export "handle")))
                (core instance $i (instantiate $m))
                (func (export "handle") (canon lift (core func $i "handle"))))"#
        ))
    }

    #[test]
    fn components_within_components_are_bounded() {
        // Each is a header and one section that holds the next.
        let nested = |depth: usize| {
            let header = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
            let mut inner = header.to_vec();
            for _ in 0..depth {
                let mut outer = header.to_vec();
                outer.push(4);
                let mut size = inner.len();
                while size >= 0x80 {
                    outer.push((size & 0x7f) as u8 | 0x80);
                    size >>= 7;
                }
                outer.push(size as u8);
                outer.append(&mut inner);
                inner = outer;
            }
            inner
        };
        let told = inspect(&nested(1_000)).unwrap_err().to_string();
        assert!(told.contains("more than 100 deep"), "{told}");
        let told = inspect(&nested(50)).unwrap_err().to_string();
        assert!(told.contains("it is no handler"), "{told}");
    }

    #[test]
    fn what_is_no_component_is_refused_by_name() {
        check(b"", "not WebAssembly: it is empty");
        check(b"hello, world", "not WebAssembly");
        check(&wat("(module)"), "this is a core module, not a component: build it for wasm32-wasip2");
        check(b"\x7fELF\x02\x01\x01", "precompiled");
        check(&vec![0; MAX_UPLOAD_BYTES + 1], "41MiB is over the limit of 40MiB");
        let whole = handler("");
        check(&whole[..whole.len() - 3], "not a valid WebAssembly component");
        let mut broken = whole.clone();
        broken[20] ^= 0x5a;
        refusal(&broken);
    }

    #[test]
    fn another_world_is_refused() {
        check(&wat("(component)"), "exports neither `handle` nor `handle-batch`");
        let other = r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#;
        check(&wat(other), "it exports `run`");
        // An instance of that name is not a function.
        check(&wat(r#"(component (instance $i) (export "handle" (instance $i)))"#), "neither");
    }

    #[test]
    fn an_import_that_nobody_offers_is_named() {
        for import in [
            "alien:thing/api",
            "alien:thing/api@1.0.0",
            "courier:plugin/publish@3.0.0",
            "courier:plugin/publish@10.0.0",
            "courier:plugin/launch@1.0.0",
            "wasi:http/incoming-handler@0.2.0",
            "wasi:cli/run@0.2.0",
        ] {
            check(
                &handler(&format!(r#"(import "{import}" (instance))"#)),
                &format!("it imports `{import}`, which no host offers"),
            );
        }
    }

    #[test]
    fn a_handler_is_described() {
        let wasm = handler(
            r#"(import "wasi:cli/environment@0.2.6" (instance))
               (import "courier:plugin/log@1.4.0" (instance))
               (core module (@custom "courier:handler" "{\"topics\":[\"order\"]}"))"#,
        );
        let inspection = inspect(&wasm).unwrap();
        assert_eq!(inspection.world, World::Handler);
        assert_eq!(inspection.imports, ["courier:plugin/log@1.4.0", "wasi:cli/environment@0.2.6"]);
        assert_eq!(inspection.exports, ["handle"]);
        assert_eq!(inspection.size, wasm.len());
        assert_eq!(inspection.digest.len(), "sha256:".len() + 64);
        assert_eq!(inspection.wants.unwrap()["topics"][0], "order");
    }

    #[test]
    fn wants_that_are_not_json_are_refused() {
        check(
            &handler(r#"(core module (@custom "courier:handler" "{nonsense"))"#),
            "`courier:handler` is not valid JSON",
        );
    }
}
