//! A container's last words: the file it may write, or the end of its log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use knarr_runtime::cri::ContainerStatus;

use super::observed::{TERMINATION_MESSAGE_FILE, TERMINATION_MESSAGE_POLICY};

const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// Enough raw log for the lines above, with their prefixes.
const LOG_WINDOW: u64 = 256 * 1024;

/// The message of a container that has ended; empty where there is none.
pub fn read(status: &ContainerStatus, log_dir: &Path) -> String {
    let written = status.annotations.get(TERMINATION_MESSAGE_FILE).map(|path| from_file(Path::new(path)));
    let written = written.unwrap_or_default();
    let wants_log =
        status.annotations.get(TERMINATION_MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    if written.is_empty() && wants_log && status.exit_code != 0 {
        let path = if status.log_path.is_absolute() {
            status.log_path.clone()
        } else {
            log_dir.join(&status.log_path)
        };
        return from_log(&path);
    }
    written
}

fn from_file(path: &Path) -> String {
    // Only plain files: the container may have put anything in its place.
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let Some(mut file) = is_file.then(|| File::open(path).ok()).flatten() else { return String::new() };
    // Too long a message keeps its end, as upstream's.
    let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
    if length > MAX_MESSAGE && file.seek(SeekFrom::Start(length - MAX_MESSAGE)).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    match file.take(MAX_MESSAGE).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn from_log(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
    if file.seek(SeekFrom::Start(length.saturating_sub(LOG_WINDOW))).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    if file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let contents: Vec<String> = text.lines().filter_map(content).collect();
    let joined = contents[contents.len().saturating_sub(MAX_LOG_LINES)..].concat();
    let mut start = joined.len().saturating_sub(MAX_LOG_BYTES);
    while !joined.is_char_boundary(start) {
        start += 1;
    }
    joined[start..].to_owned()
}

/// What a container wrote, of a line `time stream tag content`; tag `P` says that it did not end the line.
fn content(line: &str) -> Option<String> {
    let mut parts = line.splitn(4, ' ').skip(2);
    let (tag, content) = (parts.next()?, parts.next()?);
    Some(format!("{content}{}", if tag == "P" { "" } else { "\n" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_without_an_end_gets_none() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("0.log");
        std::fs::write(&log, "T stdout F first\nT stdout P DONE\n").expect("written");
        assert_eq!(from_log(&log), "first\nDONE");
    }

    #[test]
    fn logs_speak_for_a_container_that_wrote_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("0.log");
        let lines: String = (0..100).map(|n| format!("2026-01-01T00:00:00Z stdout F line {n}\n")).collect();
        std::fs::write(&log, lines).expect("written");
        let text = from_log(&log);
        assert!(text.ends_with("line 99\n"));
        assert_eq!(text.lines().count(), MAX_LOG_LINES);
    }

    #[test]
    fn a_link_in_place_of_the_message_is_not_followed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let link = dir.path().join("message");
        std::os::unix::fs::symlink("/etc/hostname", &link).expect("linked");
        assert_eq!(from_file(&link), "");
        let file = dir.path().join("plain");
        std::fs::write(&file, "x".repeat(5000) + "end").expect("written");
        let message = from_file(&file);
        assert_eq!((message.len(), message.ends_with("end")), (4096, true));
    }
}
