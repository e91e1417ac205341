//! What rules of a definition must be before it is accepted.

use serde_json::{Value, json};

use super::declare::{Declared, declare, max_cardinality};
use super::{Source, compile, field_path};
use crate::cel::Type;
use crate::field::{Error, ErrorList, Path};
use crate::schema::ListKind;
use crate::structural::{Additional, Structural};

/// The most that one expression may cost by its estimate.
const EXPRESSION_LIMIT: u64 = 10_000_000;
/// The most that all expressions of a definition may cost by their estimates.
const TOTAL_LIMIT: u64 = 100_000_000;
/// How many of the most expensive are named when the total is too much.
const NAMED: usize = 4;
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Everything that is wrong with the rules of a schema that is structural.
pub fn check_rules(path: &Path, schema: &Structural) -> ErrorList {
    let declared = declare(schema, true, "selfType");
    let mut check = Check { errors: ErrorList::new(), costs: Vec::new() };
    let place = Place { cardinality: Some(1), uncorrelatable: None };
    check.node(path, schema, schema, declared.as_ref(), &place);
    check.total(path);
    check.errors
}

/// Where in the schema a node is.
#[derive(Clone)]
struct Place {
    /// How often values of the node can be in an object; none if that is not bounded.
    cardinality: Option<u64>,
    /// The list above whose items cannot be told apart.
    uncorrelatable: Option<Path>,
}

impl Place {
    fn times(&self, count: Option<i64>) -> Self {
        let count = count.map(|count| u64::try_from(count).unwrap_or(0));
        let cardinality = self.cardinality.zip(count).map(|(a, b)| a.saturating_mul(b));
        Self { cardinality, uncorrelatable: self.uncorrelatable.clone() }
    }
}

struct Check {
    errors: ErrorList,
    costs: Vec<(u64, Path)>,
}

impl Check {
    fn node(
        &mut self,
        path: &Path,
        rules: &Structural,
        schema: &Structural,
        declared: Option<&Declared>,
        place: &Place,
    ) {
        let below = declared.and_then(|declared| declared.items.as_deref());
        if let Some((rules, items)) = rules.items.as_deref().zip(schema.items.as_deref()) {
            let mut place = place.times(schema.constraints().max_items);
            if schema.list_type != Some(ListKind::Map) {
                place.uncorrelatable.get_or_insert_with(|| path.clone());
            }
            self.node(&path.child("items"), rules, items, below, &place);
        }
        if let (Some(Additional::Of(rules)), Some(Additional::Of(value))) =
            (&rules.additional, &schema.additional)
        {
            let place = place.times(schema.constraints().max_properties);
            self.node(&path.child("additionalProperties"), rules, value, below, &place);
        }
        for (name, rules) in &rules.properties {
            let Some(property) = schema.properties.get(name) else { continue };
            let declared = declared.and_then(|declared| declared.fields.get(name));
            self.node(&path.child("properties").key(name.clone()), rules, property, declared, place);
        }
        for (index, rules) in rules.constraints().all_of.iter().enumerate() {
            self.node(&path.child("allOf").index(index), rules, schema, declared, place);
        }
        let at = path.child("x-kubernetes-validations");
        for (index, rule) in rules.rules.iter().enumerate() {
            let source = Source::read(rule);
            let at = at.index(index);
            let before = self.errors.len();
            self.form(&at, &source, schema);
            if self.errors.len() > before {
                continue;
            }
            match declared {
                Some(declared) => self.expressions(&at, &source, declared, place),
                None => {
                    let why =
                        "internal error: failed to retrieve type information for x-kubernetes-validations";
                    self.errors.push(Error::internal(&path.child("x-kubernetes-validations"), &why));
                }
            }
        }
    }

