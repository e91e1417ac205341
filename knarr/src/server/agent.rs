//! `knarr agent`: a node of a cluster whose API server is elsewhere. Flags have the kubelet's and kube-proxy's names.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use knarr_api::time::{SeededRandom, SharedRandom, SystemClock};
use knarr_client::connect::{SharedClient, from_kubeconfig};
use knarr_kubelet::config::ServerTls;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::signal::unix::{SignalKind, signal};

use super::node::{self, Access};
use super::settings::NodeSettings;
use super::tasks::Tasks;
use super::{log_to_stderr, machine, range};
use crate::cli;
use crate::cluster::Lock;

pub fn run(args: cli::Agent) -> anyhow::Result<ExitCode> {
    log_to_stderr()?;
    let lock = Lock::take(&args.data_dir)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
    let outcome = runtime.block_on(serve(args));
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: cli::Agent) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tasks = Tasks::default();
    let started = tokio::select! {
        started = start(args, &mut tasks) => started,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    let outcome = match started {
        Ok(()) => tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            failure = tasks.failed() => Err(failure),
        },
        Err(error) => Err(error),
    };
    tasks.stop().await;
    outcome
}

async fn start(args: cli::Agent, tasks: &mut Tasks) -> anyhow::Result<()> {
    let client = from_kubeconfig(&args.kubeconfig).await?;
    let random: SharedRandom = Arc::new(SeededRandom::from_process());
    let settings = settings(&args)?;
    let access = Access {
        pod_cidrs: range::of_node(&client, &settings.node_name, &[]).await?,
        clients: Arc::new(SharedClient(client)),
        tls: tls(&args)?,
        clock: Arc::new(SystemClock),
        random,
    };
    node::start(&settings, access, tasks).await?;
    Ok(())
}

fn settings(args: &cli::Agent) -> anyhow::Result<NodeSettings> {
    let node_name = match &args.hostname_override {
        Some(name) => name.clone(),
        None => machine::node_name()?,
    };
    let node_ips = if args.node_ip.is_empty() { machine::addresses()? } else { args.node_ip.clone() };
    Ok(NodeSettings {
        cluster: args.name.clone(),
        node_name,
        node_ips,
        program: std::env::current_exe().context("finding knarr's own program")?,
        data_dir: std::path::absolute(&args.data_dir)?,
        cluster_cidrs: args.cluster_cidr.clone(),
        service_cidrs: args.service_cluster_ip_range.clone(),
        cluster_dns: args.cluster_dns.clone(),
        cluster_domain: args.cluster_domain.clone(),
        masquerade_mark: 1 << args.iptables_masquerade_bit,
        kubelet_port: args.port,
    })
}

/// The certificate the node serves with, and the authority of those who may ask it.
fn tls(args: &cli::Agent) -> anyhow::Result<ServerTls> {
    let read = |path: &std::path::Path| {
        let parsed = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        parsed.with_context(|| format!("certificates in {}", path.display()))
    };
    let chain = read(&args.tls_cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&args.tls_private_key_file);
    let key = key.with_context(|| format!("the key in {}", args.tls_private_key_file.display()))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).context("the node's key")?;
    let certificate: Arc<dyn ResolvesServerCert> =
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    Ok(ServerTls { certificate, client_ca: read(&args.client_ca_file)? })
}
