//! From the claims of a token to a user.

use std::collections::BTreeMap;

use knarr_api::cel::Value as Cel;
use knarr_api::field::quote;
use serde_json::{Map, Value, json};

use super::expression::{Expression, Rule, claims_value};
use crate::user::UserInfo;

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

pub type Claims = Map<String, Value>;

/// Where an attribute of the user comes from.
#[derive(Debug)]
pub enum Source {
    /// Nowhere.
    None,
    Claim {
        name: String,
        prefix: String,
    },
    Expression(Expression),
}

/// What a configuration makes of the claims of one issuer's tokens.
#[derive(Debug)]
pub struct Mappings {
    pub username: Source,
    pub groups: Source,
    pub uid: Source,
    pub extra: Vec<(String, Expression)>,
}

/// Mappings, and the rules about claims and users.
#[derive(Debug)]
pub struct Rules {
    pub mappings: Mappings,
    /// Claims that must have these texts.
    pub required: Vec<(String, String)>,
    pub claim_rules: Vec<Rule>,
    pub user_rules: Vec<Rule>,
}

impl Source {
    pub fn claim(name: &str, prefix: &str) -> Self {
        Self::Claim { name: name.to_owned(), prefix: prefix.to_owned() }
    }

    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Expression(expression) => Some(expression),
            _ => None,
        }
    }
}

impl Rules {
    /// The user that the claims are about.
    ///
    /// Errors: why these claims make none, in upstream's words.
    pub fn user(&self, claims: &Claims) -> Result<UserInfo, String> {
        let values = claims_value(claims);
        let user = UserInfo {
            name: self.mappings.username(claims, &values)?,
            groups: self.mappings.groups(claims, &values)?,
            uid: self.mappings.uid(claims, &values)?,
            extra: self.mappings.extra(claims, &values)?,
        };
        self.check_required(claims)?;
        for rule in &self.claim_rules {
            let checked = rule.expression.on_claims(&values).and_then(|value| rule.holds(&value));
            checked.map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        }
        self.check_user(&user)?;
        Ok(user)
    }

    fn check_required(&self, claims: &Claims) -> Result<(), String> {
        for (claim, wanted) in &self.required {
            if !claims.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let value = text(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if value != *wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {value}, want = {wanted}"
                ));
            }
        }
        Ok(())
    }

    fn check_user(&self, user: &UserInfo) -> Result<(), String> {
        let value = json!({
            "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        });
        for rule in &self.user_rules {
            let checked = rule.expression.on_user(&value).and_then(|value| rule.holds(&value));
            checked.map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        Ok(())
    }
}

impl Mappings {
    fn username(&self, claims: &Claims, values: &Value) -> Result<String, String> {
        match &self.username {
            Source::Claim { name, prefix } => {
                let username = text(claims, name)
                    .map_err(|why| format!("oidc: parse username claims {}: {why}", quote(name)))?;
                if name == "email" {
                    check_verified(claims)?;
                }
                Ok(format!("{prefix}{username}"))
            }
            Source::Expression(expression) => match evaluate_text(expression, values, "username")? {
                empty if empty.is_empty() => {
                    Err("oidc: empty username via CEL expression is not allowed".to_owned())
                }
                username => Ok(username),
            },
            Source::None => Err("oidc: no username is configured".to_owned()),
        }
    }

    fn groups(&self, claims: &Claims, values: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Source::Claim { name, prefix } => {
                let Some(claim) = claims.get(name) else { return Ok(Vec::new()) };
                let groups = one_or_many(claim)
                    .map_err(|why| format!("oidc: parse groups claim {}: {why}", quote(name)))?;
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
            Source::Expression(expression) => {
                let groups = expression.on_claims(values).and_then(|value| texts(&value));
                groups.map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))
            }
            Source::None => Ok(Vec::new()),
        }
    }

    fn uid(&self, claims: &Claims, values: &Value) -> Result<String, String> {
        match &self.uid {
            Source::Claim { name, .. } => {
                text(claims, name).map_err(|why| format!("oidc: parse uid claim {}: {why}", quote(name)))
            }
            Source::Expression(expression) => evaluate_text(expression, values, "uid"),
            Source::None => Ok(String::new()),
        }
    }

    fn extra(&self, claims: &Claims, values: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let value = expression.on_claims(values)?;
            let found = texts(&value).map_err(|why| {
                format!("oidc: error evaluating extra claim expression: {expression}: {why}")
            })?;
            if !found.is_empty() {
                extra.insert(key.clone(), found);
            }
        }
        Ok(extra)
    }
}

/// An address that the issuer says is not verified names nobody.
fn check_verified(claims: &Claims) -> Result<(), String> {
    match claims.get("email_verified") {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false) | Value::Null) => Err("oidc: email not verified".to_owned()),
        Some(other) => {
            Err(format!("oidc: parse 'email_verified' claim: {}", cannot_unmarshal(other, "bool")))
        }
    }
}

fn evaluate_text(expression: &Expression, values: &Value, what: &str) -> Result<String, String> {
    let failed = |why: String| format!("oidc: error evaluating {what} claim expression: {why}");
    match expression.on_claims(values).map_err(failed)? {
        Cel::String(text) => Ok(text.to_string()),
        _ => Err(failed(format!("{what} claim expression must return a string"))),
    }
}

/// A text, a list of texts, or null; empty texts count for nothing.
fn texts(value: &Cel<'_>) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let mut found = match value {
        Cel::Null => Vec::new(),
        Cel::String(text) => vec![text.to_string()],
        Cel::List(list) => {
            let text = |item: Result<Cel<'_>, _>| match item {
                Ok(Cel::String(text)) => Ok(text.to_string()),
                _ => Err(wrong()),
            };
            list.iter().map(text).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    found.retain(|text| !text.is_empty());
    Ok(found)
}

/// A claim that is text; null is empty text, as Go reads it.
fn text(claims: &Claims, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(other) => Err(cannot_unmarshal(other, "string")),
    }
}

pub(super) fn one_or_many(claim: &Value) -> Result<Vec<String>, String> {
    match claim {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            let text = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                Value::Null => Some(String::new()),
                _ => None,
            };
            let texts: Option<Vec<String>> = items.iter().map(text).collect();
            texts.ok_or_else(|| cannot_unmarshal(claim, "string"))
        }
        other => Err(cannot_unmarshal(other, "string")),
    }
}

pub(super) fn cannot_unmarshal(value: &Value, into: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type {into}")
}

#[cfg(test)]
mod tests;
