//! Macros that the crate does not have: comprehensions over two variables, and sorting by a key.

use cel::Env;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};
use cel::parser::{Macro, MacroExprHelper, ParseError};

use crate::cel::ast::ACCUMULATOR;

/// Puts an entry into the accumulated map.
pub(in crate::cel) const MAP_INSERT: &str = "cel.@mapInsert";
const SORT_INPUT: &str = "@__sortBy_input__";
pub(in crate::cel) const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";

type Helper<'a, 'b> = &'a mut MacroExprHelper<'b>;
type Expansion = Result<Option<IdedExpr>, ParseError>;

pub(super) fn add(env: &mut Env) {
    let macros = [
        Macro::receiver("all", 3, |helper, target, args| {
            quantifier(helper, target, args, &|helper, step| Quantifier {
                init: literal(helper, LiteralValue::Boolean(true.into())),
                condition: {
                    let accumulated = accumulator(helper);
                    call(helper, operators::NOT_STRICTLY_FALSE, vec![accumulated])
                },
                step: {
                    let accumulated = accumulator(helper);
                    call(helper, operators::LOGICAL_AND, vec![accumulated, step])
                },
                result: accumulator(helper),
            })
        }),
        Macro::receiver("exists", 3, |helper, target, args| {
            quantifier(helper, target, args, &|helper, step| Quantifier {
                init: literal(helper, LiteralValue::Boolean(false.into())),
                condition: {
                    let accumulated = accumulator(helper);
                    let not = call(helper, operators::LOGICAL_NOT, vec![accumulated]);
                    call(helper, operators::NOT_STRICTLY_FALSE, vec![not])
                },
                step: {
                    let accumulated = accumulator(helper);
                    call(helper, operators::LOGICAL_OR, vec![accumulated, step])
                },
                result: accumulator(helper),
            })
        }),
        Macro::receiver("existsOne", 3, |helper, target, args| {
            quantifier(helper, target, args, &exactly_one)
        }),
        Macro::receiver("exists_one", 3, |helper, target, args| {
            quantifier(helper, target, args, &exactly_one)
        }),
        Macro::receiver("transformList", 3, transform_list),
        Macro::receiver("transformList", 4, transform_list),
        Macro::receiver("transformMap", 3, transform_map),
        Macro::receiver("transformMap", 4, transform_map),
        Macro::receiver("transformMapEntry", 3, transform_entries),
        Macro::receiver("transformMapEntry", 4, transform_entries),
        Macro::receiver("sortBy", 2, sort_by),
    ];
    for expanded in macros {
        // A macro of the same name in the crate does the same.
        let _ = env.add_macro(expanded);
    }
}

struct Quantifier {
    init: IdedExpr,
    condition: IdedExpr,
    step: IdedExpr,
    result: IdedExpr,
}

fn literal(helper: Helper<'_, '_>, value: LiteralValue) -> IdedExpr {
    helper.next_expr(Expr::Literal(value))
}

fn accumulator(helper: Helper<'_, '_>) -> IdedExpr {
    helper.next_expr(Expr::Ident(ACCUMULATOR.to_owned()))
}

fn call(helper: Helper<'_, '_>, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

/// The two variables, which must differ.
fn variables(helper: Helper<'_, '_>, args: &[IdedExpr]) -> Result<(String, String), ParseError> {
    let mut names = Vec::with_capacity(2);
    for arg in &args[..2] {
        match &arg.expr {
            Expr::Ident(name) if name == ACCUMULATOR => {
                return Err(helper.new_error(arg.id, "iteration variable overwrites accumulator variable"));
            }
            Expr::Ident(name) if names.contains(name) => {
                return Err(helper.new_error(arg.id, format!("duplicate variable name: {name}")));
            }
            Expr::Ident(name) => names.push(name.clone()),
            _ => return Err(helper.new_error(arg.id, "argument must be a simple name")),
        }
    }
    let second = names.pop().unwrap_or_default();
    Ok((names.pop().unwrap_or_default(), second))
}

fn fold(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    (var, var2): (String, String),
    parts: Quantifier,
) -> Expansion {
    let range = target.take().unwrap_or_default();
    Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: range,
        iter_var: var,
        iter_var2: Some(var2),
        accu_var: ACCUMULATOR.to_owned(),
        accu_init: parts.init,
        loop_cond: parts.condition,
        loop_step: parts.step,
        result: parts.result,
    })))))
}

fn quantifier(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    parts: &dyn Fn(Helper<'_, '_>, IdedExpr) -> Quantifier,
) -> Expansion {
    let names = variables(helper, args)?;
    let step = args.pop().unwrap_or_default();
    let parts = parts(helper, step);
    fold(helper, target, names, parts)
}

