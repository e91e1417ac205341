//! Types of expressions, and which overloads calls mean.

mod assign;

use std::sync::Arc;

use self::assign::Bindings;
use super::ast::{Call, Entry, Expr, Fold, Kind, ListExpr, Literal, StructExpr};
use super::compile::Environment;
use super::error::Issue;
use super::functions::{self, Function};
use super::library;
use super::signature::Overload;
use super::types::{Object, Type};

/// What is known of each node, by id.
#[derive(Debug)]
pub(super) struct Checked {
    pub types: Vec<Type>,
    pub overloads: Vec<Vec<&'static Overload>>,
}

/// Finds the types of all nodes; names of functions are resolved in the tree.
///
/// Errors: all faults found.
pub(super) fn check(root: &mut Expr, offsets: &[usize], env: &Environment) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        env,
        offsets,
        bindings: Bindings::default(),
        scopes: Vec::new(),
        types: vec![Type::Error; offsets.len()],
        overloads: vec![Vec::new(); offsets.len()],
        issues: Vec::new(),
    };
    checker.expr(root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|of| checker.bindings.resolved(of)).collect();
    Ok(Checked { types, overloads: checker.overloads })
}

struct Checker<'e> {
    env: &'e Environment,
    offsets: &'e [usize],
    bindings: Bindings,
    /// Variables of macros, the innermost last.
    scopes: Vec<(Box<str>, Type)>,
    types: Vec<Type>,
    overloads: Vec<Vec<&'static Overload>>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: usize, message: impl Into<String>) {
        self.issues.push(Issue { at: self.offsets[id], message: message.into() });
    }

    fn undeclared(&mut self, id: usize, name: &str) -> Type {
        self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn mismatch(&mut self, id: usize, expected: &Type, actual: &Type) {
        let (expected, actual) = (self.bindings.substitute(expected), self.bindings.substitute(actual));
        self.issue(id, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        let of = match &mut expr.kind {
            Kind::Literal(literal) => of_literal(literal),
            Kind::Ident(name) => match self.variable(name) {
                Some(of) => of,
                None => {
                    let name = name.clone();
                    self.undeclared(expr.id, &name)
                }
            },
            Kind::Select(_) => self.select(expr),
            Kind::Call(_) => self.call(expr),
            Kind::List(list) => self.list(list),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(of) => self.structure(expr.id, of),
            Kind::Fold(fold) => self.fold(fold),
        };
        self.types[expr.id] = of.clone();
        of
    }

    /// The type of a name: a macro's variable, a declared one, or a type.
    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.scopes.iter().rev().find(|(known, _)| **known == *name).map(|(_, of)| of.clone());
        local.or_else(|| self.env.variable(name).cloned()).or_else(|| of_type_name(name))
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        // A qualified name may be that of a variable or of a type.
        if let Some(name) = expr.qualified_name()
            && let Some(of) = self.env.variable(&name).cloned().or_else(|| of_type_name(&name))
            && !self.scopes.iter().any(|(known, _)| name.split('.').next() == Some(known))
        {
            expr.kind = Kind::Ident(name.into());
            return of;
        }
        let id = expr.id;
        let Kind::Select(select) = &mut expr.kind else { return Type::Error };
        let of = self.field(id, &mut select.operand, &select.field, false);
        if select.test { Type::Bool } else { self.bindings.substitute(&of) }
    }

    /// The type of a field of an operand.
    fn field(&mut self, id: usize, operand: &mut Expr, name: &str, optional: bool) -> Type {
        let operand = self.expr(operand);
        let operand = self.bindings.substitute(&operand);
        let (target, was_optional) = match &operand {
            Type::Optional(of) => (Type::clone(of), true),
            other => (other.clone(), false),
        };
        let of = match &target {
            Type::Map(map) => map.1.clone(),
            Type::Object(object) => match object.fields.get(name) {
                Some(field) => field.of.clone(),
                None if object.open => Type::Dyn,
                None => {
                    self.issue(id, format!("undefined field '{name}'"));
                    Type::Error
                }
            },
            Type::Var(_) => {
                self.bindings.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other if other.is_dyn_or_error() => Type::Dyn,
            other => {
                self.issue(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(of) } else { of }
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        let Kind::Call(call) = &mut expr.kind else { return Type::Error };
        if &*call.name == "_?._" {
            return self.optional_field(id, call);
        }
        for arg in &mut call.args {
            self.expr(arg);
        }
        // `a.b.c()` may be a function in a namespace.
        if let Some(prefix) = call.target.as_ref().and_then(|target| target.qualified_name())
            && self.scopes.iter().all(|(known, _)| **known != *prefix)
        {
            let name = format!("{prefix}.{}", call.name);
            if functions::lookup(&name).is_some() {
                call.name = name.into();
                call.target = None;
            }
        }
        if let Some(target) = &mut call.target {
            self.expr(target);
        }
        let Some(function) = functions::lookup(&call.name) else {
            let name = call.name.clone();
            return self.undeclared(id, &name);
        };
        call.function = Some(function);
        let of = self.resolve(id, function, call);
        self.literals(call);
        of
    }

    fn optional_field(&mut self, id: usize, call: &mut Call) -> Type {
        call.function = functions::lookup(&call.name);
        self.overloads[id] = call.function.into_iter().flat_map(|function| &function.overloads).collect();
        let [operand, field] = call.args.as_mut_slice() else {
            self.issue(id, "unsupported optional field selection: incorrect signature");
            return Type::Error;
        };
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            let id = field.id;
            self.issue(id, "unsupported optional field selection");
            return Type::Error;
        };
        self.types[field.id] = Type::String;
        let of = self.field(id, operand, &name.clone(), true);
        self.bindings.substitute(&of)
    }

    /// Picks the overloads that take the arguments.
    fn resolve(&mut self, id: usize, function: &'static Function, call: &Call) -> Type {
        let args: Vec<Type> = call
            .target
            .iter()
            .map(|target| &**target)
            .chain(&call.args)
            .map(|arg| self.types[arg.id].clone())
            .collect();
        if matches!(function.name, "_&&_" | "_||_") {
            self.overloads[id] = function.overloads.iter().collect();
            let wrong =
                call.args.iter().zip(&args).filter(|(_, of)| !self.bindings.clone().assign(of, &Type::Bool));
            let wrong: Vec<(usize, Type)> = wrong.map(|(arg, of)| (arg.id, of.clone())).collect();
            for (arg, of) in &wrong {
                self.mismatch(*arg, &Type::Bool, of);
            }
            for of in &args {
                self.bindings.assign(of, &Type::Bool);
            }
            return if wrong.is_empty() { Type::Bool } else { Type::Error };
        }
        let mut result: Option<Type> = None;
        for overload in function.overloads.iter().filter(|overload| overload.member == call.target.is_some())
        {
            let base = self.bindings.fresh(overload.vars);
            let wanted: Vec<Type> = overload.args.iter().map(|arg| assign::rename(arg, base)).collect();
            if !self.bindings.assign_all(&args, &wanted) {
                continue;
            }
            self.overloads[id].push(overload);
            let of = self.bindings.substitute(&assign::rename(&overload.result, base));
            result = Some(match result {
                None => of,
                Some(known) if matches!(known, Type::Dyn) || known == of => known,
                Some(_) => Type::Dyn,
            });
        }
        result.unwrap_or_else(|| {
            let shown: Vec<String> = args.iter().map(|arg| self.bindings.resolved(arg).to_string()).collect();
            let signature = match call.target {
                Some(_) => format!("{}.({})", shown[0], shown[1..].join(", ")),
                None => format!("({})", shown.join(", ")),
            };
            self.issue(
                id,
                format!("found no matching overload for '{}' applied to '{signature}'", function.name),
            );
            Type::Error
        })
    }

    /// Arguments that are written out must be what they are taken for.
    fn literals(&mut self, call: &mut Call) {
        let Some(last) = call.args.first() else { return };
        let Kind::Literal(Literal::String(text)) = &last.kind else { return };
        let wrong = match &*call.name {
            "duration" => crate::duration::parse(text).is_err(),
            "timestamp" => text.parse::<jiff::Timestamp>().is_err(),
            "matches" | "find" | "findAll" if call.target.is_some() => {
                call.pattern = library::compile(text).ok();
                call.pattern.is_none()
            }
            _ => false,
        };
        if wrong {
            let (id, name) = (last.id, call.name.clone());
            self.issue(id, format!("invalid {name} argument"));
        }
    }

    /// The common type of the items of a literal list or map.
    fn join(&mut self, id: usize, known: Option<Type>, of: Type) -> Type {
        let Some(known) = known else { return of };
        if self.bindings.assign(&known, &of) {
            return assign::most_general(known, of);
        }
        self.mismatch(id, &known, &of);
        Type::Error
    }

    fn unwrapped(&mut self, id: usize, of: Type) -> Type {
        match of {
            Type::Optional(of) => Type::clone(&of),
            Type::Dyn => Type::Dyn,
            other => {
                self.mismatch(id, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    fn list(&mut self, list: &mut ListExpr) -> Type {
        let mut item: Option<Type> = None;
        for (index, expr) in list.items.iter_mut().enumerate() {
            let mut of = self.expr(expr);
            if list.optional.contains(&index) {
                of = self.unwrapped(expr.id, of);
            }
            item = Some(self.join(expr.id, item, of));
        }
        Type::list(item.unwrap_or_else(|| Type::Var(self.bindings.fresh(1))))
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut key, mut value): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            let of = self.expr(&mut entry.key);
            key = Some(self.join(entry.key.id, key, of));
            let mut of = self.expr(&mut entry.value);
            if entry.optional {
                of = self.unwrapped(entry.value.id, of);
            }
            value = Some(self.join(entry.value.id, value, of));
        }
        match (key, value) {
            (Some(key), Some(value)) => Type::map(key, value),
            _ => {
                let base = self.bindings.fresh(2);
                Type::map(Type::Var(base), Type::Var(base + 1))
            }
        }
    }

    fn structure(&mut self, id: usize, of: &mut StructExpr) -> Type {
        let known = self.env.structure(&of.name);
        if known.is_none() {
            let name = of.name.clone();
            self.undeclared(id, &name);
        }
        for field in &mut of.fields {
            let mut actual = self.expr(&mut field.value);
            if field.optional {
                actual = self.unwrapped(field.value.id, actual);
            }
            let Some(object) = &known else { continue };
            let wanted = match object.fields.get(&*field.name) {
                Some(field) => field.of.clone(),
                None if object.open => Type::Dyn,
                None => {
                    let (id, name) = (field.id, field.name.clone());
                    self.issue(id, format!("undefined field '{name}'"));
                    continue;
                }
            };
            if !self.bindings.assign(&wanted, &actual) {
                let (id, name) = (field.id, field.name.clone());
                let actual = self.bindings.substitute(&actual);
                self.issue(
                    id,
                    format!("expected type of field '{name}' is '{wanted}' but provided type is '{actual}'"),
                );
            }
        }
        known.map_or(Type::Error, |object: Arc<Object>| Type::Object(object))
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.expr(&mut fold.range);
        let init = self.expr(&mut fold.init);
        let range = self.bindings.substitute(&range);
        let two = fold.var2.is_some();
        let (var, var2) = match &range {
            Type::List(list) if two => (Type::Int, list.item.clone()),
            Type::List(list) => (list.item.clone(), Type::Error),
            Type::Map(map) => (map.0.clone(), map.1.clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.bindings.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let id = fold.range.id;
                let why = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.issue(id, format!("expression of type '{other}' {why}"));
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), init.clone()));
        self.scopes.push((fold.var.clone(), var));
        if let Some(name) = &fold.var2 {
            self.scopes.push((name.clone(), var2));
        }
        let condition = self.expr(&mut fold.condition);
        if !self.bindings.assign(&Type::Bool, &condition) {
            self.mismatch(fold.condition.id, &Type::Bool, &condition);
        }
        let step = self.expr(&mut fold.step);
        if !self.bindings.assign(&init, &step) {
            self.mismatch(fold.step.id, &init, &step);
        }
        self.scopes.truncate(depth + 1);
        let result = self.expr(&mut fold.result);
        self.scopes.truncate(depth);
        self.bindings.substitute(&result)
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The type of the name of a type.
pub(super) fn of_type_name(name: &str) -> Option<Type> {
    let of = match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "optional_type" => Type::optional(Type::Dyn),
        "string" => Type::String,
        "type" => return Some(Type::Type(Some(Arc::new(Type::Type(None))))),
        "uint" => Type::Uint,
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        _ => return None,
    };
    Some(Type::Type(Some(Arc::new(of))))
}
