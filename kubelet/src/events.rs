//! Events about pods and the node, in the words of upstream's kubelet.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use knarr_client::events::{EventRecorder, EventType};

use crate::pod::spec;

/// Signs as `kubelet` of this node.
#[derive(Clone)]
pub struct Recorder(EventRecorder);

impl Recorder {
    pub fn new(recorder: EventRecorder) -> Self {
        Self(recorder)
    }

    pub fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.0.event_about(about, EventType::Normal, reason, message);
    }

    pub fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.0.event_about(about, EventType::Warning, reason, message);
    }

    /// About one container of a pod; about the pod where it has no such container.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let about = spec::container_reference(pod, container).unwrap_or_else(|| spec::reference(pod));
        self.0.event_about(about, kind, reason, message);
    }
}

/// A duration as Go prints it (`1.5s`, `20ms`, `1m0s`), which is what messages contain.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |whole: u128, unit: u128, suffix: &str| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", whole % unit);
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{}{dot}{rest}{suffix}", whole / unit)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let tail = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => tail,
                (0, _) => format!("{minutes}m{tail}"),
                _ => format!("{hours}h{minutes}m{tail}"),
            }
        }
    }
}

/// A string as Go's `%q` quotes it.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_gos() {
        let table = [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (20_000_000, "20ms"),
            (1_000_000_000, "1s"),
            (1_250_000_000, "1.25s"),
            (60_000_000_000, "1m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
            (10_000, "10µs"),
        ];
        for (nanos, text) in table {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
