//! The syntax tree that is checked, priced and evaluated.

use std::sync::Arc;

use super::functions::Function;

/// One node. Ids are dense, so that what is known of nodes stands in vectors.
#[derive(Debug)]
pub(super) struct Expr {
    pub id: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(Box<str>),
    Select(Select),
    Call(Call),
    List(ListExpr),
    Map(Vec<Entry>),
    Struct(StructExpr),
    Fold(Box<Fold>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Debug)]
pub(super) struct Select {
    pub operand: Box<Expr>,
    pub field: Box<str>,
    /// `has(operand.field)`
    pub test: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub name: Box<str>,
    /// What a member function is called on.
    pub target: Option<Box<Expr>>,
    pub args: Vec<Expr>,
    /// Set by the checker.
    pub function: Option<&'static Function>,
    /// A regular expression that is written out, compiled once.
    pub pattern: Option<regex::Regex>,
}

#[derive(Debug)]
pub(super) struct ListExpr {
    pub items: Vec<Expr>,
    /// Items that are left out when they are empty optionals.
    pub optional: Vec<usize>,
    /// All items are literals, so that building the list costs nothing.
    pub constant: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug)]
pub(super) struct StructExpr {
    pub name: Box<str>,
    pub fields: Vec<StructField>,
}

#[derive(Debug)]
pub(super) struct StructField {
    pub id: usize,
    pub name: Box<str>,
    pub value: Expr,
    pub optional: bool,
}

/// What macros over lists and maps become.
#[derive(Debug)]
pub(super) struct Fold {
    pub range: Expr,
    pub var: Box<str>,
    /// With two variables the first is the index or key, the second the value.
    pub var2: Option<Box<str>>,
    pub accumulator: Box<str>,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

impl Fold {
    /// Not a loop but a name for a value: `cel.bind` and what optional macros become.
    pub fn is_binding(&self) -> bool {
        matches!(&self.range.kind, Kind::List(list) if list.items.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && &*self.accumulator != ACCUMULATOR
    }
}

/// The accumulator of the standard macros.
pub(super) const ACCUMULATOR: &str = "@result";

impl Expr {
    /// `a.b.c` if the expression is nothing but names.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select(select) if !select.test => {
                Some(format!("{}.{}", select.operand.qualified_name()?, select.field))
            }
            _ => None,
        }
    }

    pub fn is_constant(&self) -> bool {
        match &self.kind {
            Kind::Literal(_) => true,
            Kind::List(list) => list.constant,
            _ => false,
        }
    }
}
