//! Kubeconfig files, as kubectl and every other client reads them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One cluster, one user, one context.
#[derive(Debug, Clone)]
pub struct Kubeconfig<'a> {
    /// The name of the cluster and of the context.
    pub context: &'a str,
    pub user: &'a str,
    /// `https://host:port`.
    pub server: &'a str,
    pub authority_pem: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// The kubeconfig as an object; YAML readers accept it printed as JSON, and the binary prints it as YAML.
pub fn render(of: &Kubeconfig<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": of.context, "cluster": {
            "server": of.server,
            "certificate-authority-data": STANDARD.encode(of.authority_pem),
        }}],
        "users": [{"name": of.user, "user": {
            "client-certificate-data": STANDARD.encode(of.certificate_pem),
            "client-key-data": STANDARD.encode(of.key_pem),
        }}],
        "contexts": [{"name": of.context, "context": {"cluster": of.context, "user": of.user}}],
        "current-context": of.context,
    })
}
