//! A storage driver: volumes are directories, mounted where they are wanted. It answers on sockets below the agent's
//! directory and keeps what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use knarr_kubelet::csi::proto::{
    Capability, Mode, NodeGetCapabilitiesResponse, NodeGetInfoResponse, NodePublishVolumeRequest,
    NodeServiceCapability, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    Nothing, Rpc, Topology,
};
use knarr_kubelet::plugins::PluginInfo;
use knarr_kubelet::plugins::proto::RegistrationStatus;
use nix::mount::{MsFlags, mount, umount};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub const NAME: &str = "csi.example.com";

/// One thing the driver was asked.
#[derive(Debug, Clone)]
pub enum Call {
    Registered(RegistrationStatus),
    Stage(NodeStageVolumeRequest),
    Unstage(NodeUnstageVolumeRequest),
    Publish(NodePublishVolumeRequest),
    Unpublish(NodeUnpublishVolumeRequest),
}

impl Call {
    /// The method and the volume.
    fn text(&self) -> String {
        match self {
            Self::Registered(status) => format!("registered {}", status.plugin_registered),
            Self::Stage(request) => format!("stage {}", request.volume_id),
            Self::Unstage(request) => format!("unstage {}", request.volume_id),
            Self::Publish(request) => format!("publish {}", request.volume_id),
            Self::Unpublish(request) => format!("unpublish {}", request.volume_id),
        }
    }
}

pub struct Driver {
    sockets: [PathBuf; 2],
    calls: watch::Receiver<Vec<Call>>,
    _serving: JoinSet<()>,
}

struct Service {
    /// Where its socket is, for those who register it.
    endpoint: String,
    /// Volumes are directories in here.
    volumes: PathBuf,
    calls: watch::Sender<Vec<Call>>,
}

impl Driver {
    /// Serves below the agent's directory `root`, with volumes in `volumes`, until dropped.
    pub fn start(root: &Path, volumes: &Path) -> Self {
        let own = root.join("plugins").join(NAME);
        std::fs::create_dir_all(&own).expect("a directory");
        let sockets = [own.join("csi.sock"), root.join("plugins_registry/example-reg.sock")];
        let endpoint = sockets[0].to_string_lossy().into_owned();
        let (sender, calls) = watch::channel(Vec::new());
        let service = Arc::new(Service { endpoint, volumes: volumes.to_owned(), calls: sender });
        let mut serving = JoinSet::new();
        for socket in &sockets {
            let listener = UnixListener::bind(socket).expect("the socket is free");
            serving.spawn(serve(listener, Arc::clone(&service)));
        }
        Self { sockets, calls, _serving: serving }
    }

    /// Returns when the driver was asked all this, in this order, whatever else in between; the calls.
    pub async fn until(&mut self, wanted: &[&str]) -> Vec<Call> {
        let all_seen = |calls: &Vec<Call>| {
            let mut left = wanted.iter().peekable();
            for call in calls {
                left.next_if(|next| call.text() == **next);
            }
            left.peek().is_none()
        };
        let seen = tokio::time::timeout(super::node::PATIENCE, self.calls.wait_for(all_seen)).await;
        match seen.map(|calls| calls.expect("the driver serves").clone()) {
            Ok(calls) => calls,
            Err(_) => panic!("never asked {wanted:?}: {:#?}", self.calls.borrow()),
        }
    }

    pub fn count(&self, wanted: &str) -> usize {
        self.calls.borrow().iter().filter(|call| call.text() == wanted).count()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                eprintln!("{}: {error}", socket.display());
            }
        }
    }
}

async fn serve(listener: UnixListener, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("connections come");
        let service = Arc::clone(&service);
        connections.spawn(async move {
            let answering = service_fn(|request| answer(Arc::clone(&service), request));
            let server = http2::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), answering).await {
                println!("connection to the driver: {error}");
            }
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let method = path.rsplit('/').next().unwrap_or_default();
    let (message, status) = match service.call(method, &body[5..]) {
        Ok(message) => (message, 0),
        Err(error) => {
            println!("{path}: {error}");
            (Vec::new(), 13)
        }
    };
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    framed.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    let body = Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc").body(body.boxed());
    Ok(response.expect("a response"))
}

fn decode<M: Message + Default>(message: &[u8]) -> M {
    M::decode(message).expect("a message of this kind")
}

