//! What TypeScript makes code of: enums, and parameters of a constructor that
//! are properties.

use std::collections::HashSet;

use oxc_ast::ast::*;
use oxc_ast_visit::Visit as _;
use oxc_span::GetSpan as _;

use super::{EnumScope, Eraser};

const NO_VALUE: &str = "an enum's member behind one that is text, or a calculation, needs a value: write `= ..`";

/// What a member of an enum without a value is: one more than the member before.
enum Next {
    Number(f64),
    /// The member before is no number that the text tells.
    Unknown,
}

impl Eraser<'_> {
    /// `enum A { B, C = 5 }` becomes `var A = ((A) => ([A[A["B"] = 0] = "B", ..], A))(A ?? {})`:
    /// the commas stay, so that a comma or a comment behind the last member is
    /// no case of its own. A second enum of the name adds to the first.
    pub(super) fn write_enum(&mut self, it: &TSEnumDeclaration<'_>) {
        let name = it.id.name.as_str();
        self.replace(it.span.start, it.body.span.start + 1, format!("var {name} = (({name}) => (["));
        let outer = self.enum_scope.replace(EnumScope { name: name.to_owned(), members: HashSet::new() });
        let mut next = Next::Number(0.0);
        for member in &it.body.members {
            next = self.write_member(name, member, &next);
            if let Some(scope) = &mut self.enum_scope {
                scope.members.insert(member.id.static_name().to_string());
            }
        }
        self.enum_scope = outer;
        self.replace(it.body.span.end - 1, it.body.span.end, format!("], {name}))({name} ?? {{}});"));
    }

    /// Writes one member, and says what the next one is.
    fn write_member(&mut self, of: &str, member: &TSEnumMember<'_>, next: &Next) -> Next {
        let quoted = serde_json::Value::from(member.id.static_name().as_str()).to_string();
        let place = format!("{of}[{quoted}]");
        let (start, end) = (member.span.start, member.span.end);
        let Some(value) = &member.initializer else {
            let Next::Number(number) = next else {
                self.refuse(member.span, NO_VALUE);
                return Next::Unknown;
            };
            self.replace(start, end, format!("{of}[{place} = {number}] = {quoted}"));
            return Next::Number(number + 1.0);
        };
        let (before, behind, next) = match (value, number(value)) {
            (Expression::StringLiteral(_) | Expression::TemplateLiteral(_), _) => {
                (format!("{place} = "), String::new(), Next::Unknown)
            }
            (_, Some(number)) => (format!("{of}[{place} = "), format!("] = {quoted}"), Next::Number(number + 1.0)),
            (_, None) => {
                let behind = format!(")) === \"string\" || ({of}[{place}] = {quoted})");
                (format!("typeof ({place} = ("), behind, Next::Unknown)
            }
        };
        self.replace(start, value.span().start, before);
        self.visit_expression(value);
        self.replace(value.span().end, end, behind);
        next
    }

    /// `constructor(private a: string) { .. }` assigns `this.a = a` first, or
    /// behind its `super(..)`.
    pub(super) fn write_parameter_properties(&mut self, constructor: &Function<'_>) {
        let properties = constructor.params.items.iter().filter(|parameter| is_parameter_property(parameter));
        let names = properties.filter_map(|parameter| parameter.pattern.get_identifier_name());
        let code: String = names.map(|name| format!(" this.{name} = {name};")).collect();
        let Some(body) = constructor.body.as_ref().filter(|_| !code.is_empty()) else { return };
        let is_super = |statement: &&Statement<'_>| match statement {
            Statement::ExpressionStatement(statement) => {
                matches!(&statement.expression, Expression::CallExpression(call) if matches!(call.callee, Expression::Super(_)))
            }
            _ => false,
        };
        let behind = body.statements.iter().find(is_super).map(|statement| statement.span().end);
        let behind = behind.or(body.directives.last().map(|directive| directive.span.end));
        let at = behind.unwrap_or(body.span.start + 1);
        self.replace(at, at, format!(";{code}"));
    }
}

/// Whether a parameter of a constructor is a property too.
pub(super) fn is_parameter_property(parameter: &FormalParameter<'_>) -> bool {
    parameter.accessibility.is_some() || parameter.readonly || parameter.r#override
}

/// The number that a literal is.
fn number(value: &Expression<'_>) -> Option<f64> {
    match value {
        Expression::NumericLiteral(literal) => Some(literal.value),
        Expression::UnaryExpression(unary) if unary.operator == UnaryOperator::UnaryNegation => {
            number(&unary.argument).map(|number| -number)
        }
        _ => None,
    }
}
