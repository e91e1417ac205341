//! `/logs/`: the node's own log directory. Links are followed inside of it only, since pods may have been given it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use axum::extract::Path as Captured;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

const ROOT: &str = "/var/log";
/// More than this of one file is not sent; its end is what matters, and `kubectl logs` reads containers'.
const LIMIT: u64 = 64 << 20;

enum Found {
    File(Vec<u8>),
    Directory(Vec<String>),
}

pub async fn root() -> Response {
    answer(String::new()).await
}

pub async fn below(Captured(path): Captured<String>) -> Response {
    answer(path).await
}

async fn answer(path: String) -> Response {
    let (wanted, slash) = (path.clone(), path.is_empty() || path.ends_with('/'));
    let found = tokio::task::spawn_blocking(move || read(Path::new(ROOT), &wanted)).await;
    match found {
        Ok(Ok(Found::Directory(_))) if !slash => {
            Redirect::permanent(&format!("/logs/{path}/")).into_response()
        }
        Ok(Ok(Found::Directory(names))) => Html(listing(&names)).into_response(),
        Ok(Ok(Found::File(bytes))) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response()
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            (StatusCode::FORBIDDEN, "403 Forbidden\n").into_response()
        }
        Ok(Err(_)) => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn read(root: &Path, path: &str) -> std::io::Result<Found> {
    let file = File::from(open(root, path.trim_matches('/'))?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/self/fd/{}", file.as_raw_fd()))? {
            let entry = entry?;
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
        }
        names.sort();
        return Ok(Found::Directory(names));
    }
    if !metadata.is_file() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Found::File(bytes))
}

fn open(root: &Path, path: &str) -> std::io::Result<OwnedFd> {
    let directory =
        nix::fcntl::open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(&directory, if path.is_empty() { "." } else { path }, how)?)
}

fn listing(names: &[String]) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
    };
    let lines = names.iter().map(|name| format!("<a href=\"{0}\">{0}</a>\n", escape(name)));
    format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{}</pre>\n",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_listed_and_never_left() {
        let outside = tempfile::tempdir().expect("a directory");
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "no").expect("written");
        std::fs::create_dir(root.path().join("pods")).expect("made");
        std::fs::write(root.path().join("pods/a<b>.log"), "yes").expect("written");
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).expect("linked");
        let Ok(Found::Directory(names)) = read(root.path(), "") else { panic!("not listed") };
        assert_eq!(names, ["out", "pods/"]);
        assert!(listing(&["a<b>.log".into()]).contains("a&lt;b&gt;.log"));
        let Ok(Found::File(text)) = read(root.path(), "pods/a<b>.log") else { panic!("not read") };
        assert_eq!(text, b"yes");
        assert!(read(root.path(), "out/secret").is_err());
        assert!(read(root.path(), "../x").is_err());
    }
}