fn bind(from: &Path, to: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

impl Service {
    fn call(&self, method: &str, message: &[u8]) -> std::io::Result<Vec<u8>> {
        let (call, answer) = match method {
            "GetInfo" => return Ok(self.plugin()),
            "NodeGetInfo" => return Ok(info()),
            "NodeGetCapabilities" => return Ok(capabilities()),
            "NotifyRegistrationStatus" => (Call::Registered(decode(message)), Ok(())),
            "NodeStageVolume" => {
                let request: NodeStageVolumeRequest = decode(message);
                let staged = self.stage(&request);
                (Call::Stage(request), staged)
            }
            "NodeUnstageVolume" => {
                let request: NodeUnstageVolumeRequest = decode(message);
                let device = request.volume_id.starts_with("device");
                let done = if device { Ok(()) } else { Ok(umount(request.staging_target_path.as_str())?) };
                (Call::Unstage(request), done)
            }
            "NodePublishVolume" => {
                let request: NodePublishVolumeRequest = decode(message);
                let published = self.publish(&request);
                (Call::Publish(request), published)
            }
            "NodeUnpublishVolume" => {
                let request: NodeUnpublishVolumeRequest = decode(message);
                let done = unpublish(&request);
                (Call::Unpublish(request), done)
            }
            other => return Err(std::io::Error::other(format!("{other} is not served"))),
        };
        // Told when it is done.
        self.calls.send_modify(|calls| calls.push(call));
        answer.map(|()| Nothing {}.encode_to_vec())
    }

    fn plugin(&self) -> Vec<u8> {
        PluginInfo {
            kind: "CSIPlugin".to_owned(),
            name: NAME.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        }
        .encode_to_vec()
    }

    /// The volume itself: a directory with its name in a file, or what stands for a device.
    fn volume(&self, id: &str) -> std::io::Result<PathBuf> {
        let directory = self.volumes.join(id);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("name"), format!("{id}\n"))?;
        Ok(directory)
    }

    /// What is staged already stays, as drivers must do.
    fn stage(&self, request: &NodeStageVolumeRequest) -> std::io::Result<()> {
        let staged = Path::new(&request.staging_target_path).join("name").exists();
        if staged || request.volume_id.starts_with("device") {
            return Ok(());
        }
        bind(&self.volume(&request.volume_id)?, &request.staging_target_path)
    }

    fn publish(&self, request: &NodePublishVolumeRequest) -> std::io::Result<()> {
        let target = &request.target_path;
        if request.volume_id.starts_with("device") {
            return match symlink("/dev/null", target) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            };
        }
        if Path::new(target).join("name").exists() {
            return Ok(());
        }
        match request.staging_target_path.as_str() {
            "" => bind(&self.volume(&request.volume_id)?, target),
            staged => bind(Path::new(staged), target),
        }
    }
}

/// The driver removes what it made.
fn unpublish(request: &NodeUnpublishVolumeRequest) -> std::io::Result<()> {
    let target = request.target_path.as_str();
    if request.volume_id.starts_with("device") {
        return std::fs::remove_file(target);
    }
    umount(target)?;
    std::fs::remove_dir(target)
}

fn info() -> Vec<u8> {
    let segments = [("topology.example.com/zone".to_owned(), "near".to_owned())].into();
    NodeGetInfoResponse {
        node_id: "node-id".to_owned(),
        max_volumes_per_node: 7,
        accessible_topology: Some(Topology { segments }),
    }
    .encode_to_vec()
}

fn capabilities() -> Vec<u8> {
    let rpc = |capability: Capability| NodeServiceCapability { rpc: Some(Rpc { kind: capability.into() }) };
    let capabilities = vec![rpc(Capability::StageUnstageVolume), rpc(Capability::SingleNodeMultiWriter)];
    NodeGetCapabilitiesResponse { capabilities }.encode_to_vec()
}

/// The access mode of a request's capability.
pub fn mode(request: &NodePublishVolumeRequest) -> Option<Mode> {
    let capability = request.volume_capability.as_ref()?;
    Some(capability.access_mode.as_ref()?.mode())
}

/// What publishing told of the volume, without what differs from run to run.
pub fn context(request: &NodePublishVolumeRequest) -> HashMap<&str, &str> {
    let fixed = request.volume_context.iter().filter(|(key, _)| !key.ends_with("pod.uid"));
    fixed.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
