//! Probes and lifecycle hooks, and the handlers both are made of.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use super::os;
use crate::resources::at::At;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// All probes and hooks of a container that runs as long as its pod.
pub fn of_container(container: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let grace = spec.int("terminationGracePeriodSeconds");
    if let Some(lifecycle) = container.some("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = lifecycle.some(hook) {
                self::handler(&handler, grace, errors);
            }
        }
        if let Some(signal) = lifecycle.some("stopSignal") {
            os::stop_signal(&signal, spec, errors);
        }
    }
    for (field, once) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        let Some(probe) = container.some(field) else { continue };
        self::probe(&probe, grace, errors);
        if once && probe.int("successThreshold") != Some(1) {
            let threshold = probe.at("successThreshold");
            errors.push(threshold.invalid_as(threshold.i64().unwrap_or_default(), "must be 1"));
        }
        if !once && let Some(grace) = probe.some("terminationGracePeriodSeconds") {
            errors.push(grace.invalid("must not be set for readinessProbes"));
        }
    }
}

fn probe(probe: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    handler(probe, grace, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        probe.at(field).nonnegative(errors);
    }
    let own = probe.at("terminationGracePeriodSeconds");
    if own.i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(own.invalid("must be greater than 0"));
    }
}

fn handler(at: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    let mut found = 0;
    for field in HANDLERS {
        let Some(handler) = at.some(field) else { continue };
        if found > 0 {
            errors.push(handler.forbidden("may not specify more than 1 handler type"));
        } else {
            action(field, &handler, grace, errors);
        }
        found += 1;
    }
    if found == 0 {
        errors.push(at.required("must specify a handler type"));
    }
}

fn action(kind: &str, handler: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    match kind {
        "exec" if handler.list("command").is_empty() => errors.push(handler.at("command").required("")),
        "httpGet" => http_get(handler, errors),
        "tcpSocket" | "grpc" => port(&handler.at("port"), errors),
        "sleep" => {
            let seconds = handler.int("seconds").unwrap_or_default();
            if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let detail =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.push(handler.invalid_as(seconds, detail));
            }
        }
        _ => {}
    }
}

fn http_get(get: &At<'_>, errors: &mut ErrorList) {
    get.at("path").require_text(errors);
    port(&get.at("port"), errors);
    get.at("scheme").one_of(errors, &["HTTP", "HTTPS"]);
    let headers = get.at("httpHeaders");
    for header in get.list("httpHeaders") {
        let name = At::root(header).text("name");
        let wrong = names::http_header_name(name).into_iter();
        errors.extend(wrong.map(|wrong| headers.invalid_as(name, wrong)));
    }
}

/// A port by number or by name.
pub fn port(at: &At<'_>, errors: &mut ErrorList) {
    match at.value() {
        Some(Value::String(name)) => at.check(errors, |_| names::port_name(name)),
        value => {
            let number = value.and_then(Value::as_i64).unwrap_or_default();
            errors.extend(names::port_number(number).into_iter().map(|wrong| at.invalid_as(number, wrong)));
        }
    }
}
