//! Key material on disk: readable by its owner only, never half written.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Error;

/// Nothing in a key directory is longer; what is, is not ours.
const MAX_BYTES: u64 = 1 << 20;

pub fn create_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| Error::File {
        doing: "creating",
        path: path.to_owned(),
        cause,
    })
}

/// The file's text, `None` where there is none.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |cause| Error::File { doing: "reading", path: path.to_owned(), cause };
    let size = match fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    if size > MAX_BYTES {
        return Err(Error::Malformed { path: path.to_owned(), cause: format!("{size} bytes are too many") });
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// Replaces the file in one step, so that a reader or a crash sees the old text or the new.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |cause| Error::File { doing: "writing", path: path.to_owned(), cause };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}
