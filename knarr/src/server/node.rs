//! This machine as a node: runtime, pod network, kubelet, service proxy and DNS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Context;
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{Client, ClientFactory, Identity, InformerFactory};
use knarr_controllers::STORAGE_PATH;
use knarr_kubelet::config::{ServerConfig, ServerTls};
use knarr_kubelet::{Kubelet, Parts};
use knarr_network::dns::Dns;
use knarr_network::node::Routes;
use knarr_network::pod::RoutedNetwork;
use knarr_network::policy::Policies;
use knarr_network::proxy::{Proxy, ProxyHandle};
use knarr_runtime::cri::ContainerRuntime;
use knarr_runtime::embedded::{Config as RuntimeConfig, Embedded};

use super::hello;
use super::settings::NodeSettings;
use super::tasks::{Component, Tasks};

/// How a node reaches its API server, and who it is.
pub struct Access {
    pub clients: Arc<dyn ClientFactory>,
    /// What the node shows the API server, and whom it believes.
    pub tls: ServerTls,
    /// The node's part of the pod range.
    pub pod_cidrs: Vec<String>,
    pub clock: SharedClock,
    pub random: SharedRandom,
}

/// What the rest of the process needs of a running node.
pub struct Node {
    pub runtime: Arc<Embedded>,
    pub kubelet: Component,
}

pub async fn start(settings: &NodeSettings, access: Access, tasks: &mut Tasks) -> anyhow::Result<Node> {
    let runtime = Arc::new(open_runtime(settings).await?);
    let importing = tokio::spawn({
        let (settings, runtime) = (settings.clone(), runtime.clone());
        async move { hello::import(&settings, &runtime).await }
    });
    settings.remember_pod_cidrs(&access.pod_cidrs)?;
    let network = settings.network(&access.pod_cidrs)?;
    let pods = RoutedNetwork::open(&network).await.context("preparing the pod network")?;
    let pods = pods.with_proxy(start_services(&network, &access, tasks).await?);
    let identity =
        Identity::user("kubelet", format!("system:node:{}", settings.node_name), &["system:nodes"]);
    let parts = Parts {
        client: access.clients.client(&identity),
        runtime: runtime.clone() as Arc<dyn ContainerRuntime>,
        network: Some(Arc::new(pods)),
        clock: access.clock,
        random: access.random,
    };
    let kubelet =
        Kubelet::build(kubelet_config(settings, access.tls), parts).await.context("starting the kubelet")?;
    let kubelet = tasks.spawn("kubelet", |stop| async move {
        kubelet.run(stop).await;
        Ok(())
    });
    importing.await?.context("making the image knarr.local/hello")?;
    Ok(Node { runtime, kubelet })
}

pub async fn open_runtime(settings: &NodeSettings) -> anyhow::Result<Embedded> {
    let (program, prefix) = (settings.program.clone(), settings.cgroup_prefix());
    let config = RuntimeConfig::below(&settings.dir("runtime"), program, &prefix);
    Embedded::open(config).await.context("opening the container runtime")
}

/// Service proxy, network policy, routes to other nodes and DNS, which share their informers.
async fn start_services(
    network: &knarr_network::Config,
    access: &Access,
    tasks: &mut Tasks,
) -> anyhow::Result<ProxyHandle> {
    let identity = Identity::user("kube-proxy", "system:knarr:network", &["system:authenticated"]);
    let client: Client = access.clients.client(&identity);
    let informers = InformerFactory::new(client, access.random.clone());
    let proxy = Proxy::build(network, &informers).context("starting the service proxy")?;
    let dns = Dns::build(network, &informers, access.random.clone()).await.context("starting cluster DNS")?;
    let policies = Policies::build(network, &informers).context("starting network policy")?;
    let routes = Routes::build(network, &informers).context("starting routes between nodes")?;
    let handle = proxy.handle();
    informers.start();
    tasks.spawn("informers of the network", |stop| async move {
        stop.cancelled().await;
        informers.stop().await;
        Ok(())
    });
    tasks.spawn("service proxy", |stop| async move {
        proxy.run(stop).await;
        Ok(())
    });
    tasks.spawn("network policy", |stop| async move {
        policies.run(stop).await;
        Ok(())
    });
    tasks.spawn("node routes", |stop| async move {
        routes.run(stop).await;
        Ok(())
    });
    tasks.spawn("cluster dns", |stop| async move {
        dns.run(stop).await;
        Ok(())
    });
    Ok(handle)
}

fn kubelet_config(settings: &NodeSettings, tls: ServerTls) -> knarr_kubelet::Config {
    let mut config = knarr_kubelet::Config::new(settings.node_name.clone(), settings.dir("kubelet"));
    let address = settings.node_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.node_ips = vec![address];
    config.version = crate::commands::version::LONG.to_owned();
    config.server = Some(ServerConfig::new(settings.kubelet_address(), tls));
    config.cluster_dns = settings.cluster_dns.clone();
    config.cluster_domain = settings.cluster_domain.clone();
    // A cluster on somebody's machine shares a disk that is often nearly full: upstream's shares of it would refuse
    // pods and throw away imported images while there is room for thousands.
    for disk in ["nodefs", "imagefs"] {
        config.eviction_hard.insert(format!("{disk}.available"), "1Gi".to_owned());
        config.eviction_hard.insert(format!("{disk}.inodesFree"), "1%".to_owned());
    }
    config.image_gc_high_threshold_percent = 100;
    let storage = settings.dir("storage");
    config.node_annotations.insert(STORAGE_PATH.to_owned(), storage.display().to_string());
    config.local_volumes_dir = Some(storage);
    config
}
