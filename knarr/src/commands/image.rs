//! `knarr image`.

use std::process::ExitCode;

use anyhow::Context;

use super::nodes;
use crate::cli::{self, ImageCommand, Named};
use crate::cluster::Cluster;
use crate::control::{Client, Image, ImportRequest, PullRequest};

pub async fn run(image: cli::Image) -> anyhow::Result<ExitCode> {
    match image.command {
        ImageCommand::Import { files, named } => {
            let mut clients = connect(&named).await?;
            for file in files {
                let path = std::path::absolute(&file).with_context(|| file.display().to_string())?;
                let request = ImportRequest { path };
                let importing = clients.iter_mut().map(|client| client.import(&request));
                let names = futures::future::try_join_all(importing).await;
                let names = names.with_context(|| format!("importing {}", file.display()))?;
                for name in names.first().into_iter().flatten() {
                    say!("imported {name}");
                }
            }
        }
        ImageCommand::Pull { reference, named } => {
            let (mut clients, request) = (connect(&named).await?, PullRequest { reference });
            let pulling = clients.iter_mut().map(|client| client.pull(&request));
            show!("{}", table(&futures::future::try_join_all(pulling).await?));
        }
        ImageCommand::Ls { named } => {
            let mut clients = connect(&named).await?;
            let listing = clients.iter_mut().map(Client::images);
            show!("{}", table(&futures::future::try_join_all(listing).await?.concat()));
        }
        ImageCommand::Rm { reference, named } => {
            let request = PullRequest { reference: reference.clone() };
            for client in &mut connect(&named).await? {
                client.remove_image(&request).await?;
            }
            say!("removed {reference}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All nodes of the cluster on this machine.
async fn connect(named: &Named) -> anyhow::Result<Vec<Client>> {
    let cluster = Cluster::find(&named.name)?;
    let mut clients = vec![Client::connect(&cluster).await?];
    clients.extend(nodes::connect(&cluster).await?.into_iter().map(|(_, client)| client));
    Ok(clients)
}

/// A line per name, aligned, sorted by name; what several nodes have is there once.
fn table(images: &[Image]) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for image in images {
        let names = if image.names.is_empty() { vec!["<none>".to_owned()] } else { image.names.clone() };
        rows.extend(names.into_iter().map(|name| [name, image.digest.clone(), size(image.size)]));
    }
    rows.sort();
    rows.dedup();
    rows.insert(0, ["NAME", "DIGEST", "SIZE"].map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, digest) = (width(0), width(1));
    rows.iter().map(|[n, d, s]| format!("{n:name$}   {d:digest$}   {s}\n")).collect()
}

/// Decimal units, as registries and `docker images` show.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes}B"),
        1_000..1_000_000 => format!("{:.1}kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", bytes as f64 / 1e6),
        _ => format!("{:.2}GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_image_has_a_line_of_its_own() {
        let image = |names: &[&str], size| Image {
            names: names.iter().map(ToString::to_string).collect(),
            digest: "sha256:12".into(),
            size,
        };
        let shown = table(&[image(&["b:1", "a:latest"], 1_234_567), image(&[], 12)]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "NAME       DIGEST      SIZE");
        assert_eq!(lines[1], "<none>     sha256:12   12B");
        assert_eq!(lines[2], "a:latest   sha256:12   1.2MB");
        assert_eq!(lines.len(), 4);
    }
}
