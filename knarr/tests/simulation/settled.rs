//! Whether all is as it was asked for.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, NodeSpec, Pod};
use knarr_client::{Api, Cached, Client};
use kube::Resource;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use crate::components::NODES;
use crate::observer::{is_over, node_of};
use crate::users::{QUOTA, SHOP, SMALL};

/// What is not as asked, if anything.
pub async fn unsettled(client: &Client) -> Option<String> {
    for deployment in list::<Deployment>(client, SHOP).await {
        if !is_deployed(&deployment, deployment.spec.replicas.unwrap_or(1)) {
            let pods = list_pods(client, deployment.name()).await;
            return Some(format!("deployment {} has {:?}; {pods}", deployment.name(), deployment.status));
        }
    }
    for deployment in list::<Deployment>(client, SMALL).await {
        let wanted = usize::try_from(deployment.spec.replicas.unwrap_or(1)).unwrap_or(0).min(QUOTA);
        let pods = list::<Pod>(client, SMALL).await.iter().filter(|pod| !is_over(pod)).count();
        if pods != wanted {
            return Some(format!("there are {pods} of {wanted} pods within the quota"));
        }
    }
    for set in list::<StatefulSet>(client, SHOP).await {
        if !is_complete(&set) {
            let pods = list_pods(client, set.name()).await;
            return Some(format!("stateful set {} has {:?}; {pods}", set.name(), set.status));
        }
    }
    for set in list::<DaemonSet>(client, SHOP).await {
        if !is_everywhere(&set) {
            let nodes = list_nodes(client).await;
            return Some(format!("daemon set {} has {:?} on {nodes:?}", set.name(), set.status));
        }
    }
    for job in list::<Job>(client, SHOP).await {
        if !is_done(&job) {
            return Some(format!("job {} has {:?}", job.name(), job.status));
        }
    }
    None
}

/// The namespaces that are still there after their deletion.
pub async fn remaining(client: &Client) -> Option<String> {
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in [SHOP, SMALL] {
        match namespaces.get_opt(name).await {
            Ok(None) => {}
            Ok(Some(namespace)) => return Some(format!("namespace {name} has {:?}", namespace.status)),
            Err(error) => return Some(format!("namespace {name}: {error}")),
        }
    }
    None
}

async fn list<K>(client: &Client, namespace: &str) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    api.list(&ListParams::default()).await.expect("without trouble the server answers").items
}

/// The pods of an app, where they are and what is known of them.
async fn list_pods(client: &Client, app: &str) -> String {
    let pods = list::<Pod>(client, SHOP).await;
    let of_app = |pod: &&Pod| {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")) == Some(&app.to_owned())
    };
    let tell = |pod: &Pod| {
        let (meta, node) = (&pod.metadata, node_of(pod));
        format!(
            "pod {} made {:?} on {node:?} ends {:?} has {:?}",
            pod.name(),
            meta.creation_timestamp,
            meta.deletion_timestamp,
            pod.status
        )
    };
    pods.iter().filter(of_app).map(tell).collect::<Vec<_>>().join("; ")
}

/// The nodes and what keeps pods off them.
async fn list_nodes(client: &Client) -> Vec<(String, Option<NodeSpec>)> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.expect("without trouble the server answers").items;
    nodes.into_iter().map(|node| (node.name().to_owned(), node.spec)).collect()
}

fn is_deployed(deployment: &Deployment, wanted: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    status.observed_generation == deployment.metadata.generation
        && all(status.replicas)
        && all(status.updated_replicas)
        && all(status.available_replicas)
}

fn is_complete(set: &StatefulSet) -> bool {
    let (status, wanted) = (set.status.clone().unwrap_or_default(), set.spec.replicas.unwrap_or(1));
    status.observed_generation == set.metadata.generation
        && status.replicas == wanted
        && status.ready_replicas.unwrap_or(0) == wanted
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.current_revision == status.update_revision
}

fn is_everywhere(set: &DaemonSet) -> bool {
    let (status, wanted) = (set.status.clone().unwrap_or_default(), i32::try_from(NODES).unwrap_or(0));
    status.observed_generation == set.metadata.generation
        && status.desired_number_scheduled == wanted
        && status.current_number_scheduled == wanted
        && status.updated_number_scheduled == Some(wanted)
        && status.number_available == Some(wanted)
}

/// Complete, and each completion counted exactly once.
fn is_done(job: &Job) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let complete = conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True");
    complete && status.succeeded == job.spec.as_ref().and_then(|spec| spec.completions)
}
