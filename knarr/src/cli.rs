//! The command line, as others script against it.

mod api_server;
mod snapshot;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cluster::MAX_NODES;

pub use api_server::{
    ApiServer, AuditFlags, AuditWebhookFlags, AuthenticationFlags, EtcdFlags, OidcFlags, StoreFlags,
    StoreKind, Wait,
};
pub use snapshot::{Snapshot, SnapshotCommand};
pub use store::{Store, StoreCommand};

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
        after_help = "Example:\n  knarr token create        # where the API server runs\n  knarr agent --server https://192.0.2.1:6443 --token TOKEN"
    )]
    Agent(Agent),
    /// Let machines join a cluster.
    #[command(after_help = "Example:\n  knarr token create")]
    Token(Token),
    /// Build container images, bring them into a cluster and out of it, list and remove them.
    #[command(after_help = "Example:\n  knarr image import web.tar\n  knarr image ls")]
    Image(Image),
    /// Save what a cluster has stored to a file, look into such a file, bring a stopped cluster back to it.
    #[command(
        after_help = "Example:\n  knarr snapshot save monday.snapshot\n  knarr snapshot info monday.snapshot"
    )]
    Snapshot(Snapshot),
    /// Decide where a cluster keeps its objects.
    #[command(after_help = "Example:\n  knarr store migrate --to etcd --etcd-servers http://127.0.0.1:2379")]
    Store(Store),
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
    /// Remove the directory of a volume; run in a pod by the provisioner of local volumes.
    #[command(hide = true)]
    RemoveVolume { directory: PathBuf },
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
    /// How many nodes the cluster has on this machine, each after the first in a network namespace
    /// [default: 1, or as many as it has].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
    pub nodes: Option<u8>,
    #[command(flatten)]
    pub extras: Extras,
    /// Do not add a context to the user's kubeconfig.
    #[arg(long)]
    pub no_merge_kubeconfig: bool,
}

/// What a cluster is started with besides the usual.
#[derive(Debug, Clone, Default, Args)]
pub struct Extras {
    /// A file with a KubeSchedulerConfiguration.
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
    /// Add this many simulated nodes, whose pods run as annotations say and cost next to nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sim_nodes: u32,
    #[command(flatten)]
    pub api_server: ApiServer,
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
    #[command(flatten)]
    pub extras: Extras,
    /// Started by `knarr up`: leave the terminal, and say on standard output when the node is Ready.
    #[arg(long, hide = true)]
    pub background: bool,
}

#[derive(Debug, Args)]
pub struct Agent {
    /// The cluster's API server.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// What `knarr token create` printed, or the variable KNARR_TOKEN; only needed to join.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Where the node keeps everything.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/knarr-agent")]
    pub data_dir: PathBuf,
    /// Part of every name that the node puts into the kernel [default: the cluster's name].
    #[arg(long)]
    pub name: Option<String>,
    /// The node's name [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The node's addresses, the primary one first [default: the machine's].
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// The node's port [default: 10250].
    #[arg(long)]
    pub port: Option<u16>,
    /// The network namespace that is the node.
    #[arg(long, value_name = "FILE", hide = true)]
    pub netns: Option<PathBuf>,
    /// Started by `knarr up`: leave the terminal, and say on standard output when the node is Ready.
    #[arg(long, hide = true)]
    pub background: bool,
}

