//! `knarr image`.

mod build;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use knarr_runtime::image::{Description, Step};

use super::nodes;
use crate::cli::{self, ImageCommand, Named};
use crate::cluster::Cluster;
use crate::control::{Client, Image, ImportRequest, PullRequest, PushRequest, SaveRequest, TagRequest};

pub async fn run(image: cli::Image) -> anyhow::Result<ExitCode> {
    match image.command {
        ImageCommand::Import { files, named } => {
            let mut clients = connect(&named).await?;
            for file in files {
                import(&mut clients, &file).await?;
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
        ImageCommand::Build(wanted) => build::run(wanted).await?,
        ImageCommand::Push { reference, creds, named } => {
            let credentials = creds.map(|creds| match creds.split_once(':') {
                Some((user, password)) => Ok((user.to_owned(), password.to_owned())),
                None => Err(anyhow::anyhow!("--creds must be USER:PASSWORD")),
            });
            let request = PushRequest { reference: reference.clone(), credentials: credentials.transpose()? };
            let digest = first(&named).await?.push(&request).await?;
            say!("pushed {reference} as {digest}");
        }
        ImageCommand::Tag { reference, new, named } => {
            let request = TagRequest { name: reference, tag: new };
            for client in &mut connect(&named).await? {
                client.tag(&request).await?;
            }
        }
        ImageCommand::Inspect { references, named } => {
            let mut client = first(&named).await?;
            let mut found = Vec::with_capacity(references.len());
            for reference in references {
                found.push(client.inspect(&PullRequest { reference }).await?);
            }
            say!("{}", serde_json::to_string_pretty(&found)?);
        }
        ImageCommand::History { reference, named } => {
            let found = first(&named).await?.inspect(&PullRequest { reference }).await?;
            show!("{}", history(&found));
        }
        ImageCommand::Save { references, output, named } => {
            let path = std::path::absolute(&output).with_context(|| output.display().to_string())?;
            first(&named).await?.save(&SaveRequest { names: references, path }).await?;
        }
        ImageCommand::Load { input, named } => match input {
            Some(file) => import(&mut connect(&named).await?, &file).await?,
            None => {
                let mut spooled = tempfile::NamedTempFile::new()?;
                std::io::copy(&mut std::io::stdin().lock(), &mut spooled)
                    .context("reading standard input")?;
                import(&mut connect(&named).await?, spooled.path()).await?;
            }
        },
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

async fn import(clients: &mut [Client], file: &Path) -> anyhow::Result<()> {
    let path = std::path::absolute(file).with_context(|| file.display().to_string())?;
    let request = ImportRequest { path };
    let importing = clients.iter_mut().map(|client| client.import(&request));
    let names = futures::future::try_join_all(importing).await;
    let names = names.with_context(|| format!("importing {}", file.display()))?;
    for name in names.first().into_iter().flatten() {
        say!("imported {name}");
    }
    Ok(())
}

/// The node that has all images that were built.
async fn first(named: &Named) -> anyhow::Result<Client> {
    Client::connect(&Cluster::find(&named.name)?).await
}

/// A line per step, the newest first.
fn history(image: &Description) -> String {
    let line = |step: &Step| format!("{:<30}   {:>8}   {}\n", step.created, size(step.size), step.created_by);
    let header = format!("{:<30}   {:>8}   {}\n", "CREATED", "SIZE", "CREATED BY");
    header + &image.history.iter().rev().map(line).collect::<String>()
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
