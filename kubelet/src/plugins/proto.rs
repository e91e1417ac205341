//! Messages of `pluginregistration.Registration`, which plugins serve on their sockets.

use std::path::Path;
use std::time::Duration;

use crate::grpc::{self, Status};

#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoRequest {}

/// Who a plugin is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginInfo {
    /// `CSIPlugin`, `DevicePlugin`, ...
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub name: String,
    /// The socket of the service itself; empty: this one.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegistrationStatus {
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegistrationStatusResponse {}

pub async fn call<Q: prost::Message, A: prost::Message + Default>(
    socket: &Path,
    method: &str,
    request: &Q,
    timeout: Duration,
) -> Result<A, Status> {
    grpc::call_socket(socket, &format!("/pluginregistration.Registration/{method}"), request, timeout).await
}
