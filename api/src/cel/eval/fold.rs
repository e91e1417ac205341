//! Macros over lists and maps. What builds a list or a map does so in place, not by a new collection for each item.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Eval, Result};
use crate::cel::ast::{ACCUMULATOR, Expr, Fold, Kind, Literal};
use crate::cel::cost::LIST_CREATE;
use crate::cel::error::EvalError;
use crate::cel::value::{Map, Value};

/// What the steps of a fold do with the accumulator.
enum Shape<'a> {
    /// `accumulator + [item]`
    Append {
        item: &'a Expr,
        cost: u64,
    },
    /// `cel.@mapInsert(accumulator, key, value)`, or with a whole map to insert.
    Insert {
        args: &'a [Expr],
    },
    Other,
}

impl<'a> Eval<'a, '_> {
    pub(super) fn fold(&mut self, fold: &'a Fold) -> Result<'a> {
        if fold.is_binding() {
            let value = self.expr(&fold.init);
            self.locals.push((&fold.accumulator, value));
            let result = self.expr(&fold.result);
            self.locals.pop();
            return result;
        }
        let range = self.expr(&fold.range)?;
        let depth = self.locals.len();
        let (filter, shape) = shape(fold);
        let result = match shape {
            Shape::Append { item, cost } => self.append(fold, &range, filter, item, cost),
            Shape::Insert { args } => self.insert(fold, &range, filter, args),
            Shape::Other => self.accumulate(fold, &range),
        };
        self.locals.truncate(depth);
        result
    }

    /// Calls a function for each item, with the variables set, until it says stop.
    fn each(
        &mut self,
        fold: &'a Fold,
        range: &Value<'a>,
        visit: &mut dyn FnMut(&mut Self) -> std::result::Result<bool, EvalError>,
    ) -> std::result::Result<(), EvalError> {
        let depth = self.locals.len();
        let mut step = |eval: &mut Self, first: Result<'a>, second: Option<Result<'a>>| {
            eval.locals.truncate(depth);
            eval.locals.push((&fold.var, first));
            if let (Some(name), Some(second)) = (&fold.var2, second) {
                eval.locals.push((name, second));
            }
            visit(eval)
        };
        let two = fold.var2.is_some();
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let index = Ok(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)));
                    let more = if two { step(self, index, Some(item))? } else { step(self, item, None)? };
                    if !more {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = two.then(|| map.get(&key).unwrap_or(Err(EvalError::NoSuchOverload)));
                    if !step(self, Ok(key), value)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        self.locals.truncate(depth);
        Ok(())
    }

    /// The general way: the accumulator is a variable, and what the step gives is its next value.
    fn accumulate(&mut self, fold: &'a Fold, range: &Value<'a>) -> Result<'a> {
        let init = self.expr(&fold.init);
        let at = self.locals.len();
        self.locals.push((&fold.accumulator, init));
        self.each(fold, range, &mut |eval| {
            let more = eval.expr(&fold.condition)?;
            if matches!(more, Value::Bool(false)) {
                return Ok(false);
            }
            let next = eval.expr(&fold.step);
            eval.charge(0)?;
            eval.locals[at].1 = next;
            Ok(true)
        })?;
        self.expr(&fold.result)
    }

    fn passes(&mut self, filter: Option<&'a Expr>) -> std::result::Result<bool, EvalError> {
        match filter {
            None => Ok(true),
            Some(filter) if self.bool(filter)? => Ok(true),
            // The other branch names the accumulator.
            Some(_) => self.charge(1).map(|()| false),
        }
    }

    fn append(
        &mut self,
        fold: &'a Fold,
        range: &Value<'a>,
        filter: Option<&'a Expr>,
        item: &'a Expr,
        cost: u64,
    ) -> Result<'a> {
        let mut items = Vec::new();
        self.each(fold, range, &mut |eval| {
            if eval.passes(filter)? {
                eval.charge(cost)?;
                items.push(eval.expr(item)?);
            }
            Ok(true)
        })?;
        self.charge(1)?;
        Ok(items.into())
    }

    fn insert(
        &mut self,
        fold: &'a Fold,
        range: &Value<'a>,
        filter: Option<&'a Expr>,
        args: &'a [Expr],
    ) -> Result<'a> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        let mut texts: HashSet<String> = HashSet::new();
        self.each(fold, range, &mut |eval| {
            if !eval.passes(filter)? {
                return Ok(true);
            }
            // Naming the accumulator, and the call.
            eval.charge(2)?;
            let entries = match args {
                [key, value] => vec![(eval.expr(key)?, eval.expr(value)?)],
                [map] => match eval.expr(map)? {
                    Value::Map(map) => map.entries()?,
                    _ => return Err(EvalError::NoSuchOverload),
                },
                _ => return Err(EvalError::NoSuchOverload),
            };
            for (key, value) in entries {
                let shown = format!("{}:{key:?}", key.type_name());
                if !texts.insert(shown) {
                    return Err(EvalError::failed(format!("insert failed: key {key:?} already exists")));
                }
                made.push((key, value));
            }
            Ok(true)
        })?;
        self.charge(1)?;
        Ok(Value::Map(Map::Made(Rc::new(made))))
    }
}

fn is_accumulator(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Ident(name) if &**name == ACCUMULATOR)
}

/// The filter and the shape of a fold's step.
fn shape(fold: &Fold) -> (Option<&Expr>, Shape<'_>) {
    let builds = match &fold.init.kind {
        Kind::List(list) => list.items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
        _ => false,
    };
    let always = matches!(fold.condition.kind, Kind::Literal(Literal::Bool(true)));
    if !builds || !always || &*fold.accumulator != ACCUMULATOR || !is_accumulator(&fold.result) {
        return (None, Shape::Other);
    }
    let Kind::Call(call) = &fold.step.kind else { return (None, Shape::Other) };
    match (&*call.name, call.args.as_slice()) {
        ("_?_:_", [filter, step, unchanged]) if is_accumulator(unchanged) => match step_shape(step) {
            Shape::Other => (None, Shape::Other),
            shape => (Some(filter), shape),
        },
        _ => (None, step_shape(&fold.step)),
    }
}

fn step_shape(step: &Expr) -> Shape<'_> {
    let Kind::Call(call) = &step.kind else { return Shape::Other };
    match (&*call.name, call.args.as_slice()) {
        ("_+_", [accumulator, list]) if is_accumulator(accumulator) => match &list.kind {
            Kind::List(list) if list.items.len() == 1 && list.optional.is_empty() => {
                // Naming the accumulator, making the list, adding both.
                let create = if list.constant { 0 } else { LIST_CREATE };
                Shape::Append { item: &list.items[0], cost: 2 + create }
            }
            _ => Shape::Other,
        },
        (crate::cel::parse::MAP_INSERT, [accumulator, rest @ ..]) if is_accumulator(accumulator) => {
            Shape::Insert { args: rest }
        }
        _ => Shape::Other,
    }
}
