//! The node in the server's own process: its identity comes from the cluster's authority, its clients from the
//! server's router.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use jiff::SignedDuration;
use knarr_apiserver::pki::{Names, Profile, Rotating, Usage};
use knarr_kubelet::config::ServerTls;

use super::control_plane::ControlPlane;
use super::facts::Facts;
use super::node::{self, Access, Node};
use super::range;
use super::settings::NodeSettings;
use super::tasks::Tasks;

/// The node's serving certificate is replaced while running.
const SERVING_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// Nodes may not give themselves a role, so the server registers its own with it.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

pub async fn start(
    settings: &NodeSettings,
    control_plane: &Arc<ControlPlane>,
    tasks: &mut Tasks,
) -> anyhow::Result<Node> {
    let certificate = serving_certificate(settings, control_plane)?;
    let rotating = certificate.clone();
    tasks.spawn("node certificate", |stop| async move {
        stop.run_until_cancelled(rotating.run()).await;
        Ok(())
    });
    let admin = control_plane.admin();
    let pod_cidrs = range::of_node(&admin, &settings.node_name, &[CONTROL_PLANE], &[]).await?;
    Facts::of(settings).publish(&admin).await?;
    let access = Access {
        clients: control_plane.clone(),
        tls: ServerTls { certificate, client_ca: vec![control_plane.pki.ca.der().clone()] },
        pod_cidrs,
        clock: control_plane.clock.clone(),
        random: control_plane.random.clone(),
    };
    let network = settings.network(&access.pod_cidrs)?;
    knarr_network::dns::publish::publish(&admin, &network)
        .await
        .context("publishing the Service kube-dns")?;
    node::start(settings, access, tasks).await
}

fn serving_certificate(
    settings: &NodeSettings,
    control_plane: &ControlPlane,
) -> anyhow::Result<Arc<Rotating>> {
    let mut ips = settings.node_ips.clone();
    ips.push(IpAddr::from([127, 0, 0, 1]));
    let profile = Profile {
        common_name: format!("system:node:{}", settings.node_name),
        organization: Some("system:nodes".to_owned()),
        usage: Usage::Server(Names { dns: vec![settings.node_name.clone(), "localhost".to_owned()], ips }),
        lifetime: SERVING_LIFETIME,
    };
    let issued = Rotating::new(control_plane.pki.ca.clone(), profile, control_plane.clock.clone());
    issued.context("issuing the node's serving certificate")
}
