//! Images that come from a registry which asks who is there.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use knarr_e2e::{Cluster, Kubectl, eventually, free_port, root, run};

/// bcrypt of `secret`, for `me`.
const PASSWORDS: &str = "me:$2b$04$4QpBrFecZrUvpnq.ez3VEORxmnGugm4gXWP/lwY.YvGiQYuRLQTjO\n";

/// Debian's docker-registry on the loopback, with a password.
struct Registry {
    process: Child,
    port: u16,
    /// Held open: the registry would die of a closed pipe.
    _lines: Lines<BufReader<ChildStderr>>,
}

impl Registry {
    fn start(directory: &Path) -> Self {
        let port = free_port();
        let (data, passwords) = (directory.join("data"), directory.join("htpasswd"));
        std::fs::create_dir(&data).expect("a directory");
        std::fs::write(&passwords, PASSWORDS).expect("writes");
        let configuration = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: '{}'}}}}\n",
            data.display(),
            passwords.display()
        );
        let file = directory.join("registry.yml");
        std::fs::write(&file, configuration).expect("writes");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let listens = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listens, "the registry does not start");
        Self { process, port, _lines: lines }
    }

    fn push(&self, image: &str, name: &str) -> String {
        let archive = root().join(format!("target/images/{image}.tar"));
        let reference = format!("127.0.0.1:{}/{name}", self.port);
        run(Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "me:secret"])
            .arg(format!("docker-archive:{}:{image}:latest", archive.display()))
            .arg(format!("docker://{reference}")))
        .ok();
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("the registry is killed");
        self.process.wait().expect("the registry is reaped");
    }
}

fn pod(name: &str, image: &str, secrets: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  imagePullSecrets: [{secrets}]\n  containers: [{{name: c, image: '{image}', command: [echo, pulled]}}]\n"
    )
}

fn waiting(kubectl: &Kubectl, pod: &str) -> Option<(String, String)> {
    let pod = kubectl.json(&["get", "pod", pod]);
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    Some((waiting["reason"].as_str()?.to_owned(), waiting["message"].as_str()?.to_owned()))
}

#[test]
fn a_private_image_runs_with_its_pull_secret_and_only_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(directory.path());
    let image = registry.push("busybox", "team/busybox:v1");
    let cluster = Cluster::start("registry");
    let kubectl = cluster.kubectl();

    kubectl.apply(&pod("stranger", &image, ""));
    let message = eventually("the pull is refused", || {
        waiting(&kubectl, "stranger").filter(|(reason, _)| reason == "ImagePullBackOff")
    })
    .1;
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")), "{message}");
    assert!(message.ends_with("authorization failed: no basic auth credentials"), "{message}");

    let server = format!("--docker-server=127.0.0.1:{}", registry.port);
    let create = ["create", "secret", "docker-registry", "mine", &server];
    kubectl.ok(&[&create[..], &["--docker-username=me", "--docker-password=secret"]].concat());
    kubectl.apply(&pod("friend", &image, "{name: mine}"));
    kubectl.ok(&["wait", "pod/friend", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["logs", "friend"]), "pulled\n");
    let events = kubectl.ok(&["events", "--for", "pod/friend"]);
    assert!(events.contains("Successfully pulled image") && events.contains("Image size:"), "{events}");

    // What one tenant pulled with a secret is no gift to the next: the stranger is still refused.
    let again = kubectl.json(&["get", "pod", "stranger"]);
    assert_eq!(again["status"]["phase"], "Pending");

    let listed = cluster.knarr(&["image", "ls"]).ok();
    assert!(listed.contains("team/busybox"), "{listed}");
}

#[test]
fn an_image_is_built_pushed_and_run_from_its_registry() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(directory.path());
    let cluster = Cluster::start("build");
    cluster.import("busybox");
    let context = directory.path().join("context");
    std::fs::create_dir(&context).expect("a directory");
    let dockerfile = "FROM busybox:1.36\nARG WHO=nobody\nRUN echo \"hello $WHO\" > /greeting\nCOPY page /page\nCMD [\"cat\", \"/greeting\", \"/page\"]\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("writes");
    std::fs::write(context.join("page"), "first\n").expect("writes");
    let name = format!("127.0.0.1:{}/team/built:v1", registry.port);
    let path = context.display().to_string();
    let build = ["image", "build", "-t", &name, "--build-arg", "WHO=you", "--network", "none", &path];
    let built = cluster.knarr(&build).ok();
    assert!(built.contains("Step 3/5 : RUN echo"), "{built}");

    std::fs::write(context.join("page"), "second\n").expect("writes");
    let before = std::time::Instant::now();
    let again = cluster.knarr(&build).ok();
    assert!(again.contains(" ---> Using cache"), "{again}");
    eprintln!("changed the last layer in {:?}", before.elapsed());

    let history = cluster.knarr(&["image", "history", &name]).ok();
    assert!(history.lines().any(|line| line.ends_with("COPY page /page")), "{history}");
    let image: serde_json::Value =
        serde_json::from_str(&cluster.knarr(&["image", "inspect", &name]).ok()).expect("JSON");
    assert_eq!(image[0]["Config"]["Cmd"][0], "cat");
    let archive = directory.path().join("saved.tar").display().to_string();
    cluster.knarr(&["image", "save", &name, "-o", &archive]).ok();
    cluster.knarr(&["image", "push", &name, "--creds", "me:secret"]).ok();
    cluster.knarr(&["image", "rm", &name]).ok();

    let kubectl = cluster.kubectl();
    let server = format!("--docker-server=127.0.0.1:{}", registry.port);
    let create = ["create", "secret", "docker-registry", "mine", &server];
    kubectl.ok(&[&create[..], &["--docker-username=me", "--docker-password=secret"]].concat());
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: built}}\nspec:\n  restartPolicy: Never\n  imagePullSecrets: [{{name: mine}}]\n  containers: [{{name: c, image: '{name}', imagePullPolicy: Always}}]\n"
    );
    kubectl.apply(&pod);
    kubectl.ok(&["wait", "pod/built", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["logs", "built"]), "hello you\nsecond\n");

    kubectl.ok(&["delete", "pod", "built"]);
    cluster.knarr(&["image", "rm", &name]).ok();
    let loaded = cluster.knarr(&["image", "load", "-i", &archive]).ok();
    assert!(loaded.contains("team/built:v1"), "{loaded}");
    let tag = "web.example/built:v2";
    cluster.knarr(&["image", "tag", &name, tag]).ok();
    assert!(cluster.knarr(&["image", "ls"]).ok().contains(tag));
}
