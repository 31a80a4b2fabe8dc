//! The module loader: the runtime asks this import for modules while a script
//! starts, and never again. A component that has started answers it itself,
//! with a trap, so that a host need not know of it.

use anyhow::{Context as _, ensure};
use wasm_encoder::{
    CodeSection, ComponentInstanceSection, ComponentSectionId, Encode as _, ExportKind, ExportSection, Function,
    FunctionSection, MemorySection, MemoryType, Module, RawSection, TypeSection, ValType,
};
use wasmparser::{ComponentImportSectionReader, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::link::part;

pub(super) const LOADER_INTERFACE: &str = "local:init/module-loader";
/// The same functions at the top, so that an instance of the stub has the
/// shape of an instance of the interface.
const STUB_WIT: &str = "package local:init;
world stub {
    export resolve: func(referrer: string, specifier: string) -> result<string, string>;
    export load: func(path: string) -> result<string, string>;
}
";

/// The component with an instance of its own in place of the import. That
/// instance takes the import's place, so that no index after it changes.
pub(super) fn close(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut closed = wasm_encoder::Component::new();
    let mut depth = 0_usize;
    let mut is_closed = false;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.context("the started component cannot be read")?;
        match &payload {
            Payload::Version { .. } => {
                depth += 1;
                continue;
            }
            Payload::End(_) => {
                depth -= 1;
                continue;
            }
            // What lies inside of a nested module is copied with it.
            _ if depth > 1 => continue,
            Payload::ComponentSection { .. } => {
                anyhow::bail!("the started component has a component inside, which is not expected")
            }
            Payload::ComponentImportSection(section) => {
                is_closed |= close_import(&mut closed, section, component)?;
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            closed.section(&RawSection { id, data: part(component, range) });
        }
    }
    ensure!(is_closed, "the started component does not import {LOADER_INTERFACE}");
    Ok(closed.finish())
}

/// Copies the imports; says whether the loader was among them.
fn close_import(
    closed: &mut wasm_encoder::Component,
    section: &ComponentImportSectionReader<'_>,
    component: &[u8],
) -> anyhow::Result<bool> {
    let end = section.range().end;
    let imports = section.clone().into_iter_with_offsets();
    let imports = imports.map(|import| import.map(|(offset, import)| (offset, import.name.name == LOADER_INTERFACE)));
    let imports: Vec<(u64, bool)> = imports.collect::<Result<_, _>>()?;
    let Some(index) = imports.iter().position(|(_, is_loader)| *is_loader) else {
        copy_imports(closed, component, &imports, end);
        return Ok(false);
    };
    copy_imports(closed, component, &imports[..index], imports[index].0);
    closed.section(&RawSection { id: ComponentSectionId::Component.into(), data: &stub()? });
    let mut instance = ComponentInstanceSection::new();
    instance.instantiate(0, [] as [(&str, wasm_encoder::ComponentExportKind, u32); 0]);
    closed.section(&instance);
    copy_imports(closed, component, &imports[index + 1..], end);
    Ok(true)
}

/// Copies imports that begin at these offsets, the last of which ends at `end`.
fn copy_imports(closed: &mut wasm_encoder::Component, component: &[u8], imports: &[(u64, bool)], end: u64) {
    let Some((start, _)) = imports.first() else { return };
    let mut data = Vec::new();
    imports.len().encode(&mut data);
    data.extend_from_slice(part(component, *start..end));
    closed.section(&RawSection { id: ComponentSectionId::Import.into(), data: &data });
}

/// A component that offers the module loader and traps when it is asked.
fn stub() -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("stub.wit", STUB_WIT)?;
    let world = resolve.select_world(&[package], Some("stub"))?;
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0).function(1).function(0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 0, maximum: Some(0), memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("resolve", ExportKind::Func, 0);
    exports.export("load", ExportKind::Func, 1);
    exports.export("cabi_realloc", ExportKind::Func, 2);
    exports.export("memory", ExportKind::Memory, 0);
    let mut code = CodeSection::new();
    for _ in 0..3 {
        let mut trap = Function::new([]);
        trap.instructions().unreachable().end();
        code.function(&trap);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    let mut module = module.finish();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}
