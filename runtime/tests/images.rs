//! Importing images, good and hostile.

mod build;
mod support;

use std::io::Cursor;

use knarr_runtime::cri::*;
use knarr_runtime::embedded::Embedded;
use support::{World, digest, directory, docker_archive, exists, file, link, tar};

fn no_config() -> serde_json::Value {
    serde_json::json!({})
}

/// Imports a layer that must be refused; returns the message. Nothing may be left of it.
async fn refused(world: &World, layer: &[u8]) -> String {
    let archive = docker_archive("hostile:1", layer, &no_config());
    let error = world.runtime().import_image(Cursor::new(archive)).await.expect_err("it is refused");
    assert!(world.runtime().list_images().await.expect("a list").is_empty());
    for part in ["layers", "blobs/sha256", "tmp"] {
        let left = std::fs::read_dir(world.config.root.join(part)).expect("a directory").count();
        assert_eq!(left, 0, "something is left in {part} after: {error}");
    }
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_layers_are_refused_and_leave_nothing() {
    let world = World::empty().await;
    let outside = world.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let target = outside.to_string_lossy().into_owned();
    let escape = link("evil", b'2', &target);
    let up = link("evil", b'2', "../../../../../..");
    for (layer, reason) in [
        (tar(&[file("../../outside/x", 0o644, b"x")]), "leads out of the image by \"..\""),
        (tar(&[file("a/../../x", 0o644, b"x")]), "leads out of the image by \"..\""),
        (tar(&[escape, file("evil/x", 0o644, b"x")]), "through a link"),
        (tar(&[up, file("evil/tmp/x", 0o644, b"x")]), "through a link"),
        (tar(&[link("x", b'1', "../../etc/passwd")]), "leads out of the image by \"..\""),
        (tar(&[link("x", b'1', "etc/passwd")]), "links to what the layer does not hold"),
        (tar(&[file("a", 0o644, b""), file("a/b", 0o644, b"")]), "is below a file"),
        (tar(&[file("x", 0o644, b"data")])[..700].to_vec(), "truncated"),
        (vec![b'x'; 2048], "damaged"),
    ] {
        let message = refused(&world, &layer).await;
        assert!(message.contains(reason), "{message:?} should say {reason:?}");
    }
    assert_eq!(std::fs::read_dir(&outside).expect("a directory").count(), 0, "nothing was written outside");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_by_their_limits() {
    let mut world = World::empty().await;
    world.config.image_limits.unpacked_bytes = 1 << 20;
    world.config.image_limits.entries = 10;
    world.restart().await;
    let zeros = vec![0; 2 << 20];
    let message = refused(&world, &gzip(&tar(&[file("zeros", 0o644, &zeros)]))).await;
    assert!(message.contains("larger than the limit"), "{message}");
    let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| file(name, 0o644, b"")).collect();
    assert!(refused(&world, &tar(&many)).await.contains("10 files"));
    world.end().await;
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).expect("compressed");
    encoder.finish().expect("compressed")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_digests_are_refused() {
    let world = World::empty().await;
    let layer = tar(&[file("a", 0o644, b"a")]);
    let config = serde_json::json!({ "rootfs": { "diff_ids": [digest(b"something else")] } }).to_string();
    let manifest = serde_json::json!([{ "Config": "c", "RepoTags": ["x:1"], "Layers": ["l"] }]).to_string();
    let archive = tar(&[
        file("c", 0o644, config.as_bytes()),
        file("l", 0o644, &layer),
        file("manifest.json", 0o644, manifest.as_bytes()),
    ]);
    let error = world.runtime().import_image(Cursor::new(archive)).await.expect_err("refused");
    assert!(error.to_string().contains("content has digest"), "{error}");
    assert!(world.runtime().list_images().await.expect("a list").is_empty());
    world.end().await;
}

/// An OCI layout with one image of these layers, the last one first named.
fn oci_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "User": "7", "Volumes": { "/data": {} } },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| digest(l)).collect::<Vec<_>>() },
    })
    .to_string();
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let descriptor = |kind: &str, data: &[u8]| serde_json::json!({ "mediaType": kind, "digest": digest(data), "size": data.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": packed.iter().map(|l| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l)).collect::<Vec<_>>(),
    })
    .to_string();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = serde_json::json!({ "io.containerd.image.name": name });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let path = |data: &[u8]| format!("blobs/sha256/{}", &digest(data)["sha256:".len()..]);
    let mut blobs: Vec<(String, Vec<u8>)> = packed.into_iter().map(|layer| (path(&layer), layer)).collect();
    blobs.push((path(config.as_bytes()), config.into_bytes()));
    blobs.push((path(manifest.as_bytes()), manifest.into_bytes()));
    blobs.push(("index.json".to_owned(), index.into_bytes()));
    blobs.push(("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()));
    tar(&blobs.iter().map(|(path, data)| file(path, 0o644, data)).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_by_content_and_go_with_their_last_image() {
    let world = World::empty().await;
    let base = tar(&[directory("d/"), file("d/base", 0o644, b"base")]);
    let one = tar(&[file("d/one", 0o644, b"one")]);
    let two = tar(&[file("d/.wh.base", 0o644, b""), file("d/two", 0o644, b"two")]);
    let import = |name: &'static str, layers: Vec<Vec<u8>>| {
        let runtime: &Embedded = world.runtime();
        async move {
            runtime.import_image(Cursor::new(gzip(&oci_archive(name, &layers)))).await.expect("imported")
        }
    };
    let first = import("one:1", vec![base.clone(), one]).await;
    import("two:1", vec![base, two]).await;
    assert_eq!(first[0].repo_tags, ["docker.io/library/one:1"]);
    assert_eq!((first[0].uid, first[0].volumes.clone()), (Some(7), vec!["/data".to_owned()]));
    let layers = || std::fs::read_dir(world.config.root.join("layers")).expect("layers").count();
    assert_eq!(layers(), 3, "the base is there once");
    world.runtime().remove_image("one:1").await.expect("removed");
    assert_eq!(layers(), 2);
    assert!(world.runtime().image_status("two:1").await.expect("a status").is_some());
    world.runtime().remove_image("two:1").await.expect("removed");
    assert_eq!(layers(), 0);
    world.runtime().remove_image("two:1").await.expect("removing the removed is fine");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_hide_what_is_below() {
    let world = World::empty().await;
    let files = |names: &[&str]| tar(&names.iter().map(|name| file(name, 0o644, b"")).collect::<Vec<_>>());
    let below = tar(&[
        file("gone", 0o644, b""),
        directory("d/"),
        file("d/old", 0o644, b""),
        file("stays", 0o644, b""),
    ]);
    let above = files(&[".wh.gone", "d/.wh..wh..opq", "d/new"]);
    let archive = oci_archive("w:1", &[support::busybox_layer(), below, above]);
    world.runtime().import_image(Cursor::new(archive)).await.expect("imported");
    let sandbox = world.sandbox().await;
    let (_, log) = world
        .finish(&sandbox, "exec 2>&1; ls -d /gone /stays; ls /d", |config| config.image = "w:1".to_owned())
        .await;
    assert!(log.contains("/gone: No such file") && log.contains("/stays") && log.ends_with("new\n"), "{log}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_layers_there_can_be_still_mount() {
    let world = World::empty().await;
    let names: Vec<String> = (0..126).map(|n| format!("layer-{n}")).collect();
    let mut layers = vec![support::busybox_layer()];
    layers.extend(names.iter().map(|name| tar(&[file(name, 0o644, b"")])));
    world.runtime().import_image(Cursor::new(oci_archive("deep:1", &layers))).await.expect("imported");
    let sandbox = world.sandbox().await;
    let (_, log) =
        world.finish(&sandbox, "ls / | grep -c layer-", |config| config.image = "deep:1".to_owned()).await;
    assert_eq!(log, "126\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_can_go_while_its_container_goes_on() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    world.runtime().remove_image(support::IMAGE).await.expect("removed");
    assert!(world.runtime().list_images().await.expect("a list").is_empty());
    assert_eq!(world.shell(&id, "ls /bin/busybox").await.stdout, b"/bin/busybox\n");
    assert!(exists(&world.config.root.join("layers")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_are_told_apart_from_missing_images() {
    let world = World::empty().await;
    let error = world.runtime().pull_image("Bad::name", None).await.expect_err("refused");
    assert!(matches!(error, Error::InvalidImageName { .. }), "{error:?}");
    assert!(world.runtime().image_status("no-such").await.expect("a status").is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_says_so_after_a_restart() {
    let mut world = World::new().await;
    world.runtime().pin_image(support::IMAGE).await.expect("pinned");
    world.restart().await;
    let info = world.runtime().image_status(support::IMAGE).await.expect("a status").expect("an image");
    assert!(info.pinned && info.size > 0);
    let usage = world.runtime().image_filesystem().await.expect("usage");
    assert!(usage.used_bytes > info.size, "unpacked and as it came");
    world.end().await;
}
