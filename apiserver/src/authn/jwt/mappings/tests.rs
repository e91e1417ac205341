use super::*;
use crate::authn::jwt::configuration::Configuration;
use crate::authn::jwt::validation::validate;

fn rules(rest: &str) -> Rules {
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, jwt: [{{issuer: {{url: \
         'https://a', audiences: [a]}}, {rest}}}]}}"
    );
    let configuration = Configuration::parse(&text).expect("a configuration");
    validate(&configuration, &[]).expect("a good one").remove(0)
}

fn user(rules: &Rules, claims: Value) -> Result<UserInfo, String> {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    rules.user(&claims)
}

#[test]
fn claims_become_a_user() {
    let rules = rules(
        "claimMappings: {username: {claim: sub, prefix: 'oidc:'}, groups: {claim: groups, prefix: 'g:'}, uid: \
         {claim: id}}",
    );
    let made =
        user(&rules, json!({"sub": "jane", "groups": ["a", "b"], "id": "7", "jti": "x"})).expect("a user");
    assert_eq!((made.name.as_str(), made.uid.as_str()), ("oidc:jane", "7"));
    assert_eq!(made.groups, ["g:a", "g:b"]);
    assert_eq!(made.extra[CREDENTIAL_ID], ["JTI=x"]);
    assert_eq!(
        user(&rules, json!({"sub": "j", "groups": "one", "id": ""})).expect("a user").groups,
        ["g:one"]
    );
    for (claims, why) in [
        (json!({}), "oidc: parse username claims \"sub\": claim not present"),
        (
            json!({"sub": 1}),
            "oidc: parse username claims \"sub\": json: cannot unmarshal number into Go value of type string",
        ),
        (
            json!({"sub": "a", "groups": [1]}),
            "oidc: parse groups claim \"groups\": json: cannot unmarshal array into Go value of type string",
        ),
        (json!({"sub": "a"}), "oidc: parse uid claim \"id\": claim not present"),
    ] {
        assert_eq!(user(&rules, claims).expect_err("refused"), why);
    }
}

#[test]
fn an_address_that_is_not_verified_names_nobody() {
    let rules = rules("claimMappings: {username: {claim: email, prefix: ''}}");
    let email = |verified: Value| user(&rules, json!({"email": "a@b", "email_verified": verified}));
    assert_eq!(email(json!(true)).expect("a user").name, "a@b");
    assert_eq!(user(&rules, json!({"email": "a@b"})).expect("a user").name, "a@b");
    assert_eq!(email(json!(false)).expect_err("refused"), "oidc: email not verified");
    assert_eq!(
        email(json!("true")).expect_err("refused"),
        "oidc: parse 'email_verified' claim: json: cannot unmarshal string into Go value of type bool"
    );
}

#[test]
fn expressions_make_a_user_and_rules_refuse_one() {
    let rules = rules(
        "claimValidationRules: [{claim: hd, requiredValue: example.com}, {expression: 'claims.level >= 2', message: \
         too low}], claimMappings: {username: {expression: 'claims.sub + \"@\" + claims.hd'}, groups: {expression: \
         'claims.?roles.orValue([])'}, uid: {expression: claims.sub}, extra: [{key: example.com/roles, \
         valueExpression: 'claims.?roles.orValue(\"\")'}]}, userValidationRules: [{expression: \
         \"user.groups.all(g, !g.startsWith('system:'))\", message: reserved}]",
    );
    let made = user(&rules, json!({"sub": "j", "hd": "example.com", "level": 2, "roles": ["a", ""]}));
    let made = made.expect("a user");
    assert_eq!((made.name.as_str(), made.uid.as_str()), ("j@example.com", "j"));
    assert_eq!(
        (&made.groups, &made.extra["example.com/roles"]),
        (&vec!["a".to_owned()], &vec!["a".to_owned()])
    );
    for (claims, why) in [
        (
            json!({"hd": "example.com", "level": 2}),
            "oidc: error evaluating username claim expression: expression 'claims.sub + \"@\" + claims.hd' resulted \
             in error: no such key: sub",
        ),
        (
            json!({"sub": "j", "hd": "other", "level": 2}),
            "oidc: required claim hd value does not match. Got = other, want = example.com",
        ),
        (
            json!({"sub": "j", "hd": "example.com", "level": 1}),
            "oidc: error evaluating claim validation expression: validation expression 'claims.level >= 2' failed: \
             too low",
        ),
        (
            json!({"sub": "j", "hd": "example.com", "level": 2, "roles": ["system:masters"]}),
            "oidc: error evaluating user info validation rule: validation expression 'user.groups.all(g, \
             !g.startsWith('system:'))' failed: reserved",
        ),
        (
            json!({"sub": "j", "hd": "example.com", "level": 2, "roles": [1]}),
            "oidc: error evaluating group claim expression: expression must return a string or a list of strings",
        ),
    ] {
        assert_eq!(user(&rules, claims).expect_err("refused"), why);
    }
}
