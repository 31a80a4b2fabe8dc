//! What each part of a module says: which of it is a type, and which modules it
//! wants.

use oxc_allocator::Vec as ArenaVec;
use oxc_ast::ast::*;
use oxc_ast_visit::{Visit, walk};
use oxc_span::GetSpan;
use oxc_syntax::scope::ScopeFlags;

use super::code::is_parameter_property;
use super::{Eraser, Import, Namespace, Require};

const NO_NAMESPACE: &str = "a namespace becomes code, which type stripping cannot write: use a module";
const NO_DECORATOR: &str = "decorators are not JavaScript yet: call the function yourself";
const NO_IMPORT_EQUALS: &str = "`import x = ..` and `export = ..` are not JavaScript: use import and export default";
const NODE_ENV: &str = "process.env.NODE_ENV";
const NO_DYNAMIC_IMPORT: &str =
    "import() loads a module while the handler runs, where there are no files: import it at the top";

impl<'a> Visit<'a> for Eraser<'_> {
    fn visit_ts_type_annotation(&mut self, it: &TSTypeAnnotation<'a>) {
        self.erase(it.span.start, it.span.end);
    }

    fn visit_ts_type_parameter_declaration(&mut self, it: &TSTypeParameterDeclaration<'a>) {
        self.erase(it.span.start, it.span.end);
    }

    fn visit_ts_type_parameter_instantiation(&mut self, it: &TSTypeParameterInstantiation<'a>) {
        self.erase(it.span.start, it.span.end);
    }

    fn visit_ts_this_parameter(&mut self, it: &TSThisParameter<'a>) {
        self.erase_item(it.span);
    }

    fn visit_ts_class_implements_list(&mut self, it: &ArenaVec<'a, TSClassImplements<'a>>) {
        if let (Some(first), Some(last)) = (it.first(), it.last()) {
            let word =
                self.source[..first.span.start as usize].rfind("implements").unwrap_or(first.span.start as usize);
            self.erase(u32::try_from(word).unwrap_or(first.span.start), last.span.end);
        }
    }

    fn visit_ts_as_expression(&mut self, it: &TSAsExpression<'a>) {
        self.visit_expression(&it.expression);
        self.erase(it.expression.span().end, it.span.end);
    }

    fn visit_ts_satisfies_expression(&mut self, it: &TSSatisfiesExpression<'a>) {
        self.visit_expression(&it.expression);
        self.erase(it.expression.span().end, it.span.end);
    }

    fn visit_ts_non_null_expression(&mut self, it: &TSNonNullExpression<'a>) {
        self.visit_expression(&it.expression);
        self.erase(it.expression.span().end, it.span.end);
    }

    fn visit_ts_type_assertion(&mut self, it: &TSTypeAssertion<'a>) {
        self.erase(it.span.start, it.expression.span().start);
        self.visit_expression(&it.expression);
    }

    fn visit_ts_interface_declaration(&mut self, it: &TSInterfaceDeclaration<'a>) {
        self.erase_whole(it.span);
    }

    fn visit_ts_type_alias_declaration(&mut self, it: &TSTypeAliasDeclaration<'a>) {
        self.erase_whole(it.span);
    }

    fn visit_ts_enum_declaration(&mut self, it: &TSEnumDeclaration<'a>) {
        match it.declare {
            true => self.erase_whole(it.span),
            false => self.write_enum(it),
        }
    }

    fn visit_ts_module_declaration(&mut self, it: &TSModuleDeclaration<'a>) {
        match it.declare {
            true => self.erase_whole(it.span),
            false => self.refuse(it.span, NO_NAMESPACE),
        }
    }

    fn visit_ts_global_declaration(&mut self, it: &TSGlobalDeclaration<'a>) {
        self.erase_whole(it.span);
    }

    fn visit_ts_import_equals_declaration(&mut self, it: &TSImportEqualsDeclaration<'a>) {
        self.refuse(it.span, NO_IMPORT_EQUALS);
    }

    fn visit_ts_export_assignment(&mut self, it: &TSExportAssignment<'a>) {
        self.refuse(it.span, NO_IMPORT_EQUALS);
    }

    fn visit_ts_index_signature(&mut self, it: &TSIndexSignature<'a>) {
        self.erase_whole(it.span);
    }

    fn visit_decorator(&mut self, it: &Decorator<'a>) {
        self.refuse(it.span, NO_DECORATOR);
    }

    fn visit_import_expression(&mut self, it: &ImportExpression<'a>) {
        self.refuse(it.span, NO_DYNAMIC_IMPORT);
    }

    fn visit_variable_declaration(&mut self, it: &VariableDeclaration<'a>) {
        if it.declare {
            return self.erase_whole(it.span);
        }
        self.note_end(it.span);
        walk::walk_variable_declaration(self, it);
    }

    fn visit_variable_declarator(&mut self, it: &VariableDeclarator<'a>) {
        if it.definite {
            let id = it.id.span();
            let end = it.type_annotation.as_ref().map_or(it.span.end, |types| types.span.start);
            self.erase_mark('!', id.end, end);
        }
        walk::walk_variable_declarator(self, it);
    }

    fn visit_expression_statement(&mut self, it: &ExpressionStatement<'a>) {
        self.note_end(it.span);
        walk::walk_expression_statement(self, it);
    }

    fn visit_return_statement(&mut self, it: &ReturnStatement<'a>) {
        self.note_end(it.span);
        walk::walk_return_statement(self, it);
    }

    fn visit_throw_statement(&mut self, it: &ThrowStatement<'a>) {
        self.note_end(it.span);
        walk::walk_throw_statement(self, it);
    }

    fn visit_function(&mut self, it: &Function<'a>, flags: ScopeFlags) {
        if it.declare || it.body.is_none() {
            return self.erase_whole(it.span);
        }
        walk::walk_function(self, it, flags);
    }

    fn visit_arrow_function_expression(&mut self, it: &ArrowFunctionExpression<'a>) {
        // No line may break between `)` and `=>`: `)` moves to where the type ends.
        if let Some(result) = &it.return_type
            && self.between(result.span.start, result.span.end).contains('\n')
        {
            self.erase(it.params.span.end - 1, it.params.span.end);
            self.erase(result.span.start, result.span.end - 1);
            self.replace(result.span.end - 1, result.span.end, ")");
            if let Some(parameters) = &it.type_parameters {
                self.visit_ts_type_parameter_declaration(parameters);
            }
            self.visit_formal_parameters(&it.params);
            return self.visit_function_body(&it.body);
        }
        walk::walk_arrow_function_expression(self, it);
    }

    fn visit_class(&mut self, it: &Class<'a>) {
        if it.declare {
            return self.erase_whole(it.span);
        }
        if it.r#abstract {
            let end = it.id.as_ref().map_or(it.body.span.start, |id| id.span.start);
            self.erase_modifiers(it.span.start, end);
        }
        walk::walk_class(self, it);
    }

    fn visit_method_definition(&mut self, it: &MethodDefinition<'a>) {
        if it.value.body.is_none() {
            return self.erase_whole(it.span);
        }
        let key = it.key.span();
        self.erase_modifiers(it.span.start, key.start);
        if it.optional {
            self.erase_mark('?', key.end, it.value.params.span.start);
        }
        if it.kind == MethodDefinitionKind::Constructor {
            self.write_parameter_properties(&it.value);
        }
        walk::walk_method_definition(self, it);
    }

    fn visit_property_definition(&mut self, it: &PropertyDefinition<'a>) {
        if it.declare || it.r#type == PropertyDefinitionType::TSAbstractPropertyDefinition {
            return self.erase_whole(it.span);
        }
        let key = it.key.span();
        self.erase_modifiers(it.span.start, key.start);
        let end = it.type_annotation.as_ref().map(|types| types.span.start);
        let end = end.or(it.value.as_ref().map(|value| value.span().start)).unwrap_or(it.span.end);
        if it.optional {
            self.erase_mark('?', key.end, end);
        }
        if it.definite {
            self.erase_mark('!', key.end, end);
        }
        self.note_end(it.span);
        walk::walk_property_definition(self, it);
    }

    fn visit_formal_parameter(&mut self, it: &FormalParameter<'a>) {
        if is_parameter_property(it) {
            self.erase_modifiers(it.span.start, it.pattern.span().start);
        }
        if it.optional {
            let end = it.type_annotation.as_ref().map_or(it.span.end, |types| types.span.start);
            self.erase_mark('?', it.pattern.span().end, end);
        }
        walk::walk_formal_parameter(self, it);
    }

    fn visit_import_declaration(&mut self, it: &ImportDeclaration<'a>) {
        if it.import_kind.is_type() {
            return self.erase_whole(it.span);
        }
        let names = it.specifiers.as_ref().map(|specifiers| {
            let name = |specifier: &ImportDeclarationSpecifier<'a>| {
                let is_type = match specifier {
                    ImportDeclarationSpecifier::ImportSpecifier(named) => named.import_kind.is_type(),
                    _ => false,
                };
                (specifier.local().name.to_string(), specifier.span(), is_type)
            };
            specifiers.iter().map(name).collect()
        });
        if let Some([ImportDeclarationSpecifier::ImportNamespaceSpecifier(all)]) =
            it.specifiers.as_ref().map(|all| all.as_slice())
        {
            self.namespaces.push(Namespace {
                specifier: it.source.value.to_string(),
                name: all.local.name.to_string(),
                text: self.between(all.span.start, all.span.end).to_owned(),
            });
        }
        if let Some(specifiers) = &it.specifiers {
            for specifier in specifiers.iter() {
                if let ImportDeclarationSpecifier::ImportSpecifier(named) = specifier {
                    self.names.push((it.source.value.to_string(), named.imported.name().to_string()));
                }
            }
        }
        self.pending.push(Import { statement: it.span, source: it.source.value.to_string(), names });
    }

    fn visit_export_named_declaration(&mut self, it: &ExportNamedDeclaration<'a>) {
        let is_type = match &it.declaration {
            Some(Declaration::TSInterfaceDeclaration(_) | Declaration::TSTypeAliasDeclaration(_)) => true,
            Some(Declaration::FunctionDeclaration(function)) => function.declare || function.body.is_none(),
            Some(Declaration::VariableDeclaration(variables)) => variables.declare,
            Some(Declaration::ClassDeclaration(class)) => class.declare,
            Some(Declaration::TSEnumDeclaration(names)) => names.declare,
            Some(Declaration::TSModuleDeclaration(module)) => module.declare,
            _ => false,
        };
        if is_type || it.export_kind.is_type() {
            return self.erase_whole(it.span);
        }
        for specifier in &it.specifiers {
            if specifier.export_kind.is_type() {
                self.erase_item(specifier.span);
            }
        }
        if let Some(source) = &it.source {
            let names = it.specifiers.iter().map(|specifier| specifier.local.name().to_string());
            self.names.extend(names.map(|name| (source.value.to_string(), name)));
            self.requests.push((source.value.to_string(), it.span.start));
        } else {
            walk::walk_export_named_declaration(self, it);
        }
    }

    fn visit_export_all_declaration(&mut self, it: &ExportAllDeclaration<'a>) {
        if it.export_kind.is_type() {
            return self.erase_whole(it.span);
        }
        self.requests.push((it.source.value.to_string(), it.span.start));
    }

    fn visit_export_default_declaration(&mut self, it: &ExportDefaultDeclaration<'a>) {
        let is_type = match &it.declaration {
            ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => true,
            ExportDefaultDeclarationKind::FunctionDeclaration(function) => function.body.is_none(),
            _ => false,
        };
        if is_type {
            return self.erase_whole(it.span);
        }
        self.note_end(it.span);
        walk::walk_export_default_declaration(self, it);
    }

    fn visit_try_statement(&mut self, it: &TryStatement<'a>) {
        self.tries += 1;
        self.visit_block_statement(&it.block);
        self.tries -= 1;
        if let Some(handler) = &it.handler {
            self.visit_catch_clause(handler);
        }
        if let Some(finalizer) = &it.finalizer {
            self.visit_block_statement(finalizer);
        }
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        if let Some(name) = it.common_js_require() {
            let require = Require { name: name.value.to_string(), offset: it.span.start, may_fail: self.tries > 0 };
            self.commonjs.requires.push(require);
        }
        // Object.defineProperty(exports, "name", ..)
        if let [Argument::Identifier(object), Argument::StringLiteral(name), ..] = it.arguments.as_slice()
            && object.name == "exports"
        {
            self.commonjs.exports.insert(name.value.to_string());
        }
        walk::walk_call_expression(self, it);
    }

    fn visit_static_member_expression(&mut self, it: &StaticMemberExpression<'a>) {
        // Packages ask so which of their parts to take; a handler has no process.
        if self.between(it.span.start, it.span.end) == NODE_ENV {
            return self.replace(it.span.start, it.span.end, "\"production\"");
        }
        walk::walk_static_member_expression(self, it);
    }

    fn visit_assignment_expression(&mut self, it: &AssignmentExpression<'a>) {
        if let AssignmentTarget::StaticMemberExpression(target) = &it.left {
            if is_exports(&target.object) {
                self.commonjs.exports.insert(target.property.name.to_string());
            } else if is_module_exports(target)
                && let Expression::ObjectExpression(all) = &it.right
            {
                let names = all.properties.iter().filter_map(|property| match property {
                    ObjectPropertyKind::ObjectProperty(property) => property.key.static_name(),
                    ObjectPropertyKind::SpreadProperty(_) => None,
                });
                self.commonjs.exports.extend(names.map(|name| name.to_string()));
            }
        }
        // What is written to is no value.
        if self.between(it.left.span().start, it.left.span().end) == NODE_ENV {
            return self.visit_expression(&it.right);
        }
        walk::walk_assignment_expression(self, it);
    }

    fn visit_identifier_reference(&mut self, it: &IdentifierReference<'a>) {
        if let Some(scope) = &self.enum_scope
            && scope.members.contains(it.name.as_str())
        {
            let member = format!("{}.", scope.name);
            return self.replace(it.span.start, it.span.start, member);
        }
        self.values.insert(it.name.to_string());
    }
}

/// Whether an expression is `exports` or `module.exports`.
fn is_exports(expression: &Expression<'_>) -> bool {
    match expression {
        Expression::Identifier(name) => name.name == "exports",
        Expression::StaticMemberExpression(member) => is_module_exports(member),
        _ => false,
    }
}

fn is_module_exports(member: &StaticMemberExpression<'_>) -> bool {
    member.property.name == "exports" && matches!(&member.object, Expression::Identifier(name) if name.name == "module")
}