/// Join tokens.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print the command that joins a machine with it.
    #[command(after_help = "Example:\n  knarr token create --ttl 1h")]
    Create {
        /// How long machines may join with it.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        named: Named,
    },
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
    /// Build an image from a Dockerfile, on every node of this machine.
    ///
    /// RUN steps are containers of knarr's own runtime; they see the machine's network, or with --network none only a
    /// loopback, and never the pods' network.
    #[command(after_help = "Example:\n  knarr image build -t web:v1 .")]
    Build(Build),
    /// Bring an image to its registry.
    #[command(after_help = "Example:\n  knarr image push registry.example/web:v1 --creds me:secret")]
    Push {
        #[arg(value_name = "REF")]
        reference: String,
        /// User name and password.
        #[arg(long, value_name = "USER:PASSWORD", env = "KNARR_REGISTRY_CREDS", hide_env_values = true)]
        creds: Option<String>,
        #[command(flatten)]
        named: Named,
    },
    /// Give an image one more name.
    #[command(after_help = "Example:\n  knarr image tag web:v1 registry.example/web:v1")]
    Tag {
        #[arg(value_name = "REF")]
        reference: String,
        #[arg(value_name = "NEW")]
        new: String,
        #[command(flatten)]
        named: Named,
    },
    /// Show all that is known of images, as JSON.
    #[command(after_help = "Example:\n  knarr image inspect web:v1")]
    Inspect {
        #[arg(required = true, value_name = "REF")]
        references: Vec<String>,
        #[command(flatten)]
        named: Named,
    },
    /// Show the steps an image was made in, the newest first.
    #[command(after_help = "Example:\n  knarr image history web:v1")]
    History {
        #[arg(value_name = "REF")]
        reference: String,
        #[command(flatten)]
        named: Named,
    },
    /// Write images to an archive that `image load` and `docker load` read.
    #[command(after_help = "Example:\n  knarr image save web:v1 -o web.tar")]
    Save {
        #[arg(required = true, value_name = "REF")]
        references: Vec<String>,
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        named: Named,
    },
    /// Read an archive as `image import` does, from standard input where no file is named.
    #[command(after_help = "Example:\n  docker save web:v1 | knarr image load")]
    Load {
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
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

#[derive(Debug, Args)]
pub struct Build {
    /// The directory that COPY and ADD take files from.
    #[arg(value_name = "DIR")]
    pub context: PathBuf,
    /// A name of the image; may be repeated.
    #[arg(short, long = "tag", value_name = "REF")]
    pub tags: Vec<String>,
    /// The Dockerfile [default: DIR/Dockerfile].
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A value for an ARG; without a value that of the environment. May be repeated.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub arguments: Vec<String>,
    /// A label of the image; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Build only up to this stage.
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Do every step anew.
    #[arg(long)]
    pub no_cache: bool,
    /// Ask registries for base images even if they are there.
    #[arg(long)]
    pub pull: bool,
    /// What RUN steps reach: the machine's network, or only a loopback.
    #[arg(long, value_parser = ["host", "none"], default_value = "host")]
    pub network: String,
    #[command(flatten)]
    pub named: Named,
}

/// `90s`, `15m`, `24h`, as Go writes durations.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 90s, 15m or 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=10 * 365 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
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
        let own = |command: &&clap::Command| command.get_name() != "help";
        let groups = command.get_subcommands().filter(own);
        let nested: Vec<clap::Command> = groups.flat_map(clap::Command::get_subcommands).cloned().collect();
        for sub in command.get_subcommands().chain(&nested) {
            let hidden = sub.is_hide_set() || sub.get_name() == "help";
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(hidden || help.starts_with("Example:"), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn up_takes_exactly_the_published_flags() {
        let flags = [
            "knarr",
            "up",
            "--name",
            "a",
            "--data-dir",
            "/d",
            "--api-port",
            "7443",
            "--no-merge-kubeconfig",
            "--nodes",
            "3",
        ];
        let Command::Up(up) = Cli::try_parse_from(flags).expect("parses").command else { panic!("not up") };
        assert_eq!((up.place.named.name.as_str(), up.place.api_port), ("a", Some(7443)));
        assert!(up.no_merge_kubeconfig);
        assert_eq!(up.nodes, Some(3));
        assert!(Cli::try_parse_from(["knarr", "up", "--api-port", "70000"]).is_err());
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for text in ["", "h", "0s", "12", "-1h", "1ü", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
