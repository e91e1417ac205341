//! Evaluating rules on an object.

use serde_json::Value as Json;

use super::{Checked, Node, Rule};
use crate::cel::{Activation, EvalError, PER_CALL_LIMIT, Program, RUNTIME_BUDGET, Value};
use crate::field::{BadValue, Error, Path};
use crate::structural::Form;

/// A message may not be longer.
const MAX_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

pub(super) fn evaluate(root: &Node, object: &Json, old: Option<&Json>) -> Checked {
    let mut run = Run { budget: RUNTIME_BUDGET, checked: Checked::default() };
    let unchanged = Ratchet { current: old.map(|old| (object, old)), parent: None };
    // An exhausted budget has been told of where it ran out.
    let _ = run.node(&Path::nil(), root, object, old, unchanged);
    run.checked
}

/// The budget is spent: nothing more is evaluated.
struct Exhausted;

/// What the value was before, as far as that can be told.
#[derive(Clone, Copy, Default)]
struct Ratchet<'v> {
    current: Option<(&'v Json, &'v Json)>,
    /// The nearest place above that can be told.
    parent: Option<(&'v Json, &'v Json)>,
}

impl<'v> Ratchet<'v> {
    /// Whether a fault was there before.
    fn is_unchanged(&self) -> bool {
        self.current.or(self.parent).is_some_and(|(new, old)| new == old)
    }

    fn below(&self, new: &'v Json, old: Option<&'v Json>) -> Self {
        if self.current.is_none() {
            return *self;
        }
        Self { current: old.map(|old| (new, old)), parent: self.current }
    }

    fn field(&self, name: &str, new: &'v Json) -> Self {
        if self.parent.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self::default();
        }
        self.below(new, self.current.and_then(|(_, old)| old.get(name)))
    }
}

struct Run {
    budget: i64,
    checked: Checked,
}

impl Run {
    fn node(
        &mut self,
        path: &Path,
        node: &Node,
        object: &Json,
        old: Option<&Json>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Exhausted> {
        if object.is_null() {
            return Ok(());
        }
        self.rules(path, node, object, old.filter(|old| !old.is_null()), ratchet)?;
        for part in &node.all_of {
            let ratchet = Ratchet { current: None, parent: ratchet.parent };
            self.node(path, part, object, old, ratchet)?;
        }
        match object {
            Json::Object(members) => {
                for (name, value) in members {
                    let before = old.and_then(|old| old.get(name));
                    if let Some(below) = node.properties.get(name) {
                        let ratchet = ratchet.field(name, value);
                        self.node(&path.child(name.clone()), below, value, before, ratchet)?;
                    } else if let Some(below) = &node.additional {
                        let ratchet = ratchet.field(name, value);
                        self.node(&path.key(name.clone()), below, value, before, ratchet)?;
                    }
                }
            }
            Json::Array(items) => {
                let Some(below) = &node.items else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let before = continued(node, old, item);
                    let of = ratchet.current.and_then(|(_, old)| continued(node, Some(old), item));
                    self.node(&path.index(index), below, item, before, ratchet.below(item, of))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, path: &Path, node: &Node, detail: impl Into<String>) {
        let form = node.form.map_or("", Form::name);
        self.checked.errors.push(Error::invalid(path, form, detail));
    }

    fn rules(
        &mut self,
        path: &Path,
        node: &Node,
        object: &Json,
        old: Option<&Json>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Exhausted> {
        if node.rules.is_empty() {
            return Ok(());
        }
        if self.budget <= 0 {
            self.fail(path, node, OUT_OF_BUDGET);
            return Err(Exhausted);
        }
        for rule in &node.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.fail(path, node, format!("rule compile error: {why}"));
                    continue;
                }
            };
            let optional = rule.source.optional_old_self == Some(true);
            if rule.uses_old && old.is_none() && !optional {
                continue;
            }
            let activation = match activation(node, object, old, optional) {
                Ok(activation) => activation,
                Err(why) => {
                    self.fail(path, node, format!("{why} evaluating rule: {}", rule.source.name()));
                    continue;
                }
            };
            if !self.holds(path, node, rule, program, &activation)? {
                self.tell(path, node, rule, &activation, object, ratchet)?;
            }
        }
        Ok(())
    }

    /// Whether a rule holds; what cannot be evaluated is told of here and counts as holding.
    fn holds<'a>(
        &mut self,
        path: &Path,
        node: &Node,
        rule: &Rule,
        program: &'a Program,
        activation: &'a Activation<'a>,
    ) -> Result<bool, Exhausted> {
        let evaluated = program.evaluate(activation, PER_CALL_LIMIT);
        if !self.pay(evaluated.cost) {
            self.fail(path, node, OUT_OF_BUDGET);
            return Err(Exhausted);
        }
        let name = rule.source.name();
        match evaluated.result {
            Ok(Value::Bool(holds)) => return Ok(holds),
            Ok(_) => return Ok(false),
            Err(why @ EvalError::CostLimit) => {
                let limit = "no further validation rules will be run due to call cost exceeds limit for rule";
                self.fail(path, node, format!("'{why}': {limit}: {name}"));
                return Err(Exhausted);
            }
            Err(why @ EvalError::NoSuchOverload) => {
                let signature =
                    "call arguments did not match a supported operator, function or macro signature";
                self.fail(path, node, format!("'{why}': {signature} for rule: {name}"));
            }
            Err(why) => self.fail(path, node, format!("{why} evaluating rule: {name}")),
        }
        Ok(true)
    }

