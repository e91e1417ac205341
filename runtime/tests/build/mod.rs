//! Building images with real containers and mounts.

use std::path::Path;

use knarr_runtime::build::{Network, Request};
use knarr_runtime::cri::*;

use crate::support::{IMAGE, World, directory, file, tar};

const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1
ARG BASE=busybox:test
FROM ${BASE} AS tools
WORKDIR /out
RUN echo "made with $FROM_IMAGE" > made && mkdir deep && echo x > deep/file && ln -s made link
RUN rm -r deep && chmod 600 made && echo loud

FROM nowhere.invalid/never AS unused
RUN false

FROM $BASE
ARG VERSION
ENV VERSION=${VERSION:-none} APP=/srv/app
LABEL version=$VERSION
WORKDIR $APP
COPY --from=tools /out ./
COPY --chown=1000:1001 --chmod=u=rwx,g=rX,o= files/ data/
COPY <<EOF /etc/greeting
hello "$VERSION"
EOF
ADD archive.tar /unpacked/
RUN <<EOF
echo one > /etc/lines
rm /etc/group
EOF
USER 1000:1001
EXPOSE 8080
CMD ["cat", "made"]
"#;

struct Context(tempfile::TempDir);

impl Context {
    fn new() -> Self {
        let context = Context(tempfile::tempdir().expect("a directory"));
        context.write("Dockerfile", DOCKERFILE);
        context.write(".dockerignore", "**/*.tmp\n");
        context.write("files/a", "a");
        context.write("files/b.tmp", "not seen");
        std::fs::write(
            context.path().join("archive.tar"),
            tar(&[directory("d/"), file("d/f", 0o604, b"archived")]),
        )
        .expect("written");
        context
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the context")).expect("a directory");
        std::fs::write(path, content).expect("written");
    }

    fn request(&self) -> Request {
        Request {
            context: self.path().to_owned(),
            tags: vec!["web:v1".to_owned()],
            arguments: [("VERSION".to_owned(), "7".to_owned()), ("BASE".to_owned(), IMAGE.to_owned())].into(),
            // Tests reach nothing outside.
            network: Network::None,
            ..Request::default()
        }
    }
}

async fn build(world: &World, request: &Request) -> (Result<ImageInfo>, Vec<String>) {
    let (progress, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let built = world.runtime().build_image(request, &progress).await;
    drop(progress);
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(line);
    }
    (built, told)
}

