//! gRPC probes: one call of `grpc.health.v1.Health/Check`.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http::Stream;
use super::run::Outcome;
use super::tcp::authority;
use crate::grpc::{self, DEADLINE_EXCEEDED, Method, Status, UNIMPLEMENTED};

const SERVING: u64 = 1;

/// `tls`: speak TLS, whatever the certificate (`mode: TLS`).
pub async fn probe(
    host: &str,
    port: u16,
    service: &str,
    tls: Option<&Arc<rustls::ClientConfig>>,
    timeout: Duration,
) -> Outcome {
    let address = authority(host, port);
    let after = timeout.as_secs();
    match tokio::time::timeout(timeout, check(host, &address, service, tls)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Outcome::Failure(format!(
                "service unhealthy (responded with \"{name}\"), service: \"{service}\", address: \"{address}\""
            ))
        }
        Ok(Err(Status { answered: false, .. })) | Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {after}s: context deadline exceeded"
        )),
        Ok(Err(Status { code: UNIMPLEMENTED, .. })) => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): \"{address}\""
        )),
        Ok(Err(Status { code: DEADLINE_EXCEEDED, .. })) => {
            Outcome::Failure(format!("timeout: health rpc did not complete within {after}s"))
        }
        Ok(Err(Status { message, .. })) => {
            Outcome::Failure(format!("error: health rpc probe failed: {message}"))
        }
    }
}

async fn check(
    host: &str,
    address: &str,
    service: &str,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<u64, Status> {
    let unreachable = |error: &dyn std::fmt::Display| Status::connection(error);
    let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let mut tls = (**tls).clone();
            tls.alpn_protocols = vec![b"h2".to_vec()];
            let name = ServerName::try_from(host.to_owned()).map_err(|e| unreachable(&e))?;
            let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
            Box::new(stream.map_err(|e| unreachable(&e))?)
        }
    };
    let method = Method {
        scheme: if tls.is_some() { "https" } else { "http" },
        authority: address,
        path: "/grpc.health.v1.Health/Check",
        user_agent: "kube-probe/1.37",
    };
    let asked = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let answer = grpc::call(stream, method, None, &asked).await?;
    let answer = HealthCheckResponse::decode(answer).map_err(|e| unreachable(&e))?;
    Ok(u64::try_from(answer.status).unwrap_or_default())
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}
