//! The cluster's authority, learnt from its API server and believed for its fingerprint.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Uri;
use knarr_apiserver::pki::{Pin, PinnedAuthority, provider};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the server for its chain of certificates; fails unless it ends in the pinned authority.
pub async fn fetch(server: &Uri, pin: Pin) -> anyhow::Result<CertificateDer<'static>> {
    let (shown, server) = (server.to_string(), server.clone());
    let asking = tokio::task::spawn_blocking(move || shake_hands(&server, pin));
    asking.await?.with_context(|| format!("asking {shown} for the cluster's authority"))
}

fn shake_hands(server: &Uri, pin: Pin) -> anyhow::Result<CertificateDer<'static>> {
    let host = server.host().context("the address of the server has no host")?.trim_matches(['[', ']']);
    let port = server.port_u16().unwrap_or(443);
    let verifier = Arc::new(PinnedAuthority::new(pin));
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).context("the server's name")?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let address = (host, port).to_socket_addrs()?.next().context("the name has no address")?;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            let foreign = matches!(
                error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()),
                Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
            );
            if foreign {
                bail!("its authority is not the one of the token: wrong server, or an old token");
            }
            return Err(error.into());
        }
    }
    verifier.found().context("the handshake ended without a certificate")
}
