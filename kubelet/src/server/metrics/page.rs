//! Prometheus' text format.

use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use http::header;
use knarr_runtime::cri::UnixNanos;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text under construction.
#[derive(Default)]
pub struct Page(String);

impl Page {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample_at(name, labels, value, 0);
    }

    /// A sample with the time it was taken; 0 for none.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: UnixNanos) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let list: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let _ = write!(self.0, "{{{}}}", list.join(","));
        }
        let _ = write!(self.0, " {value}");
        if at > 0 {
            let _ = write!(self.0, " {}", at / 1_000_000);
        }
        self.0.push('\n');
    }

    pub fn respond(self) -> Response {
        ([(header::CONTENT_TYPE, TEXT)], self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped_and_times_are_milliseconds() {
        let mut page = Page::default();
        page.sample("m", &[("l", "a\"b\\c\nd")], 1.5);
        page.sample_at("m", &[], 2.0, 3_000_000_000);
        assert_eq!(page.0, "m{l=\"a\\\"b\\\\c\\nd\"} 1.5\nm 2 3000\n");
    }
}
