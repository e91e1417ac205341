//! Variables from a file that an earlier container wrote into a volume: lines of `NAME='value'`, in upstream's strict
//! subset of a shell's syntax.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// A longer file is refused.
const LIMIT: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("cannot read the environment variable file: {0}")]
    Read(#[from] std::io::Error),
    #[error("environment variable file is longer than {LIMIT} bytes")]
    TooLong,
    #[error("invalid environment variable format at line {line}: {why}")]
    Format { line: usize, why: &'static str },
}

/// The value of `key` in the file at `path` of a volume; empty where there is none. Links are followed inside of the
/// volume only: its content is the pod's.
pub fn read(volume: &Path, path: &str, key: &str) -> Result<String, ParseError> {
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(std::io::Error::from)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, path, how).map_err(std::io::Error::from)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file").into());
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(ParseError::TooLong);
    }
    parse(&text, key)
}

fn parse(text: &str, key: &str) -> Result<String, ParseError> {
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let format = |why| ParseError::Format { line: index + 1, why };
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format("missing '='"))?;
        if name.trim_end_matches([' ', '\t']).is_empty() {
            return Err(format("empty variable name"));
        }
        if name.ends_with([' ', '\t']) {
            return Err(format("whitespace before '=' is not allowed"));
        }
        // As in a shell, a blank after the sign makes the value empty.
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let opened =
            value.strip_prefix('\'').ok_or_else(|| format("value must be enclosed in single quotes"))?;
        let (mut found, mut rest) = (String::new(), opened);
        let tail = loop {
            if let Some((last, tail)) = rest.split_once('\'') {
                found.push_str(last);
                break tail;
            }
            found.push_str(rest);
            found.push('\n');
            rest = lines.next().ok_or_else(|| format("unclosed single quote"))?.1;
        };
        let tail = tail.trim_start_matches([' ', '\t']);
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(format("unexpected content after closing quote"));
        }
        if name == key {
            return Ok(found);
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_stands_between_single_quotes() {
        let text = "  A='x # y' # comment\n\n# B='no'\nB= 'blank'\nC='two\nlines'\nD='d'\n";
        let of = |key| parse(text, key).expect("well formed");
        assert_eq!(
            (of("A"), of("B"), of("C"), of("D"), of("E")),
            ("x # y".to_owned(), String::new(), "two\nlines".to_owned(), "d".to_owned(), String::new(),)
        );
        for bad in ["A ='x'", "A", "='x'", "A=x", "A='x", "A='x'y"] {
            assert!(parse(bad, "Z").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_volume() {
        let outside = tempfile::tempdir().expect("a directory");
        let volume = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("env"), "A='secret'").expect("written");
        std::os::unix::fs::symlink(outside.path().join("env"), volume.path().join("env")).expect("linked");
        assert!(read(volume.path(), "env", "A").is_err());
        std::fs::write(volume.path().join("own"), "A='mine'").expect("written");
        assert_eq!(read(volume.path(), "own", "A").expect("read"), "mine");
    }
}
