//! What an expression costs at most, told from the expression and the sizes that a schema allows. The numbers are
//! promised: they decide which rules a definition may have.

mod calls;
mod range;

use std::collections::HashMap;

pub use range::Range;
pub(super) use range::scale;

use super::ast::{Call, Expr, Fold, Kind, Literal};
use super::check::Checked;
use super::sizes::Sizes;
use super::types::Type;

pub(super) const STRING_TRAVERSAL: f64 = 0.1;
pub(super) const REGEX_LENGTH: f64 = 0.25;
pub(super) const LIST_CREATE: u64 = 10;
pub(super) const MAP_CREATE: u64 = 30;
pub(super) const STRUCT_CREATE: u64 = 40;

/// The cost of evaluating an expression.
pub(super) fn estimate(root: &Expr, checked: &Checked, sizes: Option<&Sizes>) -> Range {
    let mut coster = Coster {
        checked,
        sizes,
        paths: HashMap::new(),
        locals: Vec::new(),
        computed: HashMap::new(),
        entries: HashMap::new(),
    };
    coster.cost(root)
}

/// The cost of parsing a selector of a length.
pub(super) fn selector_cost(length: u64) -> u64 {
    calls::selector(Range::fixed(length)).max
}

type Path = Vec<String>;

/// Sizes of keys (or indexes) and values of a collection that an expression makes.
#[derive(Clone, Copy)]
struct EntrySize {
    is_list: bool,
    key: Range,
    value: Range,
}

#[derive(Clone)]
struct Local {
    name: Box<str>,
    path: Path,
    size: Option<Range>,
    entries: Option<EntrySize>,
}

struct Coster<'e> {
    checked: &'e Checked,
    sizes: Option<&'e Sizes>,
    /// Where in the schema the value of a node is, by id.
    paths: HashMap<usize, Path>,
    locals: Vec<Local>,
    computed: HashMap<usize, Range>,
    entries: HashMap<usize, EntrySize>,
}

/// An argument of a call.
struct Node<'e> {
    expr: Option<&'e Expr>,
    of: Type,
    path: Path,
    size: Option<Range>,
}

const ONE: Range = Range::fixed(1);
const NOTHING: Range = Range::fixed(0);

