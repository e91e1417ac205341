//! Whether a remote can be asked: the service, its port, its endpoints, and an answer to discovery.

use futures::future::select_ok;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::resolve::Service;
use super::{Aggregator, Remote};
use crate::object;
use crate::user::{MASTERS_GROUP, UserInfo};

/// Discovery is asked for this often at once: one bad endpoint must not make the whole service bad.
const ATTEMPTS: usize = 5;

/// The condition `Available`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }
}

impl Aggregator {
    pub(super) async fn check(&self, remote: &Remote) -> Verdict {
        let Remote { namespace, service: name, port, .. } = remote;
        let Some(service) = Service::of(remote, &*self.config.objects) else {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Verdict::no("ServiceNotFound", message);
        };
        if service.is_cluster_ip() {
            let Some(port_name) = service.port_name(*port) else {
                let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
                return Verdict::no("ServicePortError", message);
            };
            if !service.has_slices() {
                let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
                return Verdict::no("EndpointsNotFound", message);
            }
            if service.endpoints(port_name).is_empty() {
                let message = format!(
                    "endpointslices for service/{name} in {namespace:?} have no addresses with port name \
                     {port_name:?}"
                );
                return Verdict::no("MissingEndpoints", message);
            }
        }
        let attempts = (0..ATTEMPTS).map(|_| Box::pin(self.answers_discovery(remote)));
        match select_ok(attempts).await {
            Ok(_) => Verdict { available: true, reason: "Passed", message: "all checks passed".to_owned() },
            Err(why) => Verdict::no("FailedDiscoveryCheck", why),
        }
    }

    async fn answers_discovery(&self, remote: &Remote) -> Result<(), String> {
        let path = remote.path();
        let user = UserInfo {
            name: "system:kube-aggregator".into(),
            groups: vec![MASTERS_GROUP.into()],
            ..UserInfo::default()
        };
        let (status, _) = self.ask(remote, &path, "application/json", &user).await?;
        if status.is_success() {
            return Ok(());
        }
        let url = format!("https://{}:{}{path}", remote.server_name(), remote.port);
        let code = status.as_u16();
        Err(format!("failing or missing response from {url}: bad status from {url}: {code}"))
    }

    /// Writes the verdict into the APIService, if it says something new.
    pub(super) async fn record(&self, remote: &Remote, verdict: &Verdict) -> Result<(), Status> {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", remote.name);
        let Some(mut object) = self.config.loopback.get(&path).await? else { return Ok(()) };
        if object["spec"] != remote.spec {
            // Another remote by now, which is checked on its own.
            return Ok(());
        }
        if set(&mut object, verdict, || object::now(&*self.config.clock)) {
            self.config.loopback.update(&format!("{path}/status"), &object).await?;
        }
        Ok(())
    }
}

impl Remote {
    /// The root of what it serves.
    pub(super) fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

/// Sets the condition; true when that changed it.
fn set(object: &mut Value, verdict: &Verdict, now: impl FnOnce() -> String) -> bool {
    let status = if verdict.available { "True" } else { "False" };
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let Some(known) = conditions.iter_mut().find(|condition| condition["type"] == "Available") else {
        conditions.push(json!({"type": "Available", "status": status, "lastTransitionTime": now(),
            "reason": verdict.reason, "message": verdict.message}));
        return true;
    };
    let before = known.clone();
    if known["status"] != status {
        known["status"] = status.into();
        known["lastTransitionTime"] = now().into();
    }
    known["reason"] = verdict.reason.into();
    known["message"] = verdict.message.as_str().into();
    *known != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_written_when_it_changes_and_keeps_its_time_until_its_status_does() {
        let mut object = json!({"status": {"conditions": [{"type": "Mine", "status": "True"}]}});
        let up = Verdict { available: true, reason: "Passed", message: "all checks passed".into() };
        let down = Verdict::no("ServiceNotFound", "service/a in \"b\" is not present".into());
        assert!(set(&mut object, &down, || "1".into()));
        assert!(!set(&mut object, &down, || "2".into()));
        assert!(set(&mut object, &Verdict::no("MissingEndpoints", "none".into()), || "3".into()));
        assert_eq!(object["status"]["conditions"][1]["lastTransitionTime"], "1");
        assert!(set(&mut object, &up, || "4".into()));
        assert_eq!(
            object["status"]["conditions"],
            json!([{"type": "Mine", "status": "True"}, {"type": "Available", "status": "True",
                "lastTransitionTime": "4", "reason": "Passed", "message": "all checks passed"}])
        );
    }
}
