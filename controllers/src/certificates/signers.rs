//! The cluster's own signers, and what each accepts. Pure.

use super::request::{Name, Request};

pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const DIGITAL_SIGNATURE: &str = "digital signature";
const KEY_ENCIPHERMENT: &str = "key encipherment";
const CLIENT_AUTH: &str = "client auth";
const SERVER_AUTH: &str = "server auth";

/// Whether a signer is one of ours.
pub(super) fn is_ours(signer: &str) -> bool {
    [KUBELET_CLIENT, KUBELET_SERVING, CLIENT, LEGACY_UNKNOWN].contains(&signer)
}

/// Why a signer of ours does not sign a request; the text goes into its status.
pub(super) fn refusal(signer: &str, request: &Request, usages: &[String]) -> Option<String> {
    match signer {
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        CLIENT => client(usages),
        // Signed whatever it says, as it always was.
        _ => None,
    }
}

/// Whether the usages are these, with or without the one that only RSA keys need.
fn are(usages: &[String], auth: &str) -> bool {
    let has = |usage: &str| usages.iter().any(|other| other == usage);
    let known = |usage: &String| [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, auth].contains(&usage.as_str());
    has(DIGITAL_SIGNATURE) && has(auth) && usages.iter().all(known)
}

fn mismatch(auth: &str) -> Option<String> {
    Some(if auth == CLIENT_AUTH {
        format!("usages did not match [{auth} {DIGITAL_SIGNATURE} {KEY_ENCIPHERMENT}]")
    } else {
        format!("usages did not match [{DIGITAL_SIGNATURE} {KEY_ENCIPHERMENT} {auth}]")
    })
}

fn not_of_a_node(request: &Request) -> Option<String> {
    (request.organizations != ["system:nodes"]).then(|| "subject organization is not system:nodes".to_owned())
}

fn not_named_as_a_node(request: &Request) -> Option<String> {
    (!request.common_name.starts_with("system:node:"))
        .then(|| "subject common name does not begin with system:node:".to_owned())
}

fn unwanted(request: &Request, kind: impl Fn(&Name) -> bool, what: &str) -> Option<String> {
    request.has(kind).then(|| format!("{what} subjectAltNames are not allowed"))
}

pub(super) fn kubelet_client(request: &Request, usages: &[String]) -> Option<String> {
    not_of_a_node(request)
        .or_else(|| unwanted(request, |name| matches!(name, Name::Dns(_)), "DNS"))
        .or_else(|| unwanted(request, |name| matches!(name, Name::Email(_)), "Email"))
        .or_else(|| unwanted(request, |name| matches!(name, Name::Ip(_)), "IP"))
        .or_else(|| unwanted(request, |name| matches!(name, Name::Uri(_)), "URI"))
        .or_else(|| not_named_as_a_node(request))
        .or_else(|| if are(usages, CLIENT_AUTH) { None } else { mismatch(CLIENT_AUTH) })
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Option<String> {
    let named = request.has(|name| matches!(name, Name::Dns(_) | Name::Ip(_)));
    not_of_a_node(request)
        .or_else(|| (!named).then(|| "DNS or IP subjectAltName is required".to_owned()))
        .or_else(|| unwanted(request, |name| matches!(name, Name::Email(_)), "Email"))
        .or_else(|| unwanted(request, |name| matches!(name, Name::Uri(_)), "URI"))
        .or_else(|| if are(usages, SERVER_AUTH) { None } else { mismatch(SERVER_AUTH) })
        .or_else(|| not_named_as_a_node(request))
}

fn client(usages: &[String]) -> Option<String> {
    let allowed = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CLIENT_AUTH];
    if let Some(usage) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Some(format!("invalid usage for client certificate: {usage}"));
    }
    (!usages.iter().any(|usage| usage == CLIENT_AUTH))
        .then(|| format!("missing required usage for client certificate: {CLIENT_AUTH}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, organization: &str, names: &[Name]) -> Request {
        Request {
            common_name: name.to_owned(),
            organizations: vec![organization.to_owned()],
            names: names.to_vec(),
            ..Request::default()
        }
    }

    fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|&usage| usage.to_owned()).collect()
    }

    #[test]
    fn each_signer_refuses_in_upstreams_words() {
        let node = request("system:node:a", "system:nodes", &[]);
        let serving = request("system:node:a", "system:nodes", &[Name::Dns("a".to_owned())]);
        let (client_usages, server_usages) = (
            usages(&[DIGITAL_SIGNATURE, CLIENT_AUTH]),
            usages(&[DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, SERVER_AUTH]),
        );
        for (signer, request, usages, wanted) in [
            (KUBELET_CLIENT, &node, &client_usages, None),
            (KUBELET_CLIENT, &serving, &client_usages, Some("DNS subjectAltNames are not allowed")),
            (
                KUBELET_CLIENT,
                &node,
                &server_usages,
                Some("usages did not match [client auth digital signature key encipherment]"),
            ),
            (KUBELET_SERVING, &serving, &server_usages, None),
            (KUBELET_SERVING, &node, &server_usages, Some("DNS or IP subjectAltName is required")),
            (CLIENT, &request("u", "o", &[]), &client_usages, None),
            (CLIENT, &node, &server_usages, Some("invalid usage for client certificate: server auth")),
            (CLIENT, &node, &Vec::new(), Some("missing required usage for client certificate: client auth")),
            (LEGACY_UNKNOWN, &node, &server_usages, None),
            (
                KUBELET_CLIENT,
                &request("a", "x", &[]),
                &client_usages,
                Some("subject organization is not system:nodes"),
            ),
        ] {
            assert_eq!(refusal(signer, request, usages).as_deref(), wanted, "{signer}");
        }
    }
}
