//! What is built of whole handlers. What the components do is shown by the
//! journeys in `tests/languages.rs`.

use std::path::Path;

use wasmparser::{ComponentExternalKind, Parser, Payload};

use super::*;

const HANDLER: &str = "import { handler } from 'courier-sdk';\n";

/// The bytes that an upload of a small handler may have.
const MAX_UPLOAD_BYTES: usize = 2 * 1024 * 1024;

fn built(files: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    build(&dir.path().join(files[0].0), "greeter")
}

/// The names that a component imports and exports, and its description.
fn described(component: &[u8]) -> (Vec<String>, Vec<String>, serde_json::Value) {
    let (mut imports, mut exports, mut about) = (Vec::new(), Vec::new(), serde_json::Value::Null);
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                let exported = section.into_iter().map(Result::unwrap);
                let functions = exported.filter(|export| export.kind == ComponentExternalKind::Func);
                exports.extend(functions.map(|export| export.name.name.to_owned()));
            }
            Payload::CustomSection(section) if section.name() == ABOUT_SECTION => {
                about = serde_json::from_slice(section.data()).unwrap();
            }
            _ => {}
        }
    }
    (imports, exports, about)
}

#[test]
fn a_handler_becomes_a_component_with_the_imports_that_it_uses() {
    let text = "export default handler({ group: 'tea', topics: ['order'] }, async (order: unknown, ctx: any) => { ctx.state.set('a', order); });";
    let component = built(&[("handler.ts", &format!("{HANDLER}{text}"))]).unwrap();
    assert!(component.len() <= MAX_UPLOAD_BYTES, "{} bytes", component.len());
    let (imports, exports, about) = described(&component);
    assert!(exports.iter().any(|name| name == "handle"), "{exports:?}");
    let ours: Vec<&str> = imports.iter().filter(|name| name.starts_with("courier:")).map(String::as_str).collect();
    for name in ["courier:plugin/log@2.0.0", "courier:plugin/state@2.0.0"] {
        assert!(ours.contains(&name), "{ours:?}");
    }
    assert!(!ours.iter().any(|name| name.contains("publish") || name.contains("javascript")), "{ours:?}");
    assert!(!imports.iter().any(|name| name.contains("module-loader") || name.contains("http")), "{imports:?}");
    assert_eq!(about["group"], "tea");
    assert_eq!(about["uses"], serde_json::json!(["state"]));
    assert_eq!(about["language"], "typescript");
    let validated = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&component);
    assert!(validated.is_ok(), "{:?}", validated.err());
}

#[test]
fn what_is_declared_goes_before_what_is_found() {
    let text = "export default handler({ uses: ['publish'] }, (_, ctx) => ctx.state);";
    let (imports, _, about) = described(&built(&[("handler.js", &format!("{HANDLER}{text}"))]).unwrap());
    assert!(imports.iter().any(|name| name.contains("publish")), "{imports:?}");
    assert!(!imports.iter().any(|name| name.contains("plugin/state")), "{imports:?}");
    assert_eq!(about["uses"], serde_json::json!(["publish"]));
}

#[test]
fn a_batch_handler_has_the_imports_and_the_export_of_its_world() {
    let text = "import { batchHandler } from 'courier-sdk';\n\
                export default batchHandler((items) => items.map(({ ctx }) => ctx.state.set('a', 1)));";
    let (imports, exports, about) = described(&built(&[("handler.js", text)]).unwrap());
    assert!(exports.iter().any(|name| name == "handle-batch"), "{exports:?}");
    assert!(imports.iter().any(|name| name == "courier:plugin/batch-state@2.0.0"), "{imports:?}");
    assert!(!imports.iter().any(|name| name == "courier:plugin/state@2.0.0"), "{imports:?}");
    assert_eq!(about["world"], "batch-handler");
    // What the sources look like is a guess: here nothing calls it.
    let text = "import { batchHandler, handler } from 'courier-sdk';\nexport default handler(() => {});";
    assert_eq!(described(&built(&[("handler.js", text)]).unwrap()).2["world"], "handler");
    let hidden = "import * as sdk from 'courier-sdk';\nexport default sdk['batch' + 'Handler'](() => []);";
    assert_eq!(described(&built(&[("handler.js", hidden)]).unwrap()).2["world"], "batch-handler");
}

#[test]
fn packages_are_started_with_the_handler() {
    let handler = format!(
        "{HANDLER}import add, {{ one }} from 'add';\nimport * as circle from 'add/circle.js';\n\
         if (add(one, 1) !== 2 || circle.later() !== 3) throw new Error('wrong');\n\
         await Promise.resolve();\nexport default handler({{}}, () => {{}});"
    );
    let files = [
        ("handler.js", handler.as_str()),
        (
            "node_modules/add/index.js",
            "const c = require('./circle');\nmodule.exports = (a, b) => a + b;\nmodule.exports.one = c.one();",
        ),
        (
            "node_modules/add/circle.js",
            "exports.add = require('./index');\nexports.one = () => 1;\nexports[['la', 'ter'].join('')] = () => 3;",
        ),
    ];
    built(&files).unwrap();
}

#[test]
fn what_goes_wrong_while_the_module_loads_is_told_with_its_place() {
    for (text, expected) in [
        ("\n\nthrow new Error('no tea');", "no tea"),
        ("export const a = 1;", "the module exports no handler"),
        ("fetch('https://example.com');\nexport default handler({}, () => {});", "cannot be loaded: wasi:http/types"),
        ("for (;;) {}\nexport default handler({}, () => {});", "it does not finish loading within 15 s"),
        ("export default handler({ uses: ['files'] }, () => {});", "\"files\"] is not known"),
        (
            "export default handler({ batch: true }, () => {});",
            "batch is no option: write `export default batchHandler(",
        ),
        ("import 'node:fs';", "handler.js:2:1: it imports \"node:fs\" of Node"),
    ] {
        let refusal = built(&[("handler.js", &format!("{HANDLER}{text}"))]).expect_err(text);
        let refusal = format!("{refusal:#}");
        assert!(refusal.contains(expected), "{refusal}");
        if expected == "no tea" {
            assert!(refusal.contains("handler.js:4:"), "{refusal}");
        }
    }
    assert!(build(Path::new("/nowhere/handler.ts"), "x").is_err());
}

#[test]
fn the_runtime_is_the_one_that_its_page_names() {
    let page = include_str!("../runtime/README.md");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(include_bytes!("../runtime/quickjs.wasm"));
    assert!(page.contains(&format!("{digest:x}")), "{digest:x}");
}
