//! What a cluster costs while nobody asks it anything.

use std::time::Duration;

use anyhow::Context;

use crate::figures::line;
use crate::memory;

const WATCHED: Duration = Duration::from_secs(60);
/// The kernel counts in hundredths of a second on every architecture that Linux exposes to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn measure(pid: u32) -> anyhow::Result<()> {
    let before = ticks(pid)?;
    // The measurement is of time that passes.
    std::thread::park_timeout(WATCHED);
    let used = (ticks(pid)? - before) as f64 / TICKS_PER_SECOND;
    let share = used / WATCHED.as_secs_f64() * 100.0;
    line("idle CPU over 60 s", &format!("{share:.2} % of a core"), "0.3 %");
    line("idle resident memory", &format!("{:.1} MB", memory::resident(pid)? as f64 / 1e6), "60 MB");
    Ok(())
}

/// CPU time of the process, user and system.
fn ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(')').context("a stat line")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || -> anyhow::Result<u64> { Ok(fields.next().context("a field")?.parse()?) };
    Ok(next()? + next()?)
}
