//! A program whose main is the shim, as `knarr shim` is; and, for tests that kill it, an agent.

use std::path::Path;

use knarr_runtime::cri::*;
use knarr_runtime::embedded::{Config, Embedded};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, directory, prefix, image] = &arguments[..]
        && mode == "agent"
    {
        agent(Path::new(directory), prefix, image);
        return;
    }
    std::process::exit(knarr_runtime::shim::main(&arguments));
}

/// Runs one pod through its life, saying on standard output what it is about to do.
fn agent(directory: &Path, prefix: &str, image: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(live(directory, prefix, image)).expect("the pod lives");
}

async fn live(directory: &Path, prefix: &str, image: &str) -> Result<()> {
    let mut config = Config::below(directory, std::env::current_exe().expect("our own path"), prefix);
    config.shim_arguments.clear();
    let runtime = Embedded::open(config).await?;
    let namespaces = Namespaces { pid: NamespaceMode::Pod, ..Default::default() };
    let sandbox = SandboxConfig {
        cgroup_parent: "/kubepods/pod1".to_owned(),
        log_directory: directory.join("logs"),
        namespaces: namespaces.clone(),
        ..Default::default()
    };
    println!("apply");
    runtime.apply_pod_cgroup(&sandbox.cgroup_parent, &Resources::default()).await?;
    println!("sandbox");
    let sandbox = runtime.run_sandbox(sandbox).await?.id;
    println!("create");
    let container = ContainerConfig {
        image: image.to_owned(),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        log_path: "log".into(),
        security: SecurityContext { namespaces, ..Default::default() },
        ..Default::default()
    };
    let container = runtime.create_container(&sandbox, container).await?;
    println!("start");
    runtime.start_container(&container).await?;
    println!("exec");
    runtime.exec_sync(&container, &["true".to_owned()], std::time::Duration::ZERO).await?;
    println!("stop");
    runtime.stop_container(&container, std::time::Duration::ZERO).await?;
    println!("remove");
    runtime.remove_container(&container).await?;
    println!("stop sandbox");
    runtime.stop_sandbox(&sandbox).await?;
    println!("remove sandbox");
    runtime.remove_sandbox(&sandbox).await?;
    println!("done");
    Ok(())
}
