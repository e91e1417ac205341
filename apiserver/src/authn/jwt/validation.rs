//! Everything that can be wrong with a configuration; what is right comes out compiled.

mod issuer;
mod mappings;

use std::collections::HashSet;

use knarr_api::field::{BadValue, Error, ErrorList, Path};
use serde_json::json;

use super::configuration::{
    AnonymousSection, ClaimValidationRule, Configuration, JwtAuthenticator, UserValidationRule,
};
use super::expression::{Expression, Rule};
use super::mappings::{Mappings, Rules};

/// The most issuers that one server believes.
const MAX_AUTHENTICATORS: usize = 64;

/// Compiles what is made of the tokens of each issuer, in the configuration's order.
///
/// `disallowed` are issuers that others in this server answer for.
///
/// Errors: everything that is wrong, in upstream's words.
pub fn validate(configuration: &Configuration, disallowed: &[String]) -> Result<Vec<Rules>, ErrorList> {
    let root = Path::new("jwt");
    let mut errors = ErrorList::new();
    let authenticators = &configuration.jwt;
    if authenticators.len() > MAX_AUTHENTICATORS {
        return Err(Error::too_many(&root, authenticators.len(), MAX_AUTHENTICATORS).into());
    }
    let (mut urls, mut discovery_urls) = (HashSet::new(), HashSet::new());
    let mut compiled = Vec::with_capacity(authenticators.len());
    for (at, authenticator) in authenticators.iter().enumerate() {
        let path = root.index(at);
        compiled.push(rules(authenticator, disallowed, &path, &mut errors));
        let issuer = &authenticator.issuer;
        let path = path.child("issuer");
        if !urls.insert(&issuer.url) {
            errors.push(Error::duplicate(&path.child("url"), &issuer.url));
        }
        if !issuer.discovery_url.is_empty() && !discovery_urls.insert(&issuer.discovery_url) {
            errors.push(Error::duplicate(&path.child("discoveryURL"), &issuer.discovery_url));
        }
    }
    if let Some(section) = &configuration.anonymous {
        anonymous(section, &mut errors);
    }
    errors.into_result().map(|()| compiled)
}

fn anonymous(section: &AnonymousSection, errors: &mut ErrorList) {
    if section.enabled || section.conditions.is_empty() {
        return;
    }
    let conditions = section.conditions.iter().map(|condition| json!({"Path": condition.path})).collect();
    errors.push(Error::invalid(
        &Path::new("anonymous").child("conditions"),
        BadValue::Json(conditions),
        "enabled should be set to true when conditions are defined",
    ));
}

fn rules(
    authenticator: &JwtAuthenticator,
    disallowed: &[String],
    path: &Path,
    errors: &mut ErrorList,
) -> Rules {
    issuer::validate(&authenticator.issuer, disallowed, &path.child("issuer"), errors);
    let claims = path.child("claimValidationRules");
    let (required, claim_rules) = claim_rules(&authenticator.claim_validation_rules, &claims, errors);
    let mapped = path.child("claimMappings");
    let mappings = mappings::compile(&authenticator.claim_mappings, &mapped, errors);
    verified_email(authenticator, &mappings, &claim_rules, &mapped, errors);
    let users = path.child("userValidationRules");
    let user_rules = user_rules(&authenticator.user_validation_rules, &users, errors);
    Rules { mappings, required, claim_rules, user_rules }
}

/// An address that nobody has shown to be the user's must not become their name unseen.
fn verified_email(
    authenticator: &JwtAuthenticator,
    mappings: &Mappings,
    claim_rules: &[Rule],
    path: &Path,
    errors: &mut ErrorList,
) {
    let Some(username) = mappings.username.expression() else { return };
    let rules = claim_rules.iter().map(|rule| &rule.expression);
    let extra = mappings.extra.iter().map(|(_, expression)| expression);
    let mut looked_at = rules.chain(extra).chain([username]);
    if username.selects("email") && !looked_at.any(|expression| expression.selects("email_verified")) {
        errors.push(Error::invalid(
            &path.child("username").child("expression"),
            &authenticator.claim_mappings.username.expression,
            "claims.email_verified must be used in claimMappings.username.expression or \
             claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
             in claimMappings.username.expression",
        ));
    }
}

fn claim_rules(
    rules: &[ClaimValidationRule],
    path: &Path,
    errors: &mut ErrorList,
) -> (Vec<(String, String)>, Vec<Rule>) {
    let (mut claims, mut expressions) = (HashSet::new(), HashSet::new());
    let (mut required, mut compiled) = (Vec::new(), Vec::new());
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(Error::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let detail = "may not be specified when claim is set";
                    errors.push(Error::invalid(&path.child("message"), &rule.message, detail));
                }
                if !claims.insert(claim) {
                    errors.push(Error::duplicate(&path.child("claim"), claim));
                }
                required.push((claim.to_owned(), rule.required_value.clone()));
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let detail = "may not be specified when expression is set";
                    errors.push(Error::invalid(&path.child("requiredValue"), &rule.required_value, detail));
                }
                let path = path.child("expression");
                if !expressions.insert(expression) {
                    errors.push(Error::duplicate(&path, expression));
                    continue;
                }
                let expression =
                    compiled_or(Expression::claims_condition(expression), &path, expression, errors);
                compiled
                    .extend(expression.map(|expression| Rule { expression, message: rule.message.clone() }));
            }
            (claim, _) => {
                errors.push(Error::invalid(&path, claim, "claim and expression can't both be set"));
            }
        }
    }
    (required, compiled)
}

fn user_rules(rules: &[UserValidationRule], path: &Path, errors: &mut ErrorList) -> Vec<Rule> {
    let mut expressions = HashSet::new();
    let mut compiled = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at).child("expression");
        let text = rule.expression.as_str();
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !expressions.insert(text) {
            errors.push(Error::duplicate(&path, text));
        } else {
            let expression = compiled_or(Expression::user_condition(text), &path, text, errors);
            compiled.extend(expression.map(|expression| Rule { expression, message: rule.message.clone() }));
        }
    }
    compiled
}

/// The expression, or one more error.
fn compiled_or(
    expression: Result<Expression, String>,
    path: &Path,
    text: &str,
    errors: &mut ErrorList,
) -> Option<Expression> {
    expression.map_err(|why| errors.push(Error::invalid(path, text, why))).ok()
}

#[cfg(test)]
mod tests;
