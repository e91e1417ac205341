//! A node's certificates: asked of the cluster by certificate requests, kept on disk, replaced before they expire.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use knarr_api::time::SharedClock;
use knarr_client::Client;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Waiting is bounded, because the wall clock may be set while we wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(30);

/// What a certificate is for.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// The files' name below the directory of keys.
    pub file: &'static str,
    pub signer: &'static str,
    pub usages: &'static [&'static str],
    pub node: String,
    pub names: Vec<SanType>,
}

impl Purpose {
    /// With which the node asks the API server.
    pub fn client(node: &str) -> Self {
        Self {
            file: "kubelet-client",
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usages: &["digital signature", "client auth"],
            node: node.to_owned(),
            names: Vec::new(),
        }
    }

    /// With which the node answers the API server.
    pub fn serving(node: &str, addresses: &[std::net::IpAddr]) -> anyhow::Result<Self> {
        let mut names = vec![SanType::DnsName(node.try_into().context("the node's name")?)];
        names.extend(addresses.iter().copied().map(SanType::IpAddress));
        Ok(Self {
            file: "kubelet",
            signer: "kubernetes.io/kubelet-serving",
            usages: &["digital signature", "server auth"],
            node: node.to_owned(),
            names,
        })
    }
}

/// The newest certificate for one purpose; rustls asks it at every handshake.
pub struct Certificate {
    purpose: Purpose,
    directory: PathBuf,
    clock: SharedClock,
    current: ArcSwap<Held>,
}

