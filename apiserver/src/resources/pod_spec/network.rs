//! A pod's names, its resolver, and what it shares with the host.

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;

use super::os::every_container;
use super::security;
use super::validate::Owner;
use crate::resources::at::At;

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
const HOSTNAME_MAX: usize = 64;

pub fn dns_config(spec: &At<'_>, errors: &mut ErrorList) {
    let config = spec.at("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if config.value().is_none() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if config.list("nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(config.at("nameservers").required(detail));
            return;
        }
    }
    if config.list("nameservers").len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(config.at("nameservers").invalid(detail));
    }
    for server in config.items("nameservers") {
        errors.extend(names::ip_legacy(server.path(), server.str(), &[]));
    }
    let searches = config.at("searches");
    if config.list("searches").len() > SEARCHES_MAX {
        errors.push(searches.invalid(format!("must not have more than {SEARCHES_MAX} search paths")));
    }
    let length: usize = config.texts("searches").map(|search| search.len() + 1).sum();
    if length.saturating_sub(1) > SEARCH_CHARS_MAX {
        let detail = format!(
            "must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list"
        );
        errors.push(searches.invalid(detail));
    }
    for search in config.items("searches").filter(|search| search.str() != ".") {
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        let wrong = names::dns_subdomain_with_underscore(name).into_iter();
        errors.extend(wrong.map(|wrong| search.invalid_as(name, wrong)));
    }
    for option in config.items("options").filter(|option| !option.filled("name")) {
        errors.push(option.required("must not be empty"));
    }
}

pub fn host_aliases(spec: &At<'_>, errors: &mut ErrorList) {
    for alias in spec.items("hostAliases") {
        let ip = alias.at("ip");
        errors.extend(names::ip_legacy(ip.path(), ip.str(), &[]));
        alias.items("hostnames").for_each(|name| name.check(errors, names::dns_subdomain));
    }
}

pub fn host_ports(spec: &At<'_>, owner: &Owner<'_>, errors: &mut ErrorList) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for port in spec.items("containers").flat_map(|container| container.items("ports")) {
        let host = port.at("hostPort");
        let (on_host, own) = (host.i64().unwrap_or_default(), port.int("containerPort").unwrap_or_default());
        if (owner.is_pod() || on_host != 0) && on_host != own {
            errors.push(host.invalid_as(on_host, "must match `containerPort` when `hostNetwork` is true"));
        }
    }
}

pub fn host_users(spec: &At<'_>, errors: &mut ErrorList) {
    const WITH_OWN_USERS: &str = "when `hostUsers` is false";
    if security::uses_host_users(spec) {
        return;
    }
    for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            errors.push(spec.named(field, name).forbidden(WITH_OWN_USERS));
        }
    }
    for container in every_container(spec).filter(|container| container.filled("volumeDevices")) {
        errors.push(container.at("volumeDevices").forbidden(WITH_OWN_USERS));
    }
}

pub fn hostname_override(spec: &At<'_>, errors: &mut ErrorList) {
    let Some(name) = spec.some("hostnameOverride") else { return };
    if spec.flag("setHostnameAsFQDN") {
        errors.push(name.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.flag("hostNetwork") {
        errors.push(name.forbidden("may not be specified when hostNetwork is true"));
    }
    if name.str().len() > HOSTNAME_MAX {
        errors.push(Error::too_long(name.path(), HOSTNAME_MAX));
    }
    name.check(errors, names::dns_subdomain);
}
