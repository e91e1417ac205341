//! Container logs: files in CRI's format, read for users and kept from growing.

pub mod line;
pub mod notify;
pub mod read;
pub mod rotate;

use std::path::Path;

/// How often a container has run, as its directory of logs tells: each run writes to a file of its own, `0.log` and so
/// on. `None` where there are none.
pub fn runs(directory: &Path) -> Option<u32> {
    let files = std::fs::read_dir(directory).ok()?.flatten();
    let numbers = files.filter_map(|file| {
        let name = file.file_name();
        let (number, rest) = name.to_str()?.split_once('.')?;
        let is_log = rest == "log" || rest.starts_with("log.");
        number.parse::<u32>().ok().filter(|_| is_log)
    });
    numbers.max().map(|last| last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_their_files_rotated_or_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert_eq!(runs(&directory.path().join("none")), None);
        assert_eq!(runs(directory.path()), None);
        for name in ["0.log", "2.log.20260101-000000", "7.txt", "x.log", "9"] {
            std::fs::write(directory.path().join(name), "x").expect("written");
        }
        assert_eq!(runs(directory.path()), Some(3));
    }
}
