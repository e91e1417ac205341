//! Exec probes: a command in the container; exit code 0 is success.

use std::time::Duration;

use knarr_runtime::cri::{self, ContainerRuntime};

use super::run::Outcome;

/// Output beyond this is not looked at.
const MAX_OUTPUT: usize = 10 * 1024;

pub async fn probe(
    runtime: &dyn ContainerRuntime,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Outcome {
    match runtime.exec_sync(id, command, timeout).await {
        Ok(result) => {
            let mut output = result.stdout;
            output.extend_from_slice(&result.stderr);
            output.truncate(MAX_OUTPUT);
            if result.exit_code == 0 {
                Outcome::Success
            } else {
                Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
            }
        }
        Err(cri::Error::Timeout { .. }) => {
            let command: Vec<String> = command.iter().map(|part| format!("{part:?}")).collect();
            Outcome::Failure(format!(
                "command timed out: {} timed out after {}",
                command.join(" "),
                crate::events::go_duration(timeout)
            ))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}