impl<'e> Coster<'e> {
    fn of(&self, expr: &Expr) -> &'e Type {
        &self.checked.types[expr.id]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn cost(&mut self, expr: &'e Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => NOTHING,
            Kind::Ident(name) => {
                let path =
                    self.local(name).map_or_else(|| vec![name.to_string()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                ONE
            }
            Kind::Select(select) => {
                let operand = self.cost(&select.operand);
                if select.test {
                    return operand;
                }
                let step = match self.of(&select.operand) {
                    Type::Map(_) | Type::Object(_) | Type::Var(_) => ONE,
                    _ => NOTHING,
                };
                let mut path = self.path(&select.operand);
                path.push(select.field.to_string());
                self.paths.insert(expr.id, path);
                operand.add(step)
            }
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => {
                let mut value = Range { min: if list.items.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let mut sum = NOTHING;
                for item in &list.items {
                    sum = sum.add(self.cost(item));
                    value = value.union(self.size_or_unknown(item));
                }
                self.entries.insert(expr.id, EntrySize { is_list: true, key: ONE, value });
                sum.add(Range::fixed(LIST_CREATE))
            }
            Kind::Map(entries) => {
                let none = Range { min: if entries.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let (mut key, mut value, mut sum) = (none, none, NOTHING);
                for entry in entries {
                    sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, EntrySize { is_list: false, key, value });
                sum.add(Range::fixed(MAP_CREATE))
            }
            Kind::Struct(of) => {
                let fields = of.fields.iter().fold(NOTHING, |sum, field| sum.add(self.cost(&field.value)));
                fields.add(Range::fixed(STRUCT_CREATE))
            }
            Kind::Fold(fold) if fold.is_binding() => self.binding(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn binding(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_accumulator(fold);
        let sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        if let Some(size) = self.size(&fold.result) {
            self.computed.insert(expr.id, size);
        }
        if let Some(entries) = self.entry_size(&fold.result) {
            self.entries.insert(expr.id, entries);
        }
        sum
    }

    fn push_accumulator(&mut self, fold: &Fold) {
        let local = Local {
            name: fold.accumulator.clone(),
            path: self.path(&fold.init),
            size: self.size(&fold.init),
            entries: self.entry_size(&fold.init),
        };
        self.locals.push(local);
    }

    fn fold(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_accumulator(fold);
        let depth = self.locals.len();
        self.push_variables(fold);
        let each = self.cost(&fold.condition);
        let each = self.cost(&fold.step).add(each);
        self.locals.truncate(depth);
        sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        let count = self.size_or_unknown(&fold.range);
        sum = sum.add(count.times(each));
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.computed.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.computed.insert(expr.id, count);
                if let Some(entries) = self.entry_size(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn push_variables(&mut self, fold: &Fold) {
        let entries = self.entry_size(&fold.range);
        let is_list =
            entries.map_or_else(|| matches!(self.of(&fold.range), Type::List(_)), |known| known.is_list);
        let base = self.path(&fold.range);
        let local = |name: &str, step: &str, size: Option<Range>| {
            let mut path = base.clone();
            path.push(step.to_owned());
            Local { name: name.into(), path, size, entries: None }
        };
        let (key, value) = (entries.map(|known| known.key), entries.map(|known| known.value));
        match &fold.var2 {
            Some(second) => {
                self.locals.push(local(&fold.var, if is_list { "@indices" } else { "@keys" }, key));
                self.locals.push(local(second, if is_list { "@items" } else { "@values" }, value));
            }
            None if is_list => self.locals.push(local(&fold.var, "@items", value)),
            None => self.locals.push(local(&fold.var, "@keys", key)),
        }
    }

    fn call(&mut self, expr: &'e Expr, call: &'e Call) -> Range {
        if &*call.name == "dyn"
            && let [arg] = call.args.as_slice()
        {
            let cost = self.cost(arg);
            if let Some(size) = self.size(arg) {
                self.computed.insert(expr.id, size);
            }
            if let Some(entries) = self.entry_size(arg) {
                self.entries.insert(expr.id, entries);
            }
            return cost.add(ONE);
        }
        let mut costs = Vec::with_capacity(call.args.len());
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.node(arg));
        }
        let overloads = &self.checked.overloads[expr.id];
        if overloads.is_empty() {
            return NOTHING;
        }
        let own = call.target.as_ref().map_or(NOTHING, |target| self.cost(target));
        let target = call.target.as_ref().map(|target| self.node(target));
        let mut total = Range { min: u64::MAX, max: 0 };
        let mut result: Option<Range> = None;
        for overload in overloads {
            let (cost, size) = self.overload(expr, &call.name, overload.id, target.as_ref(), &args, &costs);
            total = total.union(cost);
            if let Some(size) = size {
                result = Some(result.map_or(size, |known| known.union(size)));
            }
            let step = match overload.id {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(of)) = (step, call.args.first()) {
                result = self.entry_size(of).map(|entries| entries.value);
                let mut path = self.path(of);
                path.push(step.to_owned());
                self.paths.insert(expr.id, path);
            }
            result = result.or_else(|| self.size(expr));
        }
        if let Some(size) = result {
            self.computed.insert(expr.id, size);
        }
        own.add(total)
    }

    fn node(&mut self, expr: &'e Expr) -> Node<'e> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| first == super::ast::ACCUMULATOR) {
            path.clear();
        }
        Node { expr: Some(expr), of: self.of(expr).clone(), path, size: self.size(expr) }
    }

    /// What the schema says of a place.
    fn schema_size(&self, path: &[String]) -> Option<Range> {
        let (_, steps) = path.split_first()?;
        let of = self.sizes?.at(steps)?;
        Some(Range { min: 0, max: of.max })
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(known) = self.computed.get(&expr.id) {
            return Some(*known);
        }
        if let Some(size) = written_size(expr) {
            return Some(Range::fixed(size));
        }
        if let Some(size) = self.schema_size(&self.path(expr)) {
            self.computed.insert(expr.id, size);
            return Some(size);
        }
        if self.of(expr).is_scalar() {
            return Some(ONE);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        if let Some(known) = self.entries.get(&expr.id) {
            return Some(*known);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    /// The size of an argument, by itself or by the schema.
    fn size_of(&self, node: &Node<'_>) -> Range {
        node.size.or_else(|| self.schema_size(&node.path)).unwrap_or(Range::UNKNOWN)
    }

    /// An item of a list.
    fn item(&self, list: &Node<'e>) -> Option<Node<'e>> {
        let of = match &list.of {
            Type::List(of) => of.item.clone(),
            Type::Map(of) => of.0.clone(),
            Type::Optional(of) => Type::clone(of),
            _ => return None,
        };
        let mut path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".to_owned());
        }
        Some(Node { expr: None, of, path, size: None })
    }
}

fn written_size(expr: &Expr) -> Option<u64> {
    Some(match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count() as u64,
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List(list) => list.items.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}
