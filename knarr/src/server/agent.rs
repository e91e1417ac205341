//! `knarr agent`: a node of a cluster whose API server is elsewhere.
//!
//! ```text
//!   token ─► authority of the cluster ─► client certificate ─► facts of the cluster ─► Node, pod range
//!                                                            ─► serving certificate ─► node
//!   at the next start: certificates on disk ─► the same, without a token
//! ```

mod authority;
mod certificates;
pub mod token;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Uri;
use http::header::USER_AGENT;
use knarr_api::time::{SeededRandom, SharedClock, SharedRandom, SystemClock};
use knarr_client::Client;
use knarr_client::connect::{SharedClient, from_config, user_agent, with_certificate};
use knarr_kubelet::config::ServerTls;
use kube::config::AuthInfo;
use nix::sched::{CloneFlags, setns};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::signal::unix::{SignalKind, signal};

use super::facts::Facts;
use super::node::{self, Access};
use super::settings::NodeSettings;
use super::tasks::Tasks;
use super::{announce, backend, leave_terminal, log_to_stderr, machine, range, ready};
use crate::cli;
use crate::cluster::Lock;
use certificates::{Certificate, Purpose, write};
use token::JoinToken;

/// Where the token is when it is not on the command line, which everyone may read.
pub const TOKEN_VARIABLE: &str = "KNARR_TOKEN";
/// How long `knarr up` waits for a node to join.
const PATIENCE: Duration = Duration::from_secs(120);
const PORT: u16 = 10_250;

