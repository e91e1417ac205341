//! Environments and the programs compiled in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ast::{Expr, Kind, Literal};
use super::check::{self, Checked};
use super::cost::{self, Range};
use super::error::{CompileError, render};
use super::parse;
use super::sizes::Sizes;
use super::types::{Object, Type};

/// Knows the types of objects that expressions may make, by name.
pub type Structures = fn(&str) -> Option<Arc<Object>>;

/// What expressions may name.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(String, Type)>,
    sizes: Option<Arc<Sizes>>,
    structures: Option<Structures>,
}

impl Environment {
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable.
    #[must_use]
    pub fn with(mut self, name: &str, of: Type) -> Self {
        self.declare(name, of);
        self
    }

    pub fn declare(&mut self, name: &str, of: Type) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), of));
    }

    /// Says how large values become; all variables are of the schema it was made of.
    #[must_use]
    pub fn with_sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = Some(Arc::new(sizes));
        self
    }

    /// Lets expressions make objects (`Name{field: value}`) of the types that the function knows.
    #[must_use]
    pub fn with_structures(mut self, structures: Structures) -> Self {
        self.structures = Some(structures);
        self
    }

    pub(super) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, of)| of)
    }

    pub(super) fn structure(&self, name: &str) -> Option<Arc<Object>> {
        self.structures.and_then(|structures| structures(name))
    }

    /// Parses and checks an expression.
    ///
    /// Errors: all faults with their places, in upstream's form.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let parsed = parse::parse(source)?;
        let mut root = parsed.root;
        let checked =
            check::check(&mut root, &parsed.offsets, self).map_err(|issues| render(source, issues))?;
        let estimate = cost::estimate(&root, &checked, self.sizes.as_deref());
        Ok(Program { root, checked, estimate })
    }
}

/// An expression ready to be evaluated, any number of times and by any number of threads.
#[derive(Debug)]
pub struct Program {
    pub(super) root: Expr,
    pub(super) checked: Checked,
    estimate: Range,
}

impl Program {
    /// The type of the expression's value.
    pub fn output(&self) -> &Type {
        &self.checked.types[self.root.id]
    }

    /// What evaluating costs at least and at most.
    pub fn estimate(&self) -> Range {
        self.estimate
    }

    /// Whether the expression names a variable.
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        visit(&self.root, &mut |expr| found |= is_named(expr, name));
        found
    }

    /// The fields of a variable that the expression selects, for certain or optionally.
    pub fn fields_of(&self, name: &str) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        visit(&self.root, &mut |expr| match &expr.kind {
            Kind::Select(select) if is_named(&select.operand, name) => {
                fields.insert(select.field.to_string());
            }
            Kind::Call(call) if &*call.name == "_?._" => {
                if let [operand, Expr { kind: Kind::Literal(Literal::String(field)), .. }] = &*call.args
                    && is_named(operand, name)
                {
                    fields.insert(field.to_string());
                }
            }
            _ => {}
        });
        fields
    }
}

fn is_named(expr: &Expr, name: &str) -> bool {
    matches!(&expr.kind, Kind::Ident(known) if **known == *name)
}

/// Shows every node, the outer ones first.
fn visit(expr: &Expr, see: &mut dyn FnMut(&Expr)) {
    see(expr);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select(select) => visit(&select.operand, see),
        Kind::Call(call) => {
            call.target.iter().map(|target| &**target).chain(&call.args).for_each(|arg| visit(arg, see));
        }
        Kind::List(list) => list.items.iter().for_each(|item| visit(item, see)),
        Kind::Map(entries) => entries.iter().for_each(|entry| {
            visit(&entry.key, see);
            visit(&entry.value, see);
        }),
        Kind::Struct(of) => of.fields.iter().for_each(|field| visit(&field.value, see)),
        Kind::Fold(fold) => {
            let parts = [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result];
            parts.into_iter().for_each(|part| visit(part, see));
        }
    }
}
