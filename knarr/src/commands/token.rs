//! `knarr token`.

use std::process::ExitCode;

use crate::cli::{self, TokenCommand};
use crate::cluster::Cluster;
use crate::control::{Client, TokenRequest};

pub async fn run(token: cli::Token) -> anyhow::Result<ExitCode> {
    let TokenCommand::Create { ttl, named } = token.command;
    let cluster = Cluster::find(&named.name)?;
    let request = TokenRequest { ttl_seconds: ttl.as_secs() };
    let join = Client::connect(&cluster).await?.create_token(&request).await?;
    say!("knarr agent --server {} --token {}", join.server, join.token);
    Ok(ExitCode::SUCCESS)
}
