//! Match conditions: expressions that spare a webhook or policy the requests it does not care about.

use knarr_api::cel::{Activation, Decisions, EvalError, PER_CALL_LIMIT, Program, Type, Value as Cel};

use super::definition::Condition;
use super::environment::{Scope, environment};

/// What all match conditions of one webhook or policy may cost together.
const BUDGET: i64 = 2_500_000;

/// Compiled conditions.
#[derive(Default)]
pub struct Conditions(Vec<Compiled>);

struct Compiled {
    name: String,
    expression: String,
    program: Result<Program, String>,
}

/// What the conditions came to.
pub enum Verdict {
    Match,
    /// The first condition that is false.
    NoMatch,
    /// None is false, and these could not be evaluated.
    Failed(String),
    /// The authorizer has to be asked.
    Undecided(Box<knarr_api::cel::Check>),
}

impl Conditions {
    /// The conditions of a webhook.
    pub fn compile(conditions: &[Condition]) -> Self {
        Self::compile_in(conditions, Scope { authorizer: true, ..Scope::default() })
    }

    pub fn compile_in(conditions: &[Condition], scope: Scope) -> Self {
        if conditions.is_empty() {
            return Self::default();
        }
        let env = environment(scope, &Type::Dyn, &Type::Dyn);
        let compiled = conditions.iter().map(|condition| {
            let program = env.compile(&condition.expression);
            Compiled {
                name: condition.name.clone(),
                expression: condition.expression.clone(),
                program: program.map_err(|error| format!("compilation error: compilation failed: {error}")),
            }
        });
        Self(compiled.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all conditions hold. One that is false settles it even when another fails.
    pub fn evaluate<'a>(&'a self, activation: &mut Activation<'a>, decisions: &'a Decisions) -> Verdict {
        activation.set_authorizer("authorizer", decisions);
        let mut failures: Vec<String> = Vec::new();
        let mut budget = BUDGET;
        for condition in &self.0 {
            let program = match &condition.program {
                Ok(program) => program,
                Err(why) => {
                    failures.push(why.clone());
                    continue;
                }
            };
            let evaluated = program.evaluate(activation, PER_CALL_LIMIT);
            budget -= i64::try_from(evaluated.cost).unwrap_or(i64::MAX);
            match evaluated.result {
                _ if budget < 0 => {
                    failures.push("validation failed due to running out of cost budget, no further validation rules will be run".into());
                    break;
                }
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => {
                    tracing::trace!(condition = condition.name, "a match condition does not hold");
                    return Verdict::NoMatch;
                }
                Ok(_) => failures
                    .push(format!("cel evaluation did not return a bool for {}", condition.expression)),
                Err(EvalError::Undecided(check)) => return Verdict::Undecided(check),
                Err(why) => {
                    failures.push(format!("expression '{}' resulted in error: {why}", condition.expression));
                }
            }
        }
        match failures.len() {
            0 => Verdict::Match,
            1 => Verdict::Failed(failures.remove(0)),
            _ => Verdict::Failed(format!("[{}]", failures.join(", "))),
        }
    }
}
