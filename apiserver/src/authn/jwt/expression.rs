//! Expressions about the claims of a token, and about the user that is made of them.

use std::fmt;
use std::sync::LazyLock;

use knarr_api::cel::{Activation, Environment, PER_CALL_LIMIT, Program, Type, Value as Cel};
use serde_json::Value;

pub(super) const CLAIMS: &str = "claims";
const USER: &str = "user";

static CLAIMS_ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().with(CLAIMS, Type::map(Type::String, Type::Dyn)));
static USER_TYPE: LazyLock<Type> = LazyLock::new(|| {
    let texts = Type::list(Type::String);
    let fields = [
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", texts.clone()),
        ("extra", Type::map(Type::String, texts)),
    ];
    Type::object("kubernetes.UserInfo", fields)
});
static USER_ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().with(USER, USER_TYPE.clone()));

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: Program,
}

/// A rule, and what is said when it does not hold.
#[derive(Debug)]
pub struct Rule {
    pub expression: Expression,
    pub message: String,
}

impl Expression {
    /// An expression about claims that may be anything.
    pub fn of_claims(text: &str) -> Result<Self, String> {
        Self::compile(&CLAIMS_ENVIRONMENT, text)
    }

    /// An expression about claims that is true or false.
    pub fn claims_condition(text: &str) -> Result<Self, String> {
        Self::compile(&CLAIMS_ENVIRONMENT, text)?.condition()
    }

    /// An expression about the user that is true or false.
    pub fn user_condition(text: &str) -> Result<Self, String> {
        Self::compile(&USER_ENVIRONMENT, text)?.condition()
    }

    fn compile(environment: &Environment, text: &str) -> Result<Self, String> {
        let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"))?;
        Ok(Self { text: text.to_owned(), program })
    }

    fn condition(self) -> Result<Self, String> {
        match self.program.output() {
            Type::Bool => Ok(self),
            _ => Err("must evaluate to bool".to_owned()),
        }
    }

    /// Whether the expression selects this claim.
    pub fn selects(&self, claim: &str) -> bool {
        self.program.fields_of(CLAIMS).contains(claim)
    }

    /// The expression's value; the claims are as [`claims_value`] makes them.
    pub fn on_claims<'a>(&'a self, claims: &'a Value) -> Result<Cel<'a>, String> {
        self.evaluate(CLAIMS, Cel::from_untyped(claims))
    }

    /// The expression's value; the user is as [`user_value`] makes them.
    pub fn on_user<'a>(&'a self, user: &'a Value) -> Result<Cel<'a>, String> {
        let user = Cel::from_json(user, &USER_TYPE).map_err(|error| error.to_string())?;
        self.evaluate(USER, user)
    }

    fn evaluate<'a>(&'a self, name: &'a str, value: Cel<'a>) -> Result<Cel<'a>, String> {
        let mut activation = Activation::new();
        activation.set(name, value);
        let evaluated = self.program.evaluate(&activation, PER_CALL_LIMIT);
        evaluated.result.map_err(|error| format!("expression '{}' resulted in error: {error}", self.text))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    /// Whether the rule, which came to this value, holds.
    pub fn holds(&self, value: &Cel<'_>) -> Result<(), String> {
        match value {
            Cel::Bool(true) => Ok(()),
            Cel::Bool(false) => {
                let Self { expression, message } = self;
                Err(format!("validation expression '{expression}' failed: {message}"))
            }
            _ => Err("validation expression must return a boolean".to_owned()),
        }
    }
}

/// Claims as expressions see them: every number is a double, as Go reads JSON.
pub(super) fn claims_value(claims: &serde_json::Map<String, Value>) -> Value {
    Value::Object(claims.iter().map(|(name, claim)| (name.clone(), doubles(claim))).collect())
}

fn doubles(value: &Value) -> Value {
    match value {
        // What no double can hold stays as it is; serde_json reads no such number.
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => items.iter().map(doubles).collect(),
        Value::Object(members) => claims_value(members),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_must_be_known_to_be_true_or_false() {
        let refused = |text: &str| Expression::claims_condition(text).expect_err("refused");
        assert_eq!(refused("claims.admin"), "must evaluate to bool");
        assert!(refused("claims.").starts_with("compilation failed: ERROR: <input>:1:"));
        assert!(refused("user.name == 'x'").contains("undeclared reference to 'user'"));
        assert!(Expression::claims_condition("claims.admin == true").is_ok());
        assert!(Expression::user_condition("user.groups.all(g, !g.startsWith('system:'))").is_ok());
        assert!(Expression::user_condition("user.name == 'x'").is_err());
    }

    #[test]
    fn selected_claims_are_known_however_they_are_selected() {
        for text in ["claims.email", "has(claims.email)", "claims.?email.orValue('')", "[claims.email + 'x']"]
        {
            assert!(Expression::of_claims(text).expect("compiles").selects("email"), "{text}");
        }
        assert!(!Expression::of_claims("claims.sub").expect("compiles").selects("email"));
    }

    #[test]
    fn claims_are_read_as_go_reads_json() {
        let claims = json!({"level": 3, "nested": {"list": ["a"]}});
        let claims = claims_value(claims.as_object().expect("an object"));
        let yes = |text: &str| {
            let expression = Expression::of_claims(text).expect("compiles");
            matches!(expression.on_claims(&claims), Ok(Cel::Bool(true)))
        };
        assert!(yes("claims.level >= 3 && type(claims.level) == double"));
        assert!(yes("'a' in claims.nested.list"));
        let missing = Expression::of_claims("claims.none").expect("compiles");
        assert_eq!(
            missing.on_claims(&claims).expect_err("missing"),
            "expression 'claims.none' resulted in error: no such key: none"
        );
    }
}
