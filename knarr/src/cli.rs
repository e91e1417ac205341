//! The command line, as others script against it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use clap::{Args, Parser, Subcommand};

/// Kubernetes as one binary.
#[derive(Debug, Parser)]
#[command(name = "knarr", version = crate::commands::version::LONG, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  knarr up\n  kubectl create deployment hello --image=knarr.local/hello\n  knarr delete"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster in the background and wait until its node is Ready.
    #[command(after_help = "Example:\n  knarr up --name test --api-port 7443")]
    Up(Up),
    /// Show whether a cluster runs, where, and what it uses.
    #[command(after_help = "Example:\n  knarr status --name test")]
    Status(Named),
    /// Stop a cluster. Its containers keep running and are found again by the next `up`.
    #[command(after_help = "Example:\n  knarr down --pods")]
    Down(Down),
    /// Stop a cluster and remove everything it made.
    #[command(after_help = "Example:\n  knarr delete --name test")]
    Delete(Named),
    /// Run a cluster in the foreground, logging to standard error.
    #[command(after_help = "Example:\n  knarr server --data-dir /var/lib/knarr/default")]
    Server(Server),
    /// Run a node that joins a cluster, in the foreground.
    #[command(
        after_help = "Example:\n  knarr agent --data-dir /var/lib/knarr-agent --kubeconfig node.kubeconfig \\\n    --tls-cert-file node.crt --tls-private-key-file node.key --client-ca-file ca.crt"
    )]
    Agent(Agent),
    /// Bring container images into a cluster, list and remove them.
    #[command(after_help = "Example:\n  knarr image import web.tar\n  knarr image ls")]
    Image(Image),
    /// Print the administrator's kubeconfig of a cluster.
    #[command(after_help = "Example:\n  knarr kubeconfig > admin.kubeconfig")]
    Kubeconfig(Named),
    /// Print the version.
    #[command(after_help = "Example:\n  knarr version")]
    Version,
    /// Print a script that completes knarr's commands in a shell.
    #[command(after_help = "Example:\n  source <(knarr completion bash)")]
    Completion { shell: clap_complete::Shell },
    /// Serve a page that names the pod: the content of the image knarr.local/hello.
    #[command(hide = true)]
    Hello,
    /// Holds one container; started by knarr itself.
    #[command(hide = true)]
    Shim,
}

#[derive(Debug, Clone, Args)]
pub struct Named {
    /// Which cluster.
    #[arg(long, default_value = "default")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub place: Place,
    /// Do not add a context to the user's kubeconfig.
    #[arg(long)]
    pub no_merge_kubeconfig: bool,
}

/// Which cluster, and where it lives.
#[derive(Debug, Clone, Args)]
pub struct Place {
    #[command(flatten)]
    pub named: Named,
    /// Where the cluster keeps everything [default: /var/lib/knarr/NAME].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The API server's port [default: 6443, or the next one for further clusters].
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
}

#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub named: Named,
    /// Stop the containers too.
    #[arg(long)]
    pub pods: bool,
}

#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    pub place: Place,
    /// Started by `knarr up`: leave the terminal, and say on standard output when the node is Ready.
    #[arg(long, hide = true)]
    pub background: bool,
}

#[derive(Debug, Args)]
pub struct Agent {
    /// Where the node keeps everything.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// How to reach the API server, and as whom (system:node:NAME).
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The cluster's name; part of every name that the node puts into the kernel.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// The node's name [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The node's addresses, the primary one first [default: the machine's].
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// The node's port.
    #[arg(long, default_value_t = 10250)]
    pub port: u16,
    /// The certificate that the node serves with, from the cluster's authority.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// The authority of the certificates of those who may ask this node.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: PathBuf,
    /// The ranges of all pods of the cluster.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.244.0.0/16")]
    pub cluster_cidr: Vec<IpNet>,
    /// The ranges of Service addresses.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// The addresses of cluster DNS.
    #[arg(long, value_name = "IP", value_delimiter = ',', default_value = "10.96.0.10")]
    pub cluster_dns: Vec<IpAddr>,
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The bit of the packet mark that means masquerading.
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..32))]
    pub iptables_masquerade_bit: u8,
}

#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import OCI layout archives and `docker save` archives.
    #[command(after_help = "Example:\n  knarr image import web.tar db.tar.gz")]
    Import {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        named: Named,
    },
    /// Pull an image from its registry.
    #[command(after_help = "Example:\n  knarr image pull docker.io/library/nginx:1.29")]
    Pull {
        #[arg(value_name = "REF")]
        reference: String,
        #[command(flatten)]
        named: Named,
    },
    /// List images: name, digest, size.
    #[command(after_help = "Example:\n  knarr image ls")]
    Ls {
        #[command(flatten)]
        named: Named,
    },
    /// Remove an image.
    #[command(after_help = "Example:\n  knarr image rm web:v1")]
    Rm {
        #[arg(value_name = "REF")]
        reference: String,
        #[command(flatten)]
        named: Named,
    },
}

pub fn parse() -> Cli {
    Cli::parse()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let image = command.find_subcommand("image").expect("image").clone();
        for sub in command.get_subcommands().chain(image.get_subcommands()) {
            let hidden = sub.is_hide_set() || sub.get_name() == "help";
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(hidden || help.starts_with("Example:"), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn up_takes_exactly_the_published_flags() {
        let flags =
            ["knarr", "up", "--name", "a", "--data-dir", "/d", "--api-port", "7443", "--no-merge-kubeconfig"];
        let Command::Up(up) = Cli::try_parse_from(flags).expect("parses").command else { panic!("not up") };
        assert_eq!((up.place.named.name.as_str(), up.place.api_port), ("a", Some(7443)));
        assert!(up.no_merge_kubeconfig);
        assert!(Cli::try_parse_from(["knarr", "up", "--api-port", "70000"]).is_err());
    }
}