    /// What a rule is beside its expressions.
    fn form(&mut self, at: &Path, source: &Source, schema: &Structural) {
        let broken = |text: &str| text.contains(['\n', '\r']);
        let (rule, message) = (source.rule.trim(), source.message.trim());
        let errors = &mut self.errors;
        if rule.is_empty() {
            errors.push(Error::required(&at.child("rule"), "rule is not specified"));
        } else if !source.message.is_empty() && message.is_empty() {
            errors.push(Error::invalid(
                &at.child("message"),
                &source.message,
                "must be non-empty if specified",
            ));
        } else if broken(message) {
            errors.push(Error::invalid(
                &at.child("message"),
                &source.message,
                "must not contain line breaks",
            ));
        } else if broken(rule) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&at.child("message"), why));
        }
        if !source.message_expression.is_empty() && source.message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&at.child("messageExpression"), why));
        }
        if let Some(reason) = source.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported(&at.child("reason"), reason, &REASONS));
        }
        let path = &source.field_path;
        if path.is_empty() {
            return;
        }
        let at = at.child("fieldPath");
        if path.trim().is_empty() {
            errors.push(Error::invalid(&at, path, "must be non-empty if specified"));
        }
        if broken(path) {
            errors.push(Error::invalid(&at, path, "must not contain line breaks"));
        }
        if field_path::resolve(path, schema).is_err() {
            errors.push(Error::invalid(&at, path, "must be a valid path"));
        }
    }

    fn expressions(&mut self, at: &Path, source: &Source, declared: &Declared, place: &Place) {
        let env = compile::environment(declared, source.optional_old_self == Some(true));
        let rule_at = at.child("rule");
        let refuse = |why: String| Error::invalid(&rule_at, shown(source), why);
        let program = match env.compile(source.rule.trim()) {
            Ok(program) if matches!(program.output(), Type::Bool) => program,
            Ok(_) => return self.errors.push(refuse("cel expression must evaluate to a bool".into())),
            Err(error) => return self.errors.push(refuse(format!("compilation failed: {error}"))),
        };
        let times = place.cardinality.unwrap_or_else(|| max_cardinality(declared.min_size));
        let cost = program.estimate().max.saturating_mul(times);
        self.cost(rule_at.clone(), "estimated rule cost", cost);
        self.message(&at.child("messageExpression"), source, &env);
        if program.uses("oldSelf") {
            if let Some(list) = &place.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                self.errors.push(Error::invalid(&rule_at, &source.rule, why));
            }
        } else if let Some(optional) = source.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&at.child("optionalOldSelf"), optional, why));
        }
    }

    fn message(&mut self, at: &Path, source: &Source, env: &crate::cel::Environment) {
        if source.message_expression.is_empty() {
            return;
        }
        let refuse = |why: String| Error::invalid(at, shown(source), why);
        match env.compile(&source.message_expression) {
            Ok(program) if matches!(program.output(), Type::String) => {
                let cost = program.estimate().max;
                self.cost(at.clone(), "estimated messageExpression cost", cost);
            }
            Ok(_) => self.errors.push(refuse("messageExpression must evaluate to a string".into())),
            Err(error) => self.errors.push(refuse(format!("messageExpression compilation failed: {error}"))),
        }
    }

    fn cost(&mut self, at: Path, what: &str, cost: u64) {
        if cost > EXPRESSION_LIMIT {
            self.errors.push(Error::forbidden(&at, exceeded(what, cost, EXPRESSION_LIMIT)));
        }
        self.costs.push((cost, at));
    }

    fn total(&mut self, path: &Path) {
        let total = self.costs.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
        if total <= TOTAL_LIMIT {
            return;
        }
        self.costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in self.costs.iter().take(NAMED) {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(Error::forbidden(at, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.errors.push(Error::forbidden(path, exceeded(what, total, TOTAL_LIMIT)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, \
         and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as upstream shows it in messages.
fn shown(source: &Source) -> Value {
    json!({
        "Rule": source.rule,
        "Message": source.message,
        "MessageExpression": source.message_expression,
        "Reason": source.reason,
        "FieldPath": source.field_path,
        "OptionalOldSelf": source.optional_old_self,
    })
}
