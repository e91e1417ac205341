//! A busybox image from the machine's busybox-static, as `docker save` writes it.

use std::io::Write;

pub const IMAGE: &str = "docker.io/library/busybox:test";

struct File {
    path: String,
    link: Option<&'static str>,
    mode: u32,
    content: Vec<u8>,
}

fn tar(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        let mut header = [0u8; 512];
        header[..file.path.len()].copy_from_slice(file.path.as_bytes());
        write!(&mut header[100..108], "{:07o}", file.mode).expect("room");
        write!(&mut header[108..116], "{:07o}", 0).expect("room");
        write!(&mut header[116..124], "{:07o}", 0).expect("room");
        write!(&mut header[124..136], "{:011o}", file.content.len()).expect("room");
        write!(&mut header[136..148], "{:011o}", 1_700_000_000).expect("room");
        header[156] = match file.link {
            Some(_) => b'2',
            None if file.path.ends_with('/') => b'5',
            None => b'0',
        };
        if let Some(link) = file.link {
            header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        write!(&mut header[148..156], "{sum:06o}\0").expect("room");
        out.extend_from_slice(&header);
        out.extend_from_slice(&file.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn file(path: &str, mode: u32, content: Vec<u8>) -> File {
    File { path: path.to_owned(), link: None, mode, content }
}

pub fn archive() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut files: Vec<File> =
        ["bin/", "etc/", "tmp/", "root/"].iter().map(|path| file(path, 0o755, Vec::new())).collect();
    files.push(file("bin/busybox", 0o755, program));
    for applet in
        ["sh", "cat", "echo", "sleep", "ls", "stat", "id", "hostname", "true", "false", "test", "grep"]
    {
        files.push(File { link: Some("busybox"), ..file(&format!("bin/{applet}"), 0o777, Vec::new()) });
    }
    files.push(file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec()));
    files.push(file("etc/group", 0o644, b"root:x:0:\n".to_vec()));
    let layer = tar(&files);
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [knarr_runtime::image::digest::Digest::of(&layer).to_string()]},
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    tar(&[
        file("config.json", 0o644, config.to_string().into_bytes()),
        file("layer.tar", 0o644, layer),
        file("manifest.json", 0o644, manifest.to_string().into_bytes()),
    ])
}