    fn pay(&mut self, cost: u64) -> bool {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_sub(cost);
        self.budget >= 0
    }

    /// Adds the fault of a rule that does not hold.
    fn tell<'a>(
        &mut self,
        path: &Path,
        node: &Node,
        rule: &'a Rule,
        activation: &'a Activation<'a>,
        object: &Json,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Exhausted> {
        let at = match rule.field_path.as_str() {
            "" => path.clone(),
            below => path.child(below.to_owned()),
        };
        let detail = match self.message(rule, activation) {
            Ok(message) => message.unwrap_or_else(|| rule.source.default_message()),
            Err(why) => {
                self.fail(&at, node, why);
                return Err(Exhausted);
            }
        };
        let value = match node.form {
            Some(Form::Object | Form::Array) => BadValue::Omitted,
            _ => BadValue::from(object),
        };
        let error = match rule.source.reason.as_deref() {
            Some("FieldValueForbidden") => Error::forbidden(&at, detail),
            Some("FieldValueRequired") => Error::required(&at, detail),
            Some("FieldValueDuplicate") => Error::duplicate(&at, value),
            _ => Error::invalid(&at, value, detail),
        };
        if !rule.uses_old && ratchet.is_unchanged() {
            self.checked.warnings.push(error.to_string());
        } else {
            self.checked.errors.push(error);
        }
        Ok(())
    }

    /// The message that the rule's own expression makes, if it makes a usable one.
    ///
    /// Errors: the budget is spent.
    fn message<'a>(
        &mut self,
        rule: &'a Rule,
        activation: &'a Activation<'a>,
    ) -> Result<Option<String>, String> {
        let Some(program) = &rule.message else { return Ok(None) };
        let evaluated = program.evaluate(activation, PER_CALL_LIMIT);
        if !self.pay(evaluated.cost) {
            let why = "messageExpression evaluation failed due to running out of cost budget";
            return Err(format!("{why}, no further validation rules will be run"));
        }
        match evaluated.result {
            Ok(Value::String(text)) => {
                let text = text.trim();
                let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(usable.then(|| text.to_owned()))
            }
            Err(EvalError::CostLimit) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                crate::field::quote(&rule.source.message_expression)
            )),
            _ => Ok(None),
        }
    }
}

/// The old item that an item continues.
fn continued<'v>(node: &Node, old: Option<&'v Json>, item: &Json) -> Option<&'v Json> {
    let keys = node.item_keys.as_ref()?;
    old?.as_array()?.iter().find(|other| keys.iter().all(|key| other.get(key) == item.get(key)))
}

fn activation<'a>(
    node: &'a Node,
    object: &'a Json,
    old: Option<&'a Json>,
    optional: bool,
) -> Result<Activation<'a>, EvalError> {
    let mut activation = Activation::new();
    activation.set("self", Value::from_json(object, &node.of)?);
    let old = old.map(|old| Value::from_json(old, &node.of)).transpose()?;
    match (old, optional) {
        (old, true) => activation.set("oldSelf", Value::optional(old)),
        (Some(old), false) => activation.set("oldSelf", old),
        (None, false) => {}
    }
    Ok(activation)
}
