use super::*;

const GOOD: &str = "
issuer: {url: 'https://issuer.example.com', audiences: [knarr]}
claimMappings: {username: {claim: sub, prefix: ''}}
";

fn read(authenticators: &[&str], rest: &str) -> Configuration {
    let list: Vec<String> = authenticators
        .iter()
        .map(|text| {
            let value: serde_json::Value = serde_yaml::from_str(text).expect("yaml");
            value.to_string()
        })
        .collect();
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, jwt: [{}]{rest}}}",
        list.join(", ")
    );
    Configuration::parse(&text).expect("a configuration")
}

#[track_caller]
fn faults(authenticators: &[&str]) -> String {
    let own = ["https://kubernetes.default.svc.cluster.local".to_owned()];
    match validate(&read(authenticators, ""), &own) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn a_good_configuration_is_taken_and_no_issuer_at_all_too() {
    assert_eq!(faults(&[GOOD]), "");
    assert_eq!(faults(&[]), "");
    let expressions = "
issuer: {url: 'https://a', discoveryURL: 'https://b/d', audiences: [a, b], audienceMatchPolicy: MatchAny}
claimValidationRules:
- {claim: hd, requiredValue: example.com}
- {expression: 'claims.exp - claims.nbf <= 86400', message: too long}
claimMappings:
  username: {expression: 'claims.email_verified == true ? claims.email : claims.sub'}
  groups: {expression: 'claims.roles.split(\",\")'}
  uid: {expression: claims.sub}
  extra: [{key: example.com/tenant, valueExpression: claims.tenant}]
userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]
";
    assert_eq!(faults(&[expressions]), "");
}

#[test]
fn issuers_are_faulted_as_upstream_does() {
    let issuer = |issuer: &str| {
        format!("{{issuer: {issuer}, claimMappings: {{username: {{claim: sub, prefix: ''}}}}}}")
    };
    let table = [
        ("{audiences: [a]}", "jwt[0].issuer.url: Required value"),
        (
            "{url: 'http://u:p@a?b#c', audiences: [a]}",
            "[jwt[0].issuer.url: Invalid value: \"http://u:p@a?b#c\": URL scheme must be https, \
             jwt[0].issuer.url: Invalid value: \"http://u:p@a?b#c\": URL must not contain a username or password, \
             jwt[0].issuer.url: Invalid value: \"http://u:p@a?b#c\": URL must not contain a query, \
             jwt[0].issuer.url: Invalid value: \"http://u:p@a?b#c\": URL must not contain a fragment]",
        ),
        (
            "{url: 'https://kubernetes.default.svc.cluster.local', audiences: [a]}",
            "jwt[0].issuer.url: Invalid value: \"https://kubernetes.default.svc.cluster.local\": URL must not \
             overlap with disallowed issuers: [https://kubernetes.default.svc.cluster.local]",
        ),
        (
            "{url: 'https://a', discoveryURL: 'https://a/', audiences: [a]}",
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a/\": discoveryURL must be different from URL",
        ),
        (
            "{url: 'https://a'}",
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            "{url: 'https://a', audiences: [a, a]}",
            "[jwt[0].issuer.audiences[1]: Duplicate value: \"a\", jwt[0].issuer.audienceMatchPolicy: Invalid \
             value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences]",
        ),
        (
            "{url: 'https://a', audiences: [a], audienceMatchPolicy: All}",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be empty or \
             MatchAny for single audience",
        ),
        (
            "{url: 'https://a', audiences: [a], certificateAuthority: none}",
            "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA \
             or ECDSA certificates",
        ),
        (
            "{url: 'https://a', audiences: [a], egressSelectorType: etcd}",
            "jwt[0].issuer.egressSelectorType: Invalid value: \"etcd\": egress selector must be either \
             controlplane or cluster",
        ),
    ];
    for (given, wanted) in table {
        assert_eq!(faults(&[&issuer(given)]), wanted, "{given}");
    }
    assert_eq!(faults(&[GOOD, GOOD]), "jwt[1].issuer.url: Duplicate value: \"https://issuer.example.com\"");
}

#[test]
fn rules_and_mappings_are_faulted_as_upstream_does() {
    let with = |rest: &str| {
        let username = if rest.contains("claimMappings") {
            ""
        } else {
            "claimMappings: {username: {claim: sub, prefix: ''}}, "
        };
        format!("{{issuer: {{url: 'https://a', audiences: [a]}}, {username}{rest}}}")
    };
    let table = [
        (
            "claimValidationRules: [{}]",
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
        ),
        (
            "claimValidationRules: [{claim: a, expression: 'true'}]",
            "jwt[0].claimValidationRules[0]: Invalid value: \"a\": claim and expression can't both be set",
        ),
        (
            "claimValidationRules: [{claim: a, message: b}, {claim: a}]",
            "[jwt[0].claimValidationRules[0].message: Invalid value: \"b\": may not be specified when claim is \
             set, jwt[0].claimValidationRules[1].claim: Duplicate value: \"a\"]",
        ),
        (
            "claimValidationRules: [{expression: claims.a}]",
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
        ),
        (
            "claimMappings: {}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            "claimMappings: {username: {claim: sub}, groups: {claim: a, expression: b}}",
            "[jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be \
             set to an empty string to disable prefixing, jwt[0].claimMappings.groups: Invalid value: \"\": claim \
             and expression can't both be set]",
        ),
        (
            "claimMappings: {username: {expression: claims.sub, prefix: a}}",
            "jwt[0].claimMappings.username.prefix: Invalid value: \"a\": may not be specified when expression is set",
        ),
        (
            "claimMappings: {username: {expression: claims.email}}",
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must \
             be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or \
             claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        ),
        (
            "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: a, valueExpression: b}]}",
            "[jwt[0].claimMappings.extra[0].key: Invalid value: \"a\": must be a domain-prefixed path (such as \
             \"acme.io/foo\"), jwt[0].claimMappings.extra[0].valueExpression: Invalid value: \"b\": compilation \
             failed: ERROR: <input>:1:1: undeclared reference to 'b' (in container '')\n | b\n | ^]",
        ),
        (
            "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: a.k8s.io/B, valueExpression: ''}]}",
            "[jwt[0].claimMappings.extra[0].key: Invalid value: \"a.k8s.io/B\": must be lowercase, \
             jwt[0].claimMappings.extra[0].key: Invalid value: \"a.k8s.io/B\": k8s.io, kubernetes.io and their \
             subdomains are reserved for Kubernetes use, jwt[0].claimMappings.extra[0].valueExpression: Required \
             value]",
        ),
        (
            "userValidationRules: [{}, {expression: user.username}]",
            "[jwt[0].userValidationRules[0].expression: Required value, jwt[0].userValidationRules[1].expression: \
             Invalid value: \"user.username\": must evaluate to bool]",
        ),
    ];
    for (given, wanted) in table {
        assert_eq!(faults(&[&with(given)]), wanted, "{given}");
    }
}

#[test]
fn anonymous_conditions_need_that_anonymous_is_on() {
    let configuration = read(&[], ", anonymous: {enabled: false, conditions: [{path: /livez}]}");
    assert_eq!(
        validate(&configuration, &[]).expect_err("refused").to_string(),
        "anonymous.conditions: Invalid value: [{\"Path\":\"/livez\"}]: enabled should be set to true when \
         conditions are defined"
    );
}
