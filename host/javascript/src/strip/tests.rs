use super::*;

fn stripped(source: &str) -> String {
    let module = strip(source, Dialect::TypeScript).unwrap_or_else(|wrong| panic!("{source}: {wrong:?}"));
    let text = module.text;
    assert_eq!(text.lines().count(), source.lines().count(), "{text}");
    assert!(strip(&text, Dialect::JavaScript).is_ok(), "{text}");
    text
}

/// What is left when blanks say nothing.
#[track_caller]
fn check(source: &str, expected: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&stripped(source)), words(expected));
}

#[test]
fn types_become_blanks_and_all_else_stays_in_its_place() {
    let source = "const x: number = 1;\nfunction f<T>(a: T, b?: string): T { return a as T; }\n";
    let text = stripped(source);
    assert_eq!(text, "const x         = 1;\nfunction f   (a   , b         )    { return a     ; }\n");
}

#[test]
fn every_kind_of_type_is_taken_out() {
    for (source, expected) in [
        ("interface A { b: string }\nlet a = 1", "; let a = 1"),
        ("export type A = { b: string };\nexport const c = 1;", "; export const c = 1;"),
        ("declare const a: number;\nlet b!: string;", "; let b ;"),
        ("const f = async <T,>(a: T): Promise<T> => a;", "const f = async (a ) => a;"),
        ("foo<string>(a!, b satisfies C, <D>e);", "foo (a , b , e);"),
        (
            "abstract class A<T> extends B<T> implements C, D { private readonly a?: string = ''; declare b: string; abstract c(): void; d!: number; constructor(e: string) { super() } [key: string]: unknown; override get f(): string { return '' } }",
            "class A extends B { a = ''; ; ; d ; constructor(e ) { super() } ; get f() { return '' } }",
        ),
        ("function f(a: string): void;\nfunction f(a: any) {}", "; function f(a ) {}"),
        ("function f(this: Window, a: string) {}", "function f( a ) {}"),
        ("try {} catch (e: unknown) {}", "try {} catch (e ) {}"),
        ("for (const [k, v] of a as B) {}", "for (const [k, v] of a ) {}"),
        ("export { a, type B };\nlet a = 1;", "export { a, };\nlet a = 1;"),
        (
            "const a = { b(c: string): void {}, get d(): number { return 1 } };",
            "const a = { b(c ) {}, get d() { return 1 } };",
        ),
        ("type A = typeof import('x');", ";"),
        ("let a = b as string\n(c)", "let a = b; (c)"),
        ("let a\ntype B = 1\n(c)", "let a ; (c)"),
    ] {
        check(source, expected);
    }
}

#[test]
fn an_import_of_types_alone_is_left_out() {
    check("import { A, b } from 'x';\nb(1 as A);", "import { b } from 'x'; b(1 );");
    check("import type { A } from 'x';\nimport { type B } from 'y';\nlet a: A, b: B;", "; ; let a , b ;");
    check("import 'x';", "import 'x';");
    let module =
        strip("import { A } from 'a';\nimport { b } from 'b';\nexport * from 'c';\nb as A", Dialect::TypeScript)
            .unwrap();
    assert_eq!(module.imports.iter().map(|(name, _)| name.as_str()).collect::<HashSet<_>>(), HashSet::from(["b", "c"]));
}

#[test]
fn enums_and_parameter_properties_become_code_on_their_lines() {
    check(
        "export enum A { B, C = 5, D, 'e-f' = \"text\", // last,\n}\nA.B;",
        "export var A = ((A) => ([ A[A[\"B\"] = 0] = \"B\", A[A[\"C\"] = 5] = \"C\", A[A[\"D\"] = 6] = \"D\", \
         A[\"e-f\"] = \"text\", // last, ], A))(A ?? {}); A.B;",
    );
    check(
        "const enum A { B = 1 << 2, C = B | x }",
        "var A = ((A) => ([ typeof (A[\"B\"] = (1 << 2)) === \"string\" || (A[A[\"B\"]] = \"B\"), \
         typeof (A[\"C\"] = (A.B | x)) === \"string\" || (A[A[\"C\"]] = \"C\") ], A))(A ?? {});",
    );
    check(
        "class A extends B { constructor(private readonly a: string, public b = 1, c?: C) { super(a)\nd() } }",
        "class A extends B { constructor( a , b = 1, c ) { super(a); this.a = a; this.b = b; d() } }",
    );
    check("process.env.NODE_ENV !== 'test'", "\"production\" !== 'test'");
    check("process.env.NODE_ENV = 'test'", "process.env.NODE_ENV = 'test'");
    check("class A { constructor(readonly a: string) {} }", "class A { constructor( a ) {; this.a = a;} }");
    check("const f = (a: A): {\n b: C\n} => a;", "const f = (a ) => a;");
}

#[test]
fn what_becomes_code_is_refused_with_its_place() {
    for (source, place, words) in [
        ("enum A { B = 'b', C }", 18, "needs a value"),
        ("namespace A { export const b = 1 }", 0, "use a module"),
        ("class A { @b c() {} }", 10, "call the function"),
        ("import a = require('a')", 0, "export default"),
        ("const a = await import('./b.js')", 16, "at the top"),
        ("const a = ;", 10, ""),
    ] {
        let wrong = strip(source, Dialect::TypeScript).expect_err(source);
        assert_eq!(wrong.offset, place, "{source}: {wrong:?}");
        assert!(wrong.why.contains(words), "{source}: {wrong:?}");
    }
}

#[test]
fn commonjs_is_recognised_with_what_it_takes_and_gives() {
    let commonjs = |source| strip(source, Dialect::JavaScript).unwrap().commonjs;
    assert!(commonjs("export const a = 1").is_none());
    assert!(commonjs("globalThis.a = 1").is_none());
    let found = commonjs(
        "const a = require('a');\ntry { require('b') } catch { require('c') }\nexports.d = 1;\nmodule.exports.e = 2;\n\
         exports = module.exports = { f: 3, 'g': 4, ...a };\nObject.defineProperty(exports, 'h', { get() {} });",
    );
    let found = found.unwrap();
    let requires: Vec<_> = found.requires.iter().map(|require| (require.name.as_str(), require.may_fail)).collect();
    assert_eq!(requires, [("a", false), ("b", true), ("c", false)]);
    assert_eq!(found.exports.iter().map(String::as_str).collect::<Vec<_>>(), ["d", "e", "f", "g", "h"]);
}

#[test]
fn the_names_that_are_imported_are_known() {
    let module =
        strip("import d, { a as b, type T } from 'x';\nexport { c } from 'y';\nd(b)", Dialect::TypeScript).unwrap();
    let names: Vec<_> = module.names.iter().map(|(module, name)| (module.as_str(), name.as_str())).collect();
    assert_eq!(names, [("x", "a"), ("x", "T"), ("y", "c")]);
}
