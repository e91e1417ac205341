//! A node gets tokens and certificates only for pods that run on it.

use knarr_api::status::Status;
use serde_json::Value;

use super::NodeRestriction;
use crate::admission::pod::{is_mirror, items, text};
use crate::admission::{Attributes, Operation};
use crate::authz::{Attributes as Asked, ResourceTarget, Target};
use crate::objects::Resource;

const DRIVERS: Resource<'static> = Resource::new("storage.k8s.io", "csidrivers");

impl NodeRestriction {
    pub(super) async fn token(&self, node: &str, attributes: &Attributes) -> Result<(), Status> {
        let Some(request) = &attributes.object else { return Ok(()) };
        if attributes.operation != Operation::Create || attributes.subresource != "token" {
            return Ok(());
        }
        let refuse = |why: &str| Err(attributes.forbidden(why));
        let reference = &request["spec"]["boundObjectRef"];
        let (name, uid) = (text(&reference["name"]), text(&reference["uid"]));
        if reference["apiVersion"] != "v1" || reference["kind"] != "Pod" || name.is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.object("pods", &attributes.namespace, name).await?;
        if pod["metadata"]["uid"] != uid {
            return refuse(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if pod["spec"]["nodeName"] != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(attributes, request, &pod).await
    }

    /// The audience must be one that the pod's volumes ask for, or one that nodes were permitted to ask for.
    async fn audience(&self, attributes: &Attributes, request: &Value, pod: &Value) -> Result<(), Status> {
        let audiences: Vec<&str> = items(&request["spec"]["audiences"]).map(text).collect();
        let audience = match audiences.as_slice() {
            [] => "",
            [one] => one,
            _ => return Err(attributes.forbidden("node may only request 0 or 1 audiences")),
        };
        for volume in items(&pod["spec"]["volumes"]) {
            let projected = items(&volume["projected"]["sources"])
                .map(|source| &source["serviceAccountToken"])
                .any(|token| token.is_object() && text(&token["audience"]) == audience);
            if projected || self.driver_asks(attributes, pod, volume, audience).await? {
                return Ok(());
            }
        }
        let target = ResourceTarget {
            version: "v1",
            resource: audience,
            namespace: &attributes.namespace,
            name: &attributes.name,
            ..ResourceTarget::default()
        };
        let verb = "request-serviceaccounts-token-audience";
        let asked = Asked { user: &attributes.user, verb, target: Target::Resource(target) };
        if self.authorizer.authorize(&asked).await.is_allowed() {
            return Ok(());
        }
        Err(attributes.forbidden(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            attributes.user.name
        )))
    }

    /// Whether the driver of a volume asks for tokens with this audience.
    async fn driver_asks(
        &self,
        attributes: &Attributes,
        pod: &Value,
        volume: &Value,
        audience: &str,
    ) -> Result<bool, Status> {
        let claim = match () {
            () if volume["ephemeral"].is_object() => {
                format!("{}-{}", text(&pod["metadata"]["name"]), text(&volume["name"]))
            }
            () => text(&volume["persistentVolumeClaim"]["claimName"]).to_owned(),
        };
        let driver = match claim.as_str() {
            "" => text(&volume["csi"]["driver"]).to_owned(),
            claim => self.driver_of_claim(&attributes.namespace, claim).await?,
        };
        if driver.is_empty() {
            return Ok(false);
        }
        let driver: Option<Value> = self.lookup.get(DRIVERS, "", &driver).await?;
        let requests = driver.map(|driver| driver["spec"]["tokenRequests"].clone()).unwrap_or_default();
        Ok(items(&requests).any(|request| text(&request["audience"]) == audience))
    }

    async fn driver_of_claim(&self, namespace: &str, claim: &str) -> Result<String, Status> {
        let claims = Resource::core("persistentvolumeclaims");
        let Some(claim) = self.lookup.get::<Value>(claims, namespace, claim).await? else {
            return Ok(String::new());
        };
        let volumes = Resource::core("persistentvolumes");
        let volume: Option<Value> = self.lookup.get(volumes, "", text(&claim["spec"]["volumeName"])).await?;
        Ok(volume.map(|volume| text(&volume["spec"]["csi"]["driver"]).to_owned()).unwrap_or_default())
    }

    pub(super) async fn certificate_request(
        &self,
        node: &str,
        attributes: &Attributes,
    ) -> Result<(), Status> {
        let refuse = |why: String| Err(attributes.forbidden(why));
        if attributes.operation != Operation::Create {
            return refuse(format!("unexpected operation {}", attributes.operation.as_str()));
        }
        if !attributes.subresource.is_empty() {
            return refuse(format!("unexpected subresource {}", attributes.subresource));
        }
        let Some(request) = &attributes.object else { return Ok(()) };
        let spec = &request["spec"];
        let named = text(&spec["nodeName"]);
        if named != node {
            return refuse(format!(
                "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
            ));
        }
        let namespace = attributes.namespace.as_str();
        let pod_name = format!("{namespace}/{}", text(&spec["podName"]));
        let pod = self.object("pods", namespace, text(&spec["podName"])).await?;
        let account = text(&spec["serviceAccountName"]);
        let uids = [
            ("node", self.object("nodes", "", node).await?, "nodeUID"),
            (
                "service account",
                self.object("serviceaccounts", namespace, account).await?,
                "serviceAccountUID",
            ),
        ];
        for (what, object, field) in uids {
            if object["metadata"]["uid"] != spec[field] {
                // The cache may be behind; the node tries again, so this is no refusal for good.
                return Err(Status::internal(format!(
                    "PodCertificateRequest for pod {pod_name:?} names {what} UID {}, inconsistent with the running {what}",
                    spec[field]
                )));
            }
        }
        if pod["metadata"]["uid"] != spec["podUID"] {
            return Err(Status::internal(format!(
                "PodCertificateRequest for pod {pod_name:?} contains pod UID ({}) which differs from running pod {}",
                spec["podUID"], pod["metadata"]["uid"]
            )));
        }
        if pod["spec"]["nodeName"] != node {
            return refuse(format!(
                "pod {pod_name:?} is not running on node {node:?} named in the PodCertificateRequest"
            ));
        }
        if is_mirror(&pod) {
            return refuse(format!("pod {pod_name:?} is a mirror pod"));
        }
        if pod["spec"]["serviceAccountName"] != account {
            return refuse(format!(
                "PodCertificateRequest for pod {pod_name:?} contains serviceAccountName ({account:?}) that differs from running pod ({})",
                pod["spec"]["serviceAccountName"]
            ));
        }
        Ok(())
    }
}