fn cached(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.contains("Using cache")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_step_by_step_and_only_what_changed_again() {
    let world = World::new().await;
    let context = Context::new();
    let request = context.request();
    let (built, lines) = build(&world, &request).await;
    let built = built.expect("the image is built");
    assert_eq!(built.repo_tags, ["docker.io/library/web:v1"]);
    assert!(lines.iter().any(|line| line == "loud"), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.contains("never")),
        "a stage nobody needs is not built: {lines:#?}"
    );

    let sandbox = world.sandbox().await;
    let script = "id -u; id -g; pwd; echo $VERSION; ls -A; ls -lnR data | grep a$; cat data/a; echo; \
                  cat /etc/greeting /unpacked/d/f; echo; cat /etc/lines; \
                  ls /etc/group /etc/resolv.conf 2>/dev/null; ls -A /out 2>/dev/null";
    let (status, log) = world.finish(&sandbox, script, |c| c.image = "web:v1".to_owned()).await;
    assert!(log.starts_with("1000\n1001\n/srv/app\n7\ndata\nlink\nmade\n"), "{log} {status:?}");
    assert!(log.contains("-rwxr-x---    1 1000     1001             1"), "{log}");
    assert!(log.contains("\na\nhello \"7\"\narchived\none\n/etc/resolv.conf\n"), "{log}");

    let image = world.runtime().inspect_image("web:v1").await.expect("described");
    assert_eq!(image.config["Cmd"], serde_json::json!(["cat", "made"]));
    assert_eq!(image.config["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
    assert_eq!(image.config["Labels"]["version"], "7");
    assert_eq!(image.root_fs.layers.len(), 1 + 6, "{:#?}", image.history);

    let (again, lines) = build(&world, &request).await;
    assert_eq!(again.expect("built again").id, built.id, "nothing changed: the same image");
    assert_eq!(cached(&lines), 9, "{lines:#?}");
    context.write("files/b.tmp", "changed and still not seen");
    let (again, _) = build(&world, &request).await;
    assert_eq!(again.expect("built again").id, built.id);
    context.write("files/a", "other");
    let (changed, lines) = build(&world, &request).await;
    assert_ne!(changed.expect("built again").id, built.id);
    assert_eq!(cached(&lines), 5, "{lines:#?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_removes_and_owns_survives_saving_and_loading() {
    let world = World::new().await;
    let context = Context::new();
    let (built, _) = build(&world, &context.request()).await;
    let id = built.expect("the image is built").id;
    let path = world.directory.path().join("saved.tar");
    let file = std::fs::File::create(&path).expect("a file");
    world.runtime().tag_image("web:v1", "other.example/web:v2").await.expect("tagged");
    world.runtime().save_images(vec!["other.example/web:v2".to_owned()], file).await.expect("saved");
    // Nothing of it is left, in the cache neither: all comes from the archive.
    world.runtime().remove_image(&id).await.expect("removed");
    world.runtime().forget_build_cache().await.expect("forgotten");
    assert!(world.runtime().image_status("web:v1").await.expect("asked").is_none());
    let archive = std::fs::File::open(&path).expect("the archive");
    let loaded = world.runtime().import_image(archive).await.expect("loaded");
    assert_eq!(
        (loaded[0].id.as_str(), loaded[0].repo_tags.as_slice()),
        (id.as_str(), &["other.example/web:v2".to_owned()][..])
    );
    let sandbox = world.sandbox().await;
    let script = "ls -lnd data/a made | cut -c1-40; ls /etc/group; cat /unpacked/d/f";
    let run = |c: &mut ContainerConfig| {
        c.image = id.clone();
        c.security.run_as_user = Some(0);
    };
    let (_, log) = world.finish(&sandbox, script, run).await;
    assert!(log.contains("-rwxr-x---    1 1000     1001"), "{log}");
    assert!(log.contains("-rw-------    1 0        0"), "{log}");
    assert!(log.contains("/etc/group: No such file") && log.contains("archived"), "{log}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_told_with_its_line_and_leaves_nothing() {
    let world = World::new().await;
    let context = Context::new();
    for (dockerfile, expected) in [
        ("FROM busybox:test\n\nRUN echo no; exit 3\n", "Dockerfile:3: RUN echo no; exit 3: process"),
        ("FROM busybox:test\nCOPY missing /x\n", "missing: not found in the build context"),
        ("FROM busybox:test\nCOPY ../../etc/passwd /x\n", "etc/passwd: not found in the build context"),
        ("FROM busybox:test\nCOPY files/b.tmp /x\n", "files/b.tmp: not found in the build context"),
        ("FROM busybox:test\nUSER ${x:?needed}\n", "x: needed"),
        ("FROM busybox:test\nCOPY --chown=nobody Dockerfile /x\n", "unable to find user nobody"),
        ("FROM knarr.local/none\n", "\"knarr.local/none\" not found"),
        ("FROM --platform=plan9/mips busybox:test\n", "platform plan9/mips is not this machine's"),
    ] {
        context.write("Dockerfile", dockerfile);
        let (failed, _) = build(&world, &context.request()).await;
        let message = failed.expect_err("refused").to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    }
    assert!(world.runtime().list_sandboxes().await.expect("listed").is_empty());
    assert!(world.runtime().list_containers(None).await.expect("listed").is_empty());
    let left = std::fs::read_dir(world.config.root.join("containers")).expect("a directory").count();
    assert_eq!(left, 0, "a step's root is left");
    world.end().await;
}
