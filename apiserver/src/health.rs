//! `/healthz`, `/livez` and `/readyz`: named checks, with `?verbose`, `?exclude=` and one path each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use parking_lot::RwLock;

/// A check that is part of health; the text says what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Which of the three a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Healthz,
    Livez,
    Readyz,
}

impl Probe {
    fn of(path: &str) -> Option<(Self, &str)> {
        let (first, rest) =
            path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        let probe = match first {
            "healthz" => Self::Healthz,
            "livez" => Self::Livez,
            "readyz" => Self::Readyz,
            _ => return None,
        };
        Some((probe, rest))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<(String, Check, bool)>>,
    draining: Arc<AtomicBool>,
}

impl Health {
    pub fn new() -> Self {
        let health = Self::default();
        health.add("ping", true, Arc::new(|| Ok(())));
        let draining = health.draining.clone();
        let shutdown = move || {
            if draining.load(Ordering::Relaxed) { Err("process is shutting down".to_owned()) } else { Ok(()) }
        };
        health.add("shutdown", false, Arc::new(shutdown));
        health
    }

    /// Adds a check; one that does not count for liveness is for readiness only.
    pub fn add(&self, name: impl Into<String>, for_liveness: bool, check: Check) {
        self.checks.write().push((name.into(), check, for_liveness));
    }

    /// From now on the server is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether everything that readiness asks for is there.
    pub fn is_ready(&self) -> bool {
        self.run(Probe::Readyz).iter().all(|(_, result)| result.is_ok())
    }

    fn run(&self, probe: Probe) -> Vec<(String, Result<(), String>)> {
        let checks: Vec<(String, Check)> = self
            .checks
            .read()
            .iter()
            .filter(|(_, _, for_liveness)| probe == Probe::Readyz || *for_liveness)
            .map(|(name, check, _)| (name.clone(), check.clone()))
            .collect();
        checks.into_iter().map(|(name, check)| (name, check())).collect()
    }

    /// Answers a health path, `None` for any other.
    pub fn serve(&self, path: &str, query: &[(String, String)]) -> Option<Response<Body>> {
        let (probe, one) = Probe::of(path)?;
        let results = self.run(probe);
        if !one.is_empty() {
            let (_, result) = results.into_iter().find(|(name, _)| name == one)?;
            return Some(match result {
                Ok(()) => text(StatusCode::OK, "ok".to_owned()),
                Err(why) => {
                    text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
                }
            });
        }
        let excluded: Vec<&str> =
            query.iter().filter(|(key, _)| key == "exclude").map(|(_, v)| v.as_str()).collect();
        let verbose = query.iter().any(|(key, _)| key == "verbose");
        Some(report(probe, &results, &excluded, verbose))
    }
}

fn report(
    probe: Probe,
    results: &[(String, Result<(), String>)],
    excluded: &[&str],
    verbose: bool,
) -> Response<Body> {
    let mut lines = String::new();
    let mut failed = false;
    for (name, result) in results {
        match result {
            _ if excluded.contains(&name.as_str()) => lines.push_str(&format!("[+]{name} excluded: ok\n")),
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    let name = probe.name();
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"));
    }
    if verbose {
        return text(StatusCode::OK, format!("{lines}{name} check passed\n"));
    }
    text(StatusCode::OK, "ok".to_owned())
}

fn text(code: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_is_alive_and_not_ready() {
        let health = Health::new();
        assert_eq!(health.serve("/readyz", &[]).unwrap().status(), 200);
        health.drain();
        assert_eq!(health.serve("/readyz", &[]).unwrap().status(), 500);
        assert_eq!(health.serve("/livez", &[]).unwrap().status(), 200);
        assert_eq!(health.serve("/readyz/ping", &[]).unwrap().status(), 200);
        assert!(health.serve("/readyz/nothing", &[]).is_none());
        assert!(health.serve("/version", &[]).is_none());
    }
}
