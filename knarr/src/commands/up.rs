//! `knarr up`: start a server in the background, and wait until it says that its node is Ready.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use super::process::{check_port_is_free, last_lines};
use crate::cli::Up;
use crate::cluster::{Cluster, Lock, Registry};
use crate::kubeconfig;

pub async fn run(up: Up) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let cluster = {
        let mut registry = Registry::open()?;
        Cluster::resolve(&mut registry, &up.place)?
    };
    if let Some(pid) = Lock::holder(&cluster.data_dir)? {
        println!("cluster {} runs already (pid {pid})", cluster.name);
    } else {
        start(&cluster)?;
        println!("cluster {} is ready after {:.2} s", cluster.name, began.elapsed().as_secs_f64());
    }
    let own = cluster.kubeconfig();
    println!("kubeconfig: {}", own.display());
    if !up.no_merge_kubeconfig
        && let Some(file) = kubeconfig::user_file()
    {
        let text = std::fs::read_to_string(&own).with_context(|| format!("reading {}", own.display()))?;
        kubeconfig::merge(&file, &text, &cluster.context())?;
        println!("context {} is the current one in {}", cluster.context(), file.display());
        println!("try: kubectl get nodes");
    } else {
        println!("try: kubectl --kubeconfig {} get nodes", own.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the server and waits for its one line: how it went.
fn start(cluster: &Cluster) -> anyhow::Result<()> {
    check_port_is_free(cluster.api_port, "--api-port")?;
    std::fs::create_dir_all(&cluster.data_dir).with_context(|| {
        format!("creating data directory {}: pass --data-dir", cluster.data_dir.display())
    })?;
    let path = cluster.log_file();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.with_context(|| format!("opening {}: pass --data-dir", path.display()))?;
    let mut child = Command::new(std::env::current_exe().context("finding knarr's own program")?)
        .args(["server", "--background", "--name", &cluster.name])
        .arg("--data-dir")
        .arg(&cluster.data_dir)
        .args(["--api-port", &cluster.api_port.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("starting the server")?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("the server's output")?;
    BufReader::new(stdout).read_line(&mut line).context("waiting for the server")?;
    match line.trim() {
        "ready" => Ok(()),
        "" => {
            let status = child.wait().context("waiting for the server")?;
            bail!(
                "the server ended ({status}):\n{}\nthe whole log is {}",
                last_lines(&path, 8),
                path.display()
            )
        }
        message => bail!("{message}\nthe log is {}", path.display()),
    }
}
