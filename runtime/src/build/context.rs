//! The Dockerfile and the directory it takes files from.

use std::path::{Path, PathBuf};

use super::dockerfile::{self, Dockerfile};
use super::ignore::{self, Ignore};
use super::tree::Root;
use super::{Error, Request, Result, io_error};

pub struct Context {
    pub root: Root,
    pub ignore: Ignore,
    pub dockerfile: Dockerfile,
}

impl Context {
    pub fn open(request: &Request) -> Result<Self> {
        let directory = &request.context;
        let root = Root::open(directory).map_err(io_error(format!("open {}", directory.display())))?;
        let path = request.dockerfile.clone().unwrap_or_else(|| directory.join("Dockerfile"));
        let text = read(&path, dockerfile::MAX_SIZE)?.ok_or_else(|| {
            Error::Invalid(format!("failed to read dockerfile: {}: no such file", path.display()))
        })?;
        Ok(Self { root, ignore: ignored(directory, &path)?, dockerfile: dockerfile::parse(&text)? })
    }
}

/// The Dockerfile's own list comes before the context's.
fn ignored(context: &Path, dockerfile: &Path) -> Result<Ignore> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(text) = read(&path, ignore::MAX_SIZE)? {
            return Ignore::parse(&text).map_err(Error::Invalid);
        }
    }
    Ok(Ignore::default())
}

/// A text file of limited size; `None` where there is none.
fn read(path: &Path, limit: usize) -> Result<Option<String>> {
    use std::io::Read;
    let doing = || format!("read {}", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(doing())(error)),
    };
    let mut text = String::new();
    // One more than allowed, for whoever checks the length.
    file.take(limit as u64 + 1).read_to_string(&mut text).map_err(io_error(doing()))?;
    Ok(Some(text))
}