fn exactly_one(helper: Helper<'_, '_>, predicate: IdedExpr) -> Quantifier {
    let one = |helper: Helper<'_, '_>| literal(helper, LiteralValue::Int(1.into()));
    let (accumulated, more) = (accumulator(helper), one(helper));
    let counted = call(helper, operators::ADD, vec![accumulated, more]);
    let unchanged = accumulator(helper);
    let (found, wanted) = (accumulator(helper), one(helper));
    Quantifier {
        init: literal(helper, LiteralValue::Int(0.into())),
        condition: literal(helper, LiteralValue::Boolean(true.into())),
        step: call(helper, operators::CONDITIONAL, vec![predicate, counted, unchanged]),
        result: call(helper, operators::EQUALS, vec![found, wanted]),
    }
}

/// A step that is taken only where the filter, if there is one, holds.
fn filtered(helper: Helper<'_, '_>, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
    match filter {
        None => step,
        Some(filter) => {
            let unchanged = accumulator(helper);
            call(helper, operators::CONDITIONAL, vec![filter, step, unchanged])
        }
    }
}

fn transform(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    init: Expr,
    step: &dyn Fn(Helper<'_, '_>, &str, IdedExpr) -> IdedExpr,
) -> Expansion {
    let names = variables(helper, args)?;
    let value = args.pop().unwrap_or_default();
    let filter = if args.len() == 3 { args.pop() } else { None };
    let step = step(helper, &names.0, value);
    let step = filtered(helper, filter, step);
    let parts = Quantifier {
        init: helper.next_expr(init),
        condition: literal(helper, LiteralValue::Boolean(true.into())),
        step,
        result: accumulator(helper),
    };
    fold(helper, target, names, parts)
}

fn transform_list(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expansion {
    transform(helper, target, args, Expr::List(ListExpr::new(Vec::new())), &|helper, _, value| {
        let accumulated = accumulator(helper);
        let item = helper.next_expr(Expr::List(ListExpr::new(vec![value])));
        call(helper, operators::ADD, vec![accumulated, item])
    })
}

fn transform_map(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expansion {
    transform(helper, target, args, Expr::Map(MapExpr { entries: Vec::new() }), &|helper, key, value| {
        let accumulated = accumulator(helper);
        let key = helper.next_expr(Expr::Ident(key.to_owned()));
        call(helper, MAP_INSERT, vec![accumulated, key, value])
    })
}

fn transform_entries(
    helper: Helper<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expansion {
    transform(helper, target, args, Expr::Map(MapExpr { entries: Vec::new() }), &|helper, _, value| {
        let accumulated = accumulator(helper);
        call(helper, MAP_INSERT, vec![accumulated, value])
    })
}

/// `l.sortBy(e, key)`: the list is named, so that it is evaluated once, and sorted by the list of its keys.
fn sort_by(helper: Helper<'_, '_>, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>) -> Expansion {
    let key = args.pop().unwrap_or_default();
    let Expr::Ident(var) = &args[0].expr else {
        return Err(helper.new_error(args[0].id, "argument must be a simple name"));
    };
    let (var, input) =
        (var.clone(), |helper: Helper<'_, '_>| helper.next_expr(Expr::Ident(SORT_INPUT.to_owned())));
    let accumulated = accumulator(helper);
    let item = helper.next_expr(Expr::List(ListExpr::new(vec![key])));
    let keys = ComprehensionExpr {
        iter_range: input(helper),
        iter_var: var,
        iter_var2: None,
        accu_var: ACCUMULATOR.to_owned(),
        accu_init: helper.next_expr(Expr::List(ListExpr::new(Vec::new()))),
        loop_cond: literal(helper, LiteralValue::Boolean(true.into())),
        loop_step: call(helper, operators::ADD, vec![accumulated, item]),
        result: accumulator(helper),
    };
    let keys = helper.next_expr(Expr::Comprehension(Box::new(keys)));
    let sorted = CallExpr {
        func_name: SORT_BY_KEYS.to_owned(),
        target: Some(Box::new(input(helper))),
        args: vec![keys],
    };
    let bound = ComprehensionExpr {
        iter_range: helper.next_expr(Expr::List(ListExpr::new(Vec::new()))),
        iter_var: "#unused".to_owned(),
        iter_var2: None,
        accu_var: SORT_INPUT.to_owned(),
        accu_init: target.take().unwrap_or_default(),
        loop_cond: literal(helper, LiteralValue::Boolean(false.into())),
        loop_step: input(helper),
        result: helper.next_expr(Expr::Call(sorted)),
    };
    args.clear();
    Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(bound)))))
}
