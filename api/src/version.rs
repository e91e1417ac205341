//! The version of Kubernetes that this is, and how programs say so.

/// What is served and spoken.
pub const KUBERNETES: &str = "1.37.0";

/// Go's name of the machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `kubelet/v1.37.0 (linux/amd64)`: the `User-Agent` of a program. Up to the slash it names the manager of the fields
/// that the program writes.
pub fn user_agent(program: &str) -> String {
    format!("{program}/v{KUBERNETES} ({}/{})", std::env::consts::OS, architecture())
}
