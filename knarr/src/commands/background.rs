//! Starting knarr's own processes in the background; each says in one line on its standard output how it went.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::process::last_lines;

/// A process that was started and has not said yet how it went.
pub struct Starting {
    child: Child,
    log: PathBuf,
}

/// Starts `knarr ARGUMENTS`, with its standard error in a log below `data_dir`.
pub fn start(data_dir: &Path, log: &Path, command: impl FnOnce(&mut Command)) -> anyhow::Result<Starting> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("creating data directory {}: pass --data-dir", data_dir.display()))?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let file = file.with_context(|| format!("opening {}: pass --data-dir", log.display()))?;
    let mut process = Command::new(std::env::current_exe().context("finding knarr's own program")?);
    command(&mut process);
    process.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    let child = process.spawn().context("starting a process in the background")?;
    Ok(Starting { child, log: log.to_owned() })
}

impl Starting {
    /// Waits for the one line.
    pub fn wait(mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        let stdout = self.child.stdout.take().context("the output of the process")?;
        BufReader::new(stdout).read_line(&mut line).context("waiting for the process")?;
        let log = self.log.display();
        match line.trim() {
            "ready" => Ok(()),
            "" => {
                let status = self.child.wait().context("waiting for the process")?;
                bail!("it ended ({status}):\n{}\nthe whole log is {log}", last_lines(&self.log, 8))
            }
            message => bail!("{message}\nthe log is {log}"),
        }
    }
}
