//! Approving the serving certificates that kubelets ask for: a node may have one for its own name and addresses.
//!
//! Upstream leaves this to the operator. Here the API server checks the certificates of nodes, so nodes that join
//! need one at once.

use std::net::IpAddr;

use futures::future::BoxFuture;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use knarr_api::time::SharedClock;
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer};

use super::{QUEUE, WORKERS, approval, request::Name, request::Request, signers};
use crate::{
    Context,
    error::{Error, Step},
};

const SIGNER: &str = "kubernetes.io/kubelet-serving";
const MESSAGE: &str = "Auto approving kubelet serving certificate for the node's own name and addresses.";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire_with(QUEUE, super::retries());
    let requests = wiring.root::<CertificateSigningRequest>();
    wiring.run(WORKERS, Sync { requests, client: context.client, clock: context.clock })
}

struct Sync {
    requests: SharedInformer<CertificateSigningRequest>,
    client: Client,
    clock: SharedClock,
}

/// The node that asks for a serving certificate of its own, by the user that asked.
fn node_of<'a>(asked: &'a CertificateSigningRequest, request: &Request) -> Option<&'a str> {
    let user = asked.spec.username.as_deref()?;
    let usages = asked.spec.usages.as_deref().unwrap_or_default();
    let is_serving = asked.spec.signer_name == SIGNER
        && signers::refusal(SIGNER, request, usages).is_none()
        && request.common_name == user;
    if is_serving { user.strip_prefix("system:node:") } else { None }
}

/// Whether all names of the request are the node's.
fn names_only(request: &Request, node: &Node) -> bool {
    let name = node.metadata.name.as_deref();
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    request.names.iter().all(|asked| match asked {
        Name::Dns(asked) => {
            Some(asked.as_str()) == name
                || addresses.iter().any(|own| own.type_ != "InternalIP" && own.address == *asked)
        }
        Name::Ip(bytes) => addresses.iter().any(|own| match own.address.parse() {
            Ok(IpAddr::V4(v4)) => v4.octets().as_slice() == bytes,
            Ok(IpAddr::V6(v6)) => v6.octets().as_slice() == bytes,
            Err(_) => false,
        }),
        Name::Email(_) | Name::Uri(_) => false,
    })
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(asked) = self.requests.get_key(key) else { return Ok(Action::Done) };
        if !approval::is_open(&asked) {
            return Ok(Action::Done);
        }
        // What cannot be read is reported by the approver of client certificates.
        let Ok(request) = Request::parse(&asked.spec.request.0) else { return Ok(Action::Done) };
        let Some(name) = node_of(&asked, &request) else { return Ok(Action::Done) };
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get_opt(name).await.step("read node", name)?;
        if !node.is_some_and(|node| names_only(&request, &node)) {
            // The node reports its addresses after it has registered.
            return Ok(Action::Retry);
        }
        approval::approve(&self.client, &self.clock, &asked, MESSAGE).await?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAddress, NodeStatus};

    use super::*;

    fn node(addresses: &[(&str, &str)]) -> Node {
        let address = |(kind, address): &(&str, &str)| NodeAddress {
            type_: (*kind).to_owned(),
            address: (*address).to_owned(),
        };
        let mut node = Node::default();
        node.metadata.name = Some("n1".to_owned());
        let addresses = Some(addresses.iter().map(address).collect());
        node.status = Some(NodeStatus { addresses, ..NodeStatus::default() });
        node
    }

    #[test]
    fn a_node_may_only_name_itself() {
        let node = node(&[("InternalIP", "192.0.2.1"), ("Hostname", "n1.example")]);
        let request = |names: &[Name]| Request { names: names.to_vec(), ..Request::default() };
        let dns = |name: &str| Name::Dns(name.to_owned());
        assert!(names_only(&request(&[dns("n1"), dns("n1.example"), Name::Ip(vec![192, 0, 2, 1])]), &node));
        for foreign in [dns("n2"), dns("192.0.2.1"), Name::Ip(vec![192, 0, 2, 2]), Name::Uri("a".to_owned())]
        {
            assert!(!names_only(&request(&[dns("n1"), foreign.clone()]), &node), "{foreign:?}");
        }
    }
}
