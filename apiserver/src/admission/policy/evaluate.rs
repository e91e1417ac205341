//! Evaluating the expressions of one policy: variables when they are needed, one budget for all, and the authorizer
//! between attempts.

use std::rc::Rc;

use knarr_api::cel::{
    Activation, Check, CheckTarget, Decision, Decisions, EvalError, Map, Named, PER_CALL_LIMIT, Program,
    RUNTIME_BUDGET, Value as Cel,
};
use serde_json::Value;

use super::compile::{Compilation, Compiled};
use super::input::Input;
use crate::authz::{self, Attributes as Question, Authorizer, ResourceTarget, Target};
use crate::user::UserInfo;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Why an expression has no value.
pub enum Failure {
    /// The authorizer has to be asked.
    Undecided(Box<Check>),
    /// Nothing more is evaluated.
    OutOfBudget,
    Failed(String),
}

impl Failure {
    /// The text of a failure; a question to the authorizer is passed on.
    pub fn told(self) -> Result<String, Box<Check>> {
        match self {
            Self::Undecided(check) => Err(check),
            Self::OutOfBudget => Ok(OUT_OF_BUDGET.to_owned()),
            Self::Failed(why) => Ok(why),
        }
    }
}

/// The evaluation of one policy on one request with one parameter.
pub struct Evaluation<'a> {
    policy: &'a Compiled,
    pub activation: Activation<'a>,
    variables: Vec<Named<'a>>,
    budget: i64,
}

impl<'a> Evaluation<'a> {
    pub fn new(
        policy: &'a Compiled,
        input: &'a Input,
        param: &'a Value,
        decisions: &'a Decisions,
    ) -> Result<Self, String> {
        let mut activation = input.activation().map_err(|error| error.to_string())?;
        activation.set("params", Cel::from_untyped(param));
        activation.set_authorizer("authorizer", decisions);
        Ok(Self { policy, activation, variables: Vec::new(), budget: RUNTIME_BUDGET })
    }

    /// The value of an expression.
    pub fn value(&mut self, program: &'a Compilation, expression: &str) -> Result<Cel<'a>, Failure> {
        let program = program.as_ref().map_err(|why| Failure::Failed(why.clone()))?;
        self.evaluate(program, expression)
    }

    pub fn evaluate(&mut self, program: &'a Program, expression: &str) -> Result<Cel<'a>, Failure> {
        self.prepare(program)?;
        let evaluated = program.evaluate(&self.activation, PER_CALL_LIMIT);
        self.pay(evaluated.cost)?;
        evaluated.result.map_err(|error| match error {
            EvalError::Undecided(check) => Failure::Undecided(check),
            error => Failure::Failed(format!("expression '{expression}' resulted in error: {error}")),
        })
    }

    fn pay(&mut self, cost: u64) -> Result<(), Failure> {
        self.budget = self.budget.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
        if self.budget < 0 { Err(Failure::OutOfBudget) } else { Ok(()) }
    }

    /// Evaluates the variables that an expression names and that have no value yet.
    fn prepare(&mut self, program: &'a Program) -> Result<(), Failure> {
        let policy = self.policy;
        let wanted = program.fields_of("variables");
        if wanted.is_empty() {
            return Ok(());
        }
        for (name, variable) in &policy.variables {
            let known = self.variables.iter().any(|(known, _)| **known == **name);
            if known || !wanted.contains(name) {
                continue;
            }
            let value = match variable {
                Err(why) => Err(EvalError::Failed(why.clone())),
                Ok(program) => {
                    // A variable names only those before it, so this ends.
                    self.prepare(program)?;
                    let evaluated = program.evaluate(&self.activation, PER_CALL_LIMIT);
                    self.pay(evaluated.cost)?;
                    if let Err(EvalError::Undecided(check)) = evaluated.result {
                        return Err(Failure::Undecided(check));
                    }
                    evaluated.result
                }
            };
            self.variables.push((name.as_str().into(), value));
            let named = Map::Named(Rc::new(self.variables.clone()));
            self.activation.set("variables", Cel::Map(named));
        }
        Ok(())
    }
}

/// Runs something that evaluates expressions, again after each question that the authorizer had to be asked.
pub async fn decided<T>(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    run: impl Fn(&Decisions) -> Result<T, Box<Check>>,
) -> T {
    let mut decisions = Decisions::default();
    loop {
        match run(&decisions) {
            Ok(done) => return done,
            Err(check) => {
                let decision = ask(authorizer, user, &check).await;
                decisions.add(*check, decision);
            }
        }
    }
}

async fn ask(authorizer: &dyn Authorizer, user: &UserInfo, check: &Check) -> Decision {
    let account = check.service_account.as_ref().map(|(namespace, name)| {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
    });
    let target = match &check.target {
        CheckTarget::Path(path) => Target::Path(path),
        CheckTarget::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector,
        } => Target::Resource(ResourceTarget {
            group,
            version: "*",
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector,
        }),
    };
    let question = Question { user: account.as_ref().unwrap_or(user), verb: &check.verb, target };
    let answer: authz::Decision = authorizer.authorize(&question).await;
    Decision { allowed: answer.is_allowed(), reason: answer.reason().to_owned(), error: None }
}