pub fn run(args: cli::Agent) -> anyhow::Result<ExitCode> {
    if args.background {
        leave_terminal()?;
    }
    log_to_stderr()?;
    let lock = Lock::take(&args.data_dir)?;
    if let Some(path) = &args.netns {
        enter(path)?;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
    let background = args.background;
    let outcome = runtime.block_on(serve(args));
    if background && let Err(error) = &outcome {
        announce(&format!("{error:#}"));
    }
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Goes into a network namespace, while this process has one thread: the others inherit it.
fn enter(path: &Path) -> anyhow::Result<()> {
    let netns = std::fs::File::open(path);
    let netns = netns.with_context(|| format!("opening network namespace {}", path.display()))?;
    setns(netns, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", path.display()))
}

async fn serve(args: cli::Agent) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tasks = Tasks::default();
    let started = tokio::select! {
        started = start(&args, &mut tasks) => started,
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

async fn start(args: &cli::Agent, tasks: &mut Tasks) -> anyhow::Result<()> {
    if !args.background {
        return join(args, tasks).await;
    }
    match tokio::time::timeout(PATIENCE, join(args, tasks)).await {
        Ok(outcome) => outcome?,
        Err(_) => bail!("the node has not joined after {} s", PATIENCE.as_secs()),
    }
    announce("ready");
    Ok(())
}

/// Who this node is, and where it keeps what proves it.
struct Joining {
    node: String,
    addresses: Vec<IpAddr>,
    server: Uri,
    pki: PathBuf,
    clock: SharedClock,
}

async fn join(args: &cli::Agent, tasks: &mut Tasks) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(&args.data_dir)?;
    let node = match &args.hostname_override {
        Some(name) => name.clone(),
        None => machine::node_name()?,
    };
    let addresses = if args.node_ip.is_empty() { machine::addresses()? } else { args.node_ip.clone() };
    let server = args.server.parse().with_context(|| format!("--server {}", args.server))?;
    let clock: SharedClock = Arc::new(SystemClock);
    let joining = Joining { node, addresses, server, pki: data_dir.join("pki"), clock: clock.clone() };
    let (authority, client, certificate) = joining.client(args).await?;
    let settings = settings(args, &joining, data_dir, &Facts::read(&client).await?)?;
    let pod_cidrs = range::of_node(&client, &settings.node_name, &[], &settings.node_ips).await?;
    let serving = joining.serving(&client).await?;
    for certificate in [certificate, serving.clone()] {
        let client = client.clone();
        tasks.spawn("node certificate", |stop| async move {
            stop.run_until_cancelled(certificate.rotate(client)).await;
            Ok(())
        });
    }
    let random: SharedRandom = Arc::new(SeededRandom::from_process());
    let access = Access {
        pod_cidrs,
        clients: Arc::new(SharedClient(client.clone())),
        tls: ServerTls { certificate: serving, client_ca: vec![authority] },
        clock,
        random,
    };
    let started = node::start(&settings, access, tasks).await?;
    backend::start_agent(&settings, &joining.server, &client, &started, tasks)?;
    ready::wait(&client, &settings.node_name).await
}

impl Joining {
    /// The cluster's authority, a client with the node's certificate, and the certificate: from disk, or by joining.
    async fn client(
        &self,
        args: &cli::Agent,
    ) -> anyhow::Result<(CertificateDer<'static>, Client, Arc<Certificate>)> {
        let purpose = Purpose::client(&self.node);
        let path = self.pki.join("ca.crt");
        let known = Certificate::load(&self.pki, purpose.clone(), self.clock.clone())?;
        if let (Some(certificate), true) = (known, path.exists()) {
            let authority = CertificateDer::from_pem_file(&path);
            let authority = authority.with_context(|| format!("reading {}", path.display()))?;
            let client = with_certificate(&self.config(&authority), certificate.clone())?;
            return Ok((authority, client, certificate));
        }
        let token = match &args.token {
            Some(token) => token.clone(),
            None => std::env::var(TOKEN_VARIABLE).context(
                "this machine has not joined yet: pass --token, as `knarr token create` on the server prints it",
            )?,
        };
        let token: JoinToken = token.parse()?;
        let authority = authority::fetch(&self.server, token.pin).await?;
        let mut config = self.config(&authority);
        config.auth_info = AuthInfo { token: Some(token.bearer().into()), ..AuthInfo::default() };
        let joining = from_config(config)?;
        let certificate = Certificate::request(&joining, &self.pki, purpose, self.clock.clone()).await?;
        write(&path, pem(&authority).as_bytes())?;
        let client = with_certificate(&self.config(&authority), certificate.clone())?;
        Ok((authority, client, certificate))
    }

    async fn serving(&self, client: &Client) -> anyhow::Result<Arc<Certificate>> {
        let purpose = Purpose::serving(&self.node, &self.addresses)?;
        match Certificate::load(&self.pki, purpose.clone(), self.clock.clone())? {
            Some(certificate) => Ok(certificate),
            None => Certificate::request(client, &self.pki, purpose, self.clock.clone()).await,
        }
    }

    fn config(&self, authority: &CertificateDer<'static>) -> kube::Config {
        let mut config = kube::Config::new(self.server.clone());
        config.root_cert = Some(vec![authority.to_vec()]);
        config.headers = vec![(USER_AGENT, user_agent("kubelet"))];
        config
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn settings(
    args: &cli::Agent,
    joining: &Joining,
    data_dir: PathBuf,
    facts: &Facts,
) -> anyhow::Result<NodeSettings> {
    let ranges = |texts: &[String]| {
        let parse = |text: &String| text.parse().with_context(|| format!("range {text}"));
        texts.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()
    };
    Ok(NodeSettings {
        cluster: args.name.clone().unwrap_or_else(|| facts.cluster_name.clone()),
        tunnel: facts.cluster_name.clone(),
        node_name: joining.node.clone(),
        node_ips: joining.addresses.clone(),
        program: std::env::current_exe().context("finding knarr's own program")?,
        data_dir,
        cluster_cidrs: ranges(&facts.cluster_cidr)?,
        service_cidrs: ranges(&facts.service_cluster_ip_range)?,
        cluster_dns: facts.cluster_dns.clone(),
        cluster_domain: facts.cluster_domain.clone(),
        masquerade_mark: facts.masquerade_mark,
        kubelet_port: args.port.unwrap_or(PORT),
    })
}
