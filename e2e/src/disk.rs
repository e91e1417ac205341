//! A small disk of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// A tmpfs; unmounted when dropped.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    pub fn mount(path: &Path, megabytes: u32) -> Self {
        let size = format!("size={megabytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "knarr-e2e"]).arg(path)).ok();
        Self { path: path.to_owned() }
    }

    pub fn read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path)).ok();
    }

    /// Takes all the space that is left; gives it back when dropped.
    pub fn fill(&self) -> Filling {
        let file = self.path.join("filling");
        let full =
            run(Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", file.display())));
        assert!(full.err().contains("No space left on device"));
        Filling { file }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = run(Command::new("umount").arg(&self.path));
        assert!(gone.success || std::thread::panicking(), "{}", gone.stderr);
    }
}

/// A file as large as what was left of a disk.
pub struct Filling {
    file: PathBuf,
}

impl Drop for Filling {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).expect("removes its own file");
    }
}
