//! Reading files of an image's root, which may be any file at all.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// Longest file read: user databases are far shorter.
const LIMIT: u64 = 4 << 20;

/// The text of a regular file below `root`, links resolved as the container would; empty when there is none.
pub fn read(root: &Path, path: &str) -> std::io::Result<String> {
    let root = File::open(root)?;
    // Non-blocking, since the image may have a pipe there.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let file = match crate::sys::open_beneath(root.as_fd(), Path::new(path), flags, resolve) {
        Ok(file) => File::from(file),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
