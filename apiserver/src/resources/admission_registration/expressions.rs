//! Expressions in webhooks and policies: what does not compile is refused.

use std::collections::BTreeSet;

use knarr_api::cel::{Environment, Type};
use knarr_api::field::{Error, ErrorList};
use knarr_api::names;

use super::At;
use crate::admission::policy::{Scope, environment};

const MAX_CONDITIONS: usize = 64;

/// Conditions under which a webhook or policy is asked.
pub(super) fn match_conditions(of: &At<'_>, params: bool, errors: &mut ErrorList) {
    let count = of.list("matchConditions").len();
    if count > MAX_CONDITIONS {
        errors.push(Error::too_many(of.at("matchConditions").path(), count, MAX_CONDITIONS));
    }
    if count == 0 {
        return;
    }
    let scope = Scope { params, authorizer: true, ..Scope::default() };
    let env = environment(scope, &Type::Dyn, &Type::Dyn);
    let mut seen = BTreeSet::new();
    for condition in of.items("matchConditions") {
        let expression = condition.at("expression");
        if expression.str().trim().is_empty() {
            errors.push(expression.required(""));
        } else {
            compiles(&expression, expression.str().trim(), &env, &[Type::Bool], errors);
        }
        let name = condition.at("name");
        if name.str().is_empty() {
            errors.push(name.required(""));
            continue;
        }
        name.check(errors, names::qualified_name);
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
    }
}

/// Whether an expression compiles to one of some types; none for any.
pub(super) fn compiles(
    at: &At<'_>,
    expression: &str,
    env: &Environment,
    wanted: &[Type],
    errors: &mut ErrorList,
) -> Option<Type> {
    match env.compile(expression) {
        Err(error) => {
            errors.push(at.invalid(format!("compilation failed: {error}")));
            None
        }
        Ok(program) => {
            let of = program.output();
            if !wanted.is_empty() && !wanted.contains(of) && !matches!(of, Type::Dyn) {
                let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                errors.push(at.invalid(match names.as_slice() {
                    [one] => format!("must evaluate to {one}"),
                    _ => format!("must evaluate to one of [{}]", names.join(" ")),
                }));
            }
            Some(of.clone())
        }
    }
}
