//! Evaluation, and what it really costs.

mod cost;
mod fold;

use std::collections::HashSet;
use std::rc::Rc;

use super::ast::{Call, Entry, Expr, Kind, ListExpr, Literal, Select, StructExpr};
use super::check::of_type_name;
use super::compile::Program;
use super::cost::{LIST_CREATE, MAP_CREATE, STRUCT_CREATE};
use super::decisions::Decisions;
use super::error::EvalError;
use super::library;
use super::types::Type;
use super::value::{Map, Opaque, Value};

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// The values of variables.
#[derive(Default)]
pub struct Activation<'a> {
    variables: Vec<(&'a str, Value<'a>)>,
    decisions: Option<&'a Decisions>,
}

/// What evaluating came to.
#[derive(Debug)]
pub struct Evaluated<'a> {
    pub result: std::result::Result<Value<'a>, EvalError>,
    pub cost: u64,
}

impl<'a> Activation<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name, value)),
        }
    }

    /// Gives an authorizer: the variable is there, and answers are taken from what was decided.
    pub fn set_authorizer(&mut self, name: &'a str, decisions: &'a Decisions) {
        self.set(name, Opaque::Authorizer(None).into());
        self.decisions = Some(decisions);
    }

    /// The answers a check is given.
    pub fn set_decisions(&mut self, decisions: &'a Decisions) {
        self.decisions = Some(decisions);
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Program {
    /// Evaluates the expression; it is cut off when it costs more than the limit.
    pub fn evaluate<'a>(&'a self, activation: &Activation<'a>, limit: u64) -> Evaluated<'a> {
        let mut eval = Eval { program: self, activation, locals: Vec::new(), cost: 0, limit, stopped: None };
        let result = eval.expr(&self.root);
        // `error || true` is true, but not if it was never finished.
        let result = match eval.stopped {
            Some(stopped) => Err(stopped),
            None => result,
        };
        Evaluated { result, cost: eval.cost }
    }
}

struct Eval<'a, 'b> {
    program: &'a Program,
    activation: &'b Activation<'a>,
    /// Variables of macros; errors are values there, as `exists` goes on after one.
    locals: Vec<(&'a str, Result<'a>)>,
    cost: u64,
    limit: u64,
    /// Why evaluation must not go on.
    stopped: Option<EvalError>,
}

impl<'a> Eval<'a, '_> {
    fn charge(&mut self, cost: u64) -> std::result::Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            self.stopped = Some(EvalError::CostLimit);
        }
        match &self.stopped {
            Some(stopped) => Err(stopped.clone()),
            None => Ok(()),
        }
    }

    fn expr(&mut self, expr: &'a Expr) -> Result<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Ident(name) => {
                self.charge(1)?;
                self.variable(name)
            }
            Kind::Select(select) => self.select(select),
            Kind::Call(call) => self.call(expr.id, call),
            Kind::List(list) => self.list(list),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(of) => self.structure(of),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn variable(&self, name: &str) -> Result<'a> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(known, _)| *known == name) {
            return value.clone();
        }
        if let Some(value) = self.activation.get(name) {
            return Ok(value.clone());
        }
        match of_type_name(name) {
            Some(Type::Type(Some(of))) => Ok(Value::Type(of.name().into())),
            _ => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, select: &'a Select) -> Result<'a> {
        let operand = self.expr(&select.operand)?;
        if select.test {
            return match optional_field(&operand, &select.field) {
                Some(found) => Ok(found?.is_some().into()),
                None => Err(EvalError::NoSuchOverload),
            };
        }
        self.charge(1)?;
        match &operand {
            Value::Map(map) => match map.get_str(&select.field) {
                Some(value) => value,
                None => Err(EvalError::no_such_key(&select.field)),
            },
            Value::Optional(_) => match optional_field(&operand, &select.field) {
                Some(found) => Ok(found?.map_or(Value::NONE, Value::some)),
                None => Err(EvalError::NoSuchOverload),
            },
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn bool(&mut self, expr: &'a Expr) -> std::result::Result<bool, EvalError> {
        match self.expr(expr)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn call(&mut self, id: usize, call: &'a Call) -> Result<'a> {
        match (&*call.name, call.args.as_slice()) {
            ("_&&_", [a, b]) => return self.logic(a, b, false),
            ("_||_", [a, b]) => return self.logic(a, b, true),
            ("_?_:_", [condition, yes, no]) => {
                return if self.bool(condition)? { self.expr(yes) } else { self.expr(no) };
            }
            ("@not_strictly_false", [value]) => {
                let value = self.expr(value);
                self.charge(1)?;
                return Ok((!matches!(value, Ok(Value::Bool(false)))).into());
            }
            ("_?._", [operand, field]) => return self.optional_select(operand, field),
            ("or" | "orValue", [other]) => {
                if let Some(target) = &call.target {
                    return self.otherwise(target, other, &*call.name == "orValue");
                }
            }
            _ => {}
        }
        let mut args = Vec::with_capacity(call.args.len() + 1);
        for arg in call.target.iter().map(|target| &**target).chain(&call.args) {
            args.push(self.expr(arg)?);
        }
        self.apply(id, call, &args)
    }

    /// Calls a function that needs all its arguments.
    fn apply(&mut self, id: usize, call: &'a Call, args: &[Value<'a>]) -> Result<'a> {
        let function = call.function.ok_or(EvalError::NoSuchOverload)?;
        let overload = match self.program.checked.overloads[id].as_slice() {
            [one] => one.id,
            _ => "",
        };
        // What depends on the arguments alone is paid before the work is done.
        if let Some(cost) = cost::before(function.name, overload, args) {
            self.charge(cost)?;
        }
        let result = match (function.name, &call.pattern) {
            ("check", _) => self.check(args),
            ("matches", Some(pattern)) => library::matches(pattern, args),
            ("find", Some(pattern)) => library::find(pattern, args),
            ("findAll", Some(pattern)) => library::find_all(pattern, args),
            _ => (function.call)(args),
        };
        if let Err(EvalError::CostLimit) = &result {
            self.stopped = Some(EvalError::CostLimit);
        }
        let value = result?;
        if let Some(cost) = cost::after(function.name, &value) {
            self.charge(cost)?;
        }
        Ok(value)
    }

    /// `&&` and `||`: one argument that decides makes an error of the other harmless.
    fn logic(&mut self, a: &'a Expr, b: &'a Expr, decisive: bool) -> Result<'a> {
        let first = self.bool(a);
        if first == Ok(decisive) {
            return Ok(decisive.into());
        }
        let second = self.bool(b);
        if second == Ok(decisive) {
            return Ok(decisive.into());
        }
        first.and(second).map(Value::Bool)
    }

    fn optional_select(&mut self, operand: &'a Expr, field: &'a Expr) -> Result<'a> {
        let operand = self.expr(operand)?;
        self.charge(1)?;
        let Kind::Literal(Literal::String(name)) = &field.kind else { return Err(EvalError::NoSuchOverload) };
        match optional_field(&operand, name) {
            Some(found) => Ok(found?.map_or(Value::NONE, Value::some)),
            None => Ok(Value::NONE),
        }
    }

    /// `a.or(b)` and `a.orValue(b)`: b is evaluated only if a is empty.
    fn otherwise(&mut self, target: &'a Expr, other: &'a Expr, unwrap: bool) -> Result<'a> {
        match self.expr(target)? {
            Value::Optional(None) => self.expr(other),
            Value::Optional(Some(value)) if unwrap => Ok(Rc::unwrap_or_clone(value)),
            some @ Value::Optional(Some(_)) => Ok(some),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn list(&mut self, list: &'a ListExpr) -> Result<'a> {
        if !list.constant {
            self.charge(LIST_CREATE)?;
        }
        let mut items = Vec::with_capacity(list.items.len());
        for (index, item) in list.items.iter().enumerate() {
            let value = self.expr(item)?;
            match value {
                Value::Optional(value) if list.optional.contains(&index) => {
                    items.extend(value.map(Rc::unwrap_or_clone));
                }
                value => items.push(value),
            }
        }
        Ok(items.into())
    }

    fn map(&mut self, entries: &'a [Entry]) -> Result<'a> {
        self.charge(MAP_CREATE)?;
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        let mut texts = HashSet::new();
        for entry in entries {
            let key = self.expr(&entry.key)?;
            let value = match self.expr(&entry.value)? {
                Value::Optional(None) if entry.optional => continue,
                Value::Optional(Some(value)) if entry.optional => Rc::unwrap_or_clone(value),
                value => value,
            };
            let repeated = match &key {
                Value::String(text) => !texts.insert(text.to_string()),
                Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {
                    made.iter().any(|(known, _)| known.equals(&key))
                }
                _ => return Err(EvalError::failed(format!("unsupported key type: {}", key.type_name()))),
            };
            if repeated {
                return Err(EvalError::failed("Failed with repeated key"));
            }
            made.push((key, value));
        }
        Ok(Value::Map(Map::Made(Rc::new(made))))
    }

    fn structure(&mut self, of: &'a StructExpr) -> Result<'a> {
        self.charge(STRUCT_CREATE)?;
        let mut made = Vec::with_capacity(of.fields.len());
        for field in &of.fields {
            let value = match self.expr(&field.value)? {
                Value::Optional(None) if field.optional => continue,
                Value::Optional(Some(value)) if field.optional => Rc::unwrap_or_clone(value),
                value => value,
            };
            made.push((Value::from(&*field.name), value));
        }
        Ok(Value::Map(Map::Made(Rc::new(made))))
    }

    /// Asks for an answer of the authorizer.
    fn check(&mut self, args: &[Value<'a>]) -> Result<'a> {
        let [Value::Opaque(value), Value::String(verb)] = args else { return Err(EvalError::NoSuchOverload) };
        let Opaque::Check(check) = &**value else { return Err(EvalError::NoSuchOverload) };
        let mut check = check.clone();
        check.verb = verb.to_string();
        match self.activation.decisions.and_then(|decisions| decisions.get(&check)) {
            Some(decision) => Ok(Opaque::Decision(decision.clone()).into()),
            None => {
                let undecided = EvalError::Undecided(check);
                self.stopped.get_or_insert_with(|| undecided.clone());
                Err(undecided)
            }
        }
    }
}

/// A field that may be absent; none where the value has no fields.
fn optional_field<'a>(
    operand: &Value<'a>,
    name: &str,
) -> Option<std::result::Result<Option<Value<'a>>, EvalError>> {
    match operand {
        Value::Map(map) => Some(map.get_str(name).transpose()),
        Value::Optional(None) => Some(Ok(None)),
        Value::Optional(Some(value)) => optional_field(value, name),
        _ => None,
    }
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::from(&**text),
        Literal::Bytes(bytes) => Value::Bytes(Rc::from(&**bytes)),
    }
}