struct Held {
    certified: Arc<CertifiedKey>,
    not_after: Timestamp,
    renew_at: Timestamp,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Certificate {
    /// The certificate on disk, if there is one that is still valid and for this purpose.
    pub fn load(directory: &Path, purpose: Purpose, clock: SharedClock) -> anyhow::Result<Option<Arc<Self>>> {
        let paths = paths(directory, &purpose);
        if !paths.iter().all(|path| path.exists()) {
            return Ok(None);
        }
        let [certificate, key] =
            paths.map(|path| std::fs::read(&path).with_context(|| format!("reading {}", path.display())));
        let held = Held::parse(&certificate?, &key?)
            .with_context(|| format!("the certificate {}/{}.crt", directory.display(), purpose.file))?;
        if held.not_after <= clock.now() || !held.names_all(&purpose) {
            return Ok(None);
        }
        let current = ArcSwap::from_pointee(held);
        Ok(Some(Arc::new(Self { purpose, directory: directory.to_owned(), clock, current })))
    }

    /// Asks the cluster for a certificate, waits until it is issued, and keeps it.
    pub async fn request(
        client: &Client,
        directory: &Path,
        purpose: Purpose,
        clock: SharedClock,
    ) -> anyhow::Result<Arc<Self>> {
        let held = ask(client, directory, &purpose).await?;
        let current = ArcSwap::from_pointee(held);
        Ok(Arc::new(Self { purpose, directory: directory.to_owned(), clock, current }))
    }

    /// Replaces the certificate whenever two thirds of its life are over, until dropped.
    pub async fn rotate(self: Arc<Self>, client: Client) {
        loop {
            let left = self.current.load().renew_at.duration_since(self.clock.now());
            let left = Duration::try_from(left).unwrap_or_default();
            if !left.is_zero() {
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
                continue;
            }
            match ask(&client, &self.directory, &self.purpose).await {
                Ok(fresh) => {
                    tracing::info!(signer = self.purpose.signer, not_after = %fresh.not_after, "certificate replaced");
                    self.current.store(Arc::new(fresh));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(
                        signer = self.purpose.signer,
                        error,
                        "certificate not renewed, trying again"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

impl Held {
    fn parse(certificate: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
        let leaf = chain.first().context("no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)?;
        let validity = parsed.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let not_after = Timestamp::from_second(to)?;
        let renew_at = Timestamp::from_second(from.saturating_add(to.saturating_sub(from) / 3 * 2))?;
        let key = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from_pem_slice(key)?)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match()?;
        Ok(Self { certified: Arc::new(certified), not_after, renew_at })
    }

    /// Whether the certificate names the node as the purpose wants it: addresses of machines change.
    fn names_all(&self, purpose: &Purpose) -> bool {
        let Some(leaf) = self.certified.cert.first() else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return false };
        let user = format!("system:node:{}", purpose.node);
        let is_of_node = parsed.subject().iter_common_name().any(|name| name.as_str() == Ok(&user));
        let named = match parsed.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.clone(),
            _ => Vec::new(),
        };
        is_of_node
            && purpose.names.iter().all(|wanted| {
                named.iter().any(|name| match (name, wanted) {
                    (x509_parser::extensions::GeneralName::DNSName(name), SanType::DnsName(wanted)) => {
                        *name == wanted.as_str()
                    }
                    (x509_parser::extensions::GeneralName::IPAddress(bytes), SanType::IpAddress(wanted)) => {
                        match wanted {
                            std::net::IpAddr::V4(v4) => *bytes == v4.octets(),
                            std::net::IpAddr::V6(v6) => *bytes == v6.octets(),
                        }
                    }
                    _ => false,
                })
            })
    }
}

/// One request from a new key to a certificate on disk.
async fn ask(client: &Client, directory: &Path, purpose: &Purpose) -> anyhow::Result<Held> {
    let key = KeyPair::generate().context("making a key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", purpose.node));
    params.subject_alt_names = purpose.names.clone();
    let request = params.serialize_request(&key)?.pem().context("writing a certificate request")?;
    let certificate = issued(client, purpose, request).await?;
    let key = key.serialize_pem();
    let held = Held::parse(&certificate, key.as_bytes()).context("the issued certificate")?;
    let [certificate_path, key_path] = paths(directory, purpose);
    // The key first: a certificate without its key would be taken for damage.
    write(&key_path, key.as_bytes())?;
    write(&certificate_path, &certificate)?;
    Ok(held)
}

/// Posts the request and waits for its certificate.
async fn issued(client: &Client, purpose: &Purpose, request: String) -> anyhow::Result<Vec<u8>> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: purpose.signer.to_owned(),
            usages: Some(purpose.usages.iter().map(ToString::to_string).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    let created =
        requests.create(&PostParams::default(), &object).await.context("requesting a certificate")?;
    let name = created.metadata.name.unwrap_or_default();
    tracing::info!(request = name, signer = purpose.signer, "waiting for a certificate");
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(watcher(requests, config).applied_objects());
    while let Some(change) = changes.next().await {
        let status = change.context("watching the certificate request")?.status.unwrap_or_default();
        if let Some(ByteString(certificate)) = status.certificate {
            return Ok(certificate);
        }
        for condition in status.conditions.unwrap_or_default() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                let why = condition.message.unwrap_or_default();
                bail!("certificate request {name} is {}: {why}", condition.type_.to_lowercase());
            }
        }
    }
    bail!("the watch of certificate request {name} ended")
}

fn paths(directory: &Path, purpose: &Purpose) -> [PathBuf; 2] {
    ["crt", "key"].map(|ending| directory.join(format!("{}.{ending}", purpose.file)))
}

/// Replaces a file in one step, readable by root only.
pub fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let directory = path.parent().context("a file has a directory")?;
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certified = self.current.load().certified.clone();
        certified.key.choose_scheme(schemes).is_some().then_some(certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use knarr_api::time::{Clock, SystemClock};
    use rcgen::CertificateParams;

    use super::*;

    fn signed(node: &str, names: &[SanType], days: i64) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        params.subject_alt_names = names.to_vec();
        let now = SystemClock.now().as_second();
        let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        (params.not_before, params.not_after) = (at(now - 60), at(now + days * 86_400));
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_on_disk_serves_until_it_ends_or_the_node_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let clock: SharedClock = Arc::new(SystemClock);
        let address = "192.0.2.1".parse().expect("an address");
        let purpose = |node| Purpose::serving(node, &[address]).expect("a purpose");
        let keep = |(certificate, key): (String, String)| {
            let [certificate_path, key_path] = paths(directory.path(), &purpose("n1"));
            write(&certificate_path, certificate.as_bytes()).expect("writes");
            write(&key_path, key.as_bytes()).expect("writes");
        };
        let load = |node| Certificate::load(directory.path(), purpose(node), clock.clone()).expect("loads");
        assert!(load("n1").is_none(), "nothing there yet");
        let names = purpose("n1").names;
        keep(signed("n1", &names, 3));
        let held = load("n1").expect("it serves").current.load_full();
        let life = held.not_after.duration_since(clock.now()).as_secs();
        let renewal = held.renew_at.duration_since(clock.now()).as_secs();
        assert!((life * 6 / 10..life * 7 / 10).contains(&renewal), "{renewal} of {life}");
        assert!(load("n2").is_none(), "another node");
        keep(signed("n1", &names[..1], 3));
        assert!(load("n1").is_none(), "the address is missing");
        keep(signed("n1", &names, -1));
        assert!(load("n1").is_none(), "it has ended");
    }
}
