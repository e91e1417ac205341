//! Certificate requests: who may approve and sign them, and what they may not ask for.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_api::status::Status;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::authz::{Attributes as Asked, ResourceTarget, SharedAuthorizer, Target};
use crate::user::MASTERS_GROUP;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateApproval and CertificateSigning: both need a permission on the signer.
pub struct Signers {
    pub authorizer: SharedAuthorizer,
}

impl Signers {
    /// Permission on the signer itself, or on all signers of its domain.
    async fn may(&self, attributes: &Attributes, verb: &str, signer: &str) -> bool {
        let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
        for name in [Some(signer), domain.as_deref()].into_iter().flatten() {
            let target = ResourceTarget {
                group: GROUP,
                version: "*",
                resource: "signers",
                name,
                ..ResourceTarget::default()
            };
            let asked = Asked { user: &attributes.user, verb, target: Target::Resource(target) };
            if self.authorizer.authorize(&asked).await.is_allowed() {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Admission for Signers {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if !attributes.is_resource(GROUP, REQUESTS) {
            return Ok(());
        }
        let (Some(new), Some(old)) = (&attributes.object, attributes.old_object.as_deref()) else {
            return Ok(());
        };
        // The stored signer counts: the one in the update may be made up.
        let signer = text(&old["spec"]["signerName"]);
        let verb = match attributes.subresource.as_str() {
            "approval" => "approve",
            "status" => "sign",
            _ => return Ok(()),
        };
        let (old, new) = (&old["status"], &new["status"]);
        if verb == "sign"
            && old["certificate"] == new["certificate"]
            && old["conditions"] == new["conditions"]
        {
            return Ok(());
        }
        if self.may(attributes, verb, signer).await {
            return Ok(());
        }
        Err(attributes.forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
    }
}

/// CertificateSubjectRestriction: nobody asks for a client certificate of `system:masters`.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(request) = attributes.object.as_ref().filter(|_| attributes.is(GROUP, REQUESTS)) else {
            return Ok(());
        };
        if request["spec"]["signerName"] != CLIENT_SIGNER {
            return Ok(());
        }
        let groups = organizations(text(&request["spec"]["request"]))
            .map_err(|error| attributes.forbidden(format!("failed to parse CSR: {error}")))?;
        if groups.iter().any(|group| group == MASTERS_GROUP) {
            return Err(attributes.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed"
            )));
        }
        Ok(())
    }
}

/// The subject's common name of a base64-encoded PEM request.
pub fn common_name(request: &str) -> Result<String, String> {
    subject(request, |subject| {
        subject.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
    })
}

/// The subject's organizations of a base64-encoded PEM request.
fn organizations(request: &str) -> Result<Vec<String>, String> {
    subject(request, |subject| {
        subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect()
    })
}

fn subject<T>(request: &str, read: impl FnOnce(&x509_parser::x509::X509Name<'_>) -> T) -> Result<T, String> {
    let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
    let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| wrong())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(wrong());
    }
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).map_err(|error| error.to_string())?;
    Ok(read(&parsed.certification_request_info.subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_request_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        let request = STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap());
        assert_eq!(common_name(&request).unwrap(), "system:node:n1");
        assert_eq!(organizations(&request).unwrap(), ["system:masters"]);
        for bad in ["", "!", &STANDARD.encode("-----BEGIN X-----\n-----END X-----\n")] {
            assert!(common_name(bad).is_err(), "{bad}");
        }
    }
}
