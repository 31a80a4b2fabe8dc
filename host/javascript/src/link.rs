//! Links a component from its parts, before the script is in it: the QuickJS
//! runtime, the bindings for the imports that the handler uses, and the library
//! that runs pending promise jobs.
//!
//! The runtime is `componentize-qjs`'s build for hosts without asynchronous
//! components. A synchronous export of it never runs the jobs that promises
//! queue, so an `await` in a handler would not go on. Its entry for asynchronous
//! exports does run them, and needs nothing of the host when nothing is pending:
//! [`jobs_library`] gives scripts a function that calls that entry.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::Context as _;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{
    CodeSection, CustomSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    MemoryType, Module, RawSection, SectionId, TypeSection, ValType,
};
use wasmparser::{Parser, Payload, TypeRef};
use wit_component::{Linker, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::uses::Uses;
use super::world::World;

/// The runtime; `runtime/README.md` says where it comes from.
const QUICKJS: &[u8] = include_bytes!("../runtime/quickjs.wasm");

/// The contract, and the interfaces of WASI 0.2.12 that handlers may use.
const INTERFACES: [(&str, &str); 5] = [
    ("courier.wit", include_str!("../../../wit/v2/courier.wit")),
    ("io.wit", include_str!("../../../guest-sdk/rust/wit/deps/io.wit")),
    ("clocks.wit", include_str!("../../../guest-sdk/rust/wit/deps/clocks.wit")),
    ("http.wit", include_str!("../../../guest-sdk/rust/wit/deps/http.wit")),
    ("random.wit", RANDOM),
];

const RANDOM: &str = "package wasi:random@0.2.12;
interface random {
    get-random-bytes: func(len: u64) -> list<u8>;
    get-random-u64: func() -> u64;
}
";

/// The interface under which a script finds the jobs library. The component
/// does not import it: the linker resolves it.
const JOBS_INTERFACE: &str = "courier:javascript/jobs";
const JOBS_FUNCTION: &str = "courier_run_jobs";
/// The number of the handler's function among the exports that the runtime knows.
const HANDLE_INDEX: i32 = 0;

/// The component whose runtime has not read a script yet.
pub(super) fn link(uses: &Uses, world: World) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    for (name, text) in INTERFACES {
        resolve.push_str(name, text).with_context(|| format!("cannot read the interface {name}"))?;
    }
    let package = resolve.push_str("handler.wit", &worlds(uses, world)).context("cannot read the handler's world")?;
    let scripts_world = resolve.select_world(&[package], Some("script"))?;
    let components_world = resolve.select_world(&[package], Some("handler"))?;
    let mut bindings = resolve_jobs_import(&wit_dylib::create(&resolve, scripts_world, None))?;
    embed_component_metadata(&mut bindings, &resolve, components_world, StringEncoding::UTF8)?;

    let mut linker = Linker::default();
    linker.encoder().validate(true);
    linker.library("quickjs.wasm", QUICKJS, false)?;
    linker.library("bindings.wasm", &bindings, false)?;
    linker.library("jobs.wasm", &jobs_library(), false)?;
    linker.encoder().adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    linker.encode().context("cannot link the component")
}

/// The world that the script sees, and the one that the component has: the
/// first has the jobs library besides.
fn worlds(uses: &Uses, world: World) -> String {
    let (types, export) = world.export();
    let imports: String = uses.interfaces(world).map(|interface| format!("    import {interface};\n")).collect();
    let world = |name: &str, more: &str| {
        format!("world {name} {{\n    use courier:plugin/types@2.0.0.{{{types}}};\n{imports}{more}    {export}\n}}\n")
    };
    format!(
        "package courier:javascript;\ninterface jobs {{ run: func(); }}\n{}{}",
        world("script", "    import jobs;\n"),
        world("handler", "")
    )
}

/// The bindings with the import of [`JOBS_INTERFACE`] turned into one of the
/// jobs library.
fn resolve_jobs_import(bindings: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(bindings) {
        let payload = payload?;
        if let Payload::ImportSection(section) = &payload {
            let mut imports = ImportSection::new();
            for import in section.clone().into_imports() {
                let import = import?;
                let is_jobs = import.module == JOBS_INTERFACE;
                let (from, name) = if is_jobs { ("env", JOBS_FUNCTION) } else { (import.module, import.name) };
                imports.import(from, name, entity(import.ty)?);
            }
            module.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: part(bindings, range) });
        }
    }
    Ok(module.finish())
}

/// The bytes of a section, whose place the parser tells in 64 bits.
pub(super) fn part(binary: &[u8], range: Range<u64>) -> &[u8] {
    let at = |offset| usize::try_from(offset).expect("a binary in memory has offsets of its size");
    &binary[at(range.start)..at(range.end)]
}

/// What the bindings import: functions, and what the dynamic linker provides.
fn entity(import: TypeRef) -> anyhow::Result<EntityType> {
    Ok(match import {
        TypeRef::Func(index) => EntityType::Function(index),
        TypeRef::Global(global) => EntityType::Global(wasm_encoder::GlobalType {
            val_type: ValType::I32,
            mutable: global.mutable,
            shared: global.shared,
        }),
        TypeRef::Memory(memory) => EntityType::Memory(MemoryType {
            minimum: memory.initial,
            maximum: memory.maximum,
            memory64: memory.memory64,
            shared: memory.shared,
            page_size_log2: memory.page_size_log2,
        }),
        TypeRef::Table(table) => EntityType::Table(wasm_encoder::TableType {
            element_type: wasm_encoder::RefType::FUNCREF,
            table64: table.table64,
            minimum: table.initial,
            maximum: table.maximum,
            shared: table.shared,
        }),
        other => anyhow::bail!("the bindings import {other:?}, which is not expected"),
    })
}

/// A library with one function: it calls the runtime's entry for asynchronous
/// exports, which runs all pending promise jobs before it returns. The entry
/// calls the handler without arguments, which the SDK answers at once.
fn jobs_library() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32], [ValType::I32]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import("env", "wit_dylib_export_start", EntityType::Function(0));
    imports.import("env", "wit_dylib_export_async_call", EntityType::Function(1));
    let mut functions = FunctionSection::new();
    functions.function(2);
    let mut exports = ExportSection::new();
    exports.export(JOBS_FUNCTION, ExportKind::Func, 2);
    let mut run = Function::new([]);
    run.instructions().i32_const(HANDLE_INDEX).call(0).i32_const(HANDLE_INDEX).call(1).drop().end();
    let mut code = CodeSection::new();
    code.function(&run);
    // No data, no table entries: `WASM_DYLINK_MEM_INFO` of four zeros.
    let dynamic = CustomSection { name: "dylink.0".into(), data: Cow::Borrowed(&[1, 4, 0, 0, 0, 0]) };
    let mut module = Module::new();
    module.section(&dynamic).section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    module.finish()
}

/// The component with what it says about itself in a custom section.
pub(super) fn with_section(component: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let mut whole = component.to_vec();
    whole.push(SectionId::Custom as u8);
    let section = CustomSection { name: name.into(), data: data.into() };
    wasm_encoder::Encode::encode(&section, &mut whole);
    whole
}
