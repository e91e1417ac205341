//! Drivers that register: upstream's handler of `CSIPlugin`s.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::Client;
use super::drivers::{Driver, Drivers, Root};
use super::node_info::NodeInfo;
use crate::plugins::{Handler, PluginInfo};

/// What a driver's registrar says it is.
pub const KIND: &str = "CSIPlugin";

pub struct Registration {
    pub drivers: Arc<Drivers>,
    pub node: NodeInfo,
    pub root: Root,
}

impl Registration {
    /// Asks the driver where it is and tells the cluster.
    async fn introduce(&self, driver: &Arc<Driver>) -> Result<(), String> {
        let info = Client::new(Arc::clone(driver)).info().await.map_err(|error| error.to_string())?;
        let told = self.node.install(&driver.name, &info).await;
        told.map_err(|error| format!("error updating Node object with CSI driver node info: {error}"))
    }
}

#[async_trait]
impl Handler for Registration {
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String> {
        let checked = self.drivers.check("ValidatePlugin", &plugin.name, &plugin.supported_versions);
        checked.map(drop).map_err(|error| {
            let (name, endpoint) = (&plugin.name, &plugin.endpoint);
            format!("validation failed for CSI Driver {name} at endpoint {endpoint}: {error}")
        })
    }

    async fn register(&self, plugin: &PluginInfo) -> Result<(), String> {
        let name = &plugin.name;
        let version = self.drivers.check("RegisterPlugin", name, &plugin.supported_versions)?;
        let driver = self.drivers.add(Driver::new(name, &plugin.endpoint, version, &self.root))?;
        if let Err(error) = self.introduce(&driver).await {
            self.deregister(plugin).await;
            return Err(error);
        }
        tracing::info!(driver = %name, socket = %driver.socket.display(), "a CSI driver has registered");
        self.drivers.announce();
        Ok(())
    }

    async fn deregister(&self, plugin: &PluginInfo) {
        self.drivers.remove(&plugin.name);
        tracing::info!(driver = %plugin.name, "a CSI driver is gone");
        if let Err(error) = self.node.uninstall(&plugin.name).await {
            tracing::warn!(driver = %plugin.name, %error, "cannot take a CSI driver off the node's objects");
        }
    }
}
