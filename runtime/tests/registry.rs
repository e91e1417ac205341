//! Pulling from a real registry (Debian's docker-registry) on the loopback.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use knarr_runtime::cri::*;
use support::{World, busybox_layer, digest, file, tar};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// bcrypt of `secret`, for `me`.
const PASSWORDS: &str = "me:$2b$04$4QpBrFecZrUvpnq.ez3VEORxmnGugm4gXWP/lwY.YvGiQYuRLQTjO\n";

struct Registry {
    process: Child,
    port: u16,
    client: reqwest::Client,
    auth: bool,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("the registry is killed");
        self.process.wait().expect("the registry is reaped");
    }
}

impl Registry {
    fn start(directory: &Path, auth: bool) -> Self {
        let data = directory.join("registry");
        std::fs::create_dir_all(&data).expect("a directory");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            data.display()
        );
        if auth {
            let passwords = directory.join("htpasswd");
            std::fs::write(&passwords, PASSWORDS).expect("passwords");
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                passwords.display()
            ));
        }
        let file = directory.join("registry.yml");
        std::fs::write(&file, config).expect("a configuration");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let address =
            |line: String| line.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest.to_owned());
        let rest = lines.by_ref().map_while(Result::ok).find_map(address).expect("the registry listens");
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().expect("a first part");
        let port = digits.parse().expect("a port");
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Registry { process, port, client: reqwest::Client::new(), auth }
    }

    fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let url = if url.starts_with("http") {
            url.to_owned()
        } else {
            format!("http://127.0.0.1:{}{url}", self.port)
        };
        let request = self.client.request(method, url);
        if self.auth { request.basic_auth("me", Some("secret")) } else { request }
    }

    async fn push_blob(&self, repository: &str, data: &[u8]) {
        let start = self.request(reqwest::Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
        let upload = start.send().await.expect("an upload");
        let location = upload.headers()["location"].to_str().expect("a location").to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", digest(data));
        let put =
            self.request(reqwest::Method::PUT, &url).body(data.to_vec()).send().await.expect("uploaded");
        assert!(put.status().is_success(), "{}", put.status());
    }

    async fn push_manifest(&self, repository: &str, tag: &str, kind: &str, text: &str) -> String {
        let put = self
            .request(reqwest::Method::PUT, &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", kind)
            .body(text.to_owned())
            .send()
            .await
            .expect("pushed");
        assert!(put.status().is_success(), "{}", put.text().await.unwrap_or_default());
        digest(text.as_bytes())
    }

    /// Pushes an image of these layers; returns the manifest's digest.
    async fn push(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string();
        for blob in packed.iter().map(Vec::as_slice).chain([config.as_bytes()]) {
            self.push_blob(repository, blob).await;
        }
        let describe = |kind: &str, data: &[u8]| serde_json::json!({ "mediaType": kind, "digest": digest(data), "size": data.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe(CONFIG, config.as_bytes()),
            "layers": packed.iter().map(|layer| describe(LAYER, layer)).collect::<Vec<_>>(),
        });
        self.push_manifest(repository, tag, MANIFEST, &manifest.to_string()).await
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("compressed");
    encoder.finish().expect("compressed")
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_by_tag_and_digest_and_run() {
    let world = World::empty().await;
    let registry = Registry::start(world.directory.path(), false);
    let pushed =
        registry.push("team/app", "1", &[busybox_layer(), tar(&[file("hello", 0o644, b"hi")])]).await;
    let name = registry.name("team/app:1");
    let (first, second) =
        tokio::join!(world.runtime().pull_image(&name, None), world.runtime().pull_image(&name, None));
    let info = first.expect("pulled");
    assert_eq!(info.id, second.expect("pulled").id);
    assert_eq!(info.repo_tags, std::slice::from_ref(&name));
    assert_eq!(info.repo_digests, [registry.name(&format!("team/app@{pushed}"))]);
    let by_digest = registry.name(&format!("team/app@{pushed}"));
    assert_eq!(world.runtime().pull_image(&by_digest, None).await.expect("pulled").id, info.id);
    let sandbox = world.sandbox().await;
    let (_, log) = world.finish(&sandbox, "cat /hello", |config| config.image = by_digest).await;
    assert_eq!(log, "hi\n");
    drop(registry);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_image_of_this_machine() {
    let world = World::empty().await;
    let registry = Registry::start(world.directory.path(), false);
    let ours = registry.push("multi", "ours", &[tar(&[file("a", 0o644, b"")])]).await;
    let other = registry.push("multi", "other", &[tar(&[file("b", 0o644, b"")])]).await;
    let size =
        |digest: &str| registry.request(reqwest::Method::GET, &format!("/v2/multi/manifests/{digest}"));
    let mut entries = Vec::new();
    for (digest, architecture) in [(&other, "plan9"), (&ours, "amd64")] {
        let text = size(digest)
            .header("accept", MANIFEST)
            .send()
            .await
            .expect("a manifest")
            .text()
            .await
            .expect("text");
        entries.push(serde_json::json!({
            "mediaType": MANIFEST, "digest": digest, "size": text.len(),
            "platform": { "os": "linux", "architecture": architecture },
        }));
    }
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    let pushed = registry.push_manifest("multi", "all", INDEX, &index).await;
    let info = world.runtime().pull_image(&registry.name("multi:all"), None).await.expect("pulled");
    assert_eq!(
        info.repo_digests,
        [registry.name(&format!("multi@{pushed}"))],
        "the index is what was asked for"
    );
    drop(registry);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_needs_its_secret() {
    let world = World::empty().await;
    let registry = Registry::start(world.directory.path(), true);
    registry.push("private", "1", &[tar(&[file("a", 0o644, b"")])]).await;
    let name = registry.name("private:1");
    let denied = world.runtime().pull_image(&name, None).await.expect_err("no secret");
    assert!(denied.to_string().contains("no basic auth credentials"), "{denied}");
    let auth = |password: &str| {
        Some(AuthConfig { username: "me".to_owned(), password: password.to_owned(), ..Default::default() })
    };
    let wrong = world.runtime().pull_image(&name, auth("guess")).await.expect_err("a wrong secret");
    assert!(wrong.to_string().contains("authorization failed"), "{wrong}");
    world.runtime().pull_image(&name, auth("secret")).await.expect("pulled");
    drop(registry);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart() {
    let world = World::empty().await;
    let registry = Registry::start(world.directory.path(), false);
    let name = registry.name("none:1");
    let missing = world.runtime().pull_image(&name, None).await.expect_err("missing");
    assert!(matches!(missing, Error::Pull { .. }), "{missing:?}");
    assert!(
        missing.to_string().ends_with(&format!("failed to resolve reference {name:?}: {name}: not found")),
        "{missing}"
    );
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let away =
        world.runtime().pull_image(&format!("127.0.0.1:{port}/x"), None).await.expect_err("nobody there");
    assert!(
        matches!(&away, Error::Pull { reason, .. } if reason.contains("failed to do request")),
        "{away:?}"
    );
    drop(registry);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_serves_what_its_registry_names() {
    let world = World::empty().await;
    let registry = Registry::start(world.directory.path(), false);
    registry.push("library/thing", "1", &[tar(&[file("a", 0o644, b"")])]).await;
    let hosts = world.directory.path().join("certs.d/docker.io");
    std::fs::create_dir_all(&hosts).expect("a directory");
    let text =
        format!("[host.\"http://127.0.0.1:{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", registry.port);
    std::fs::write(hosts.join("hosts.toml"), text).expect("written");
    let info = world.runtime().pull_image("thing:1", None).await.expect("pulled from the mirror");
    assert_eq!(info.repo_tags, ["docker.io/library/thing:1"]);
    drop(registry);
    world.end().await;
}
