//! Durable creates through the API, beside what the same disk does with the same bytes and nothing else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::figures::line;

const CLIENTS: usize = 64;
const OBJECT: usize = 4096;
const MEASURED: Duration = Duration::from_secs(5);

/// The name of one of the objects that are made.
pub const FIRST: &str = "w0-0";

pub async fn measure(client: &kube::Client, data: &Path) -> anyhow::Result<()> {
    let disk = disk(data)?;
    let created = creates(client).await?;
    line("disk: 4 KB records/s, 64 for each fdatasync", &format!("{disk:.0}/s"), "");
    let share = format!("{created:.0}/s, {:.2} of the disk", created / disk);
    line("durable creates of 4 KB, 64 clients", &share, "");
    Ok(())
}

/// Records per second when 64 writers share each flush: what group commit can reach at best.
fn disk(data: &Path) -> anyhow::Result<f64> {
    let path = data.with_file_name("disk-rate");
    let mut file = File::create(&path)?;
    let batch = vec![0x5a_u8; OBJECT * CLIENTS];
    let started = Instant::now();
    let mut records = 0;
    while started.elapsed() < MEASURED {
        file.write_all(&batch)?;
        file.sync_data()?;
        records += CLIENTS;
    }
    let elapsed = started.elapsed();
    std::fs::remove_file(path)?;
    Ok(records as f64 / elapsed.as_secs_f64())
}

async fn creates(client: &kube::Client) -> anyhow::Result<f64> {
    let objects: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let started = Instant::now();
    let writers = (0..CLIENTS).map(|writer| {
        let objects = objects.clone();
        async move {
            let mut written = 0_usize;
            while started.elapsed() < MEASURED {
                let object = json!({
                    "metadata": {"name": format!("w{writer}-{written}")},
                    "data": {"value": "v".repeat(OBJECT)},
                });
                objects.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
                written += 1;
            }
            anyhow::Ok(written)
        }
    });
    let written = futures::future::try_join_all(writers).await?;
    Ok(written.iter().sum::<usize>() as f64 / started.elapsed().as_secs_f64())
}
