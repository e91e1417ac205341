//! How much CPU and memory something uses.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

const NANOS: f64 = 1e9;

/// A container, pod or node as the kubelet's summary has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Figures {
    pub start_time: Option<Timestamp>,
    pub cpu: Cpu,
    pub memory: Memory,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Cpu {
    time: Option<Timestamp>,
    usage_nano_cores: Option<u64>,
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    working_set_bytes: Option<u64>,
}

/// A moment's count of CPU time, to tell the rate from at the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    at: Timestamp,
    nanos: u64,
}

/// Use over a window of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    nano_cores: u64,
    memory: u64,
    at: Option<Timestamp>,
    seconds: f64,
}

/// The window over which a kubelet that tells the rate itself looks.
const KUBELETS_WINDOW: f64 = 10.0;

impl Figures {
    pub fn sample(&self) -> Option<Sample> {
        Some(Sample { at: self.cpu.time?, nanos: self.cpu.usage_core_nano_seconds? })
    }

    /// The rate that the kubelet tells; or since the sample before; or, the first time, since the start.
    pub fn usage(&self, before: Option<Sample>) -> Option<Usage> {
        let memory = self.memory.working_set_bytes?;
        let at = self.cpu.time;
        if let Some(nano_cores) = self.cpu.usage_nano_cores {
            return Some(Usage { nano_cores, memory, at, seconds: KUBELETS_WINDOW });
        }
        let now = self.sample()?;
        let since = before.filter(|before| before.at < now.at && before.nanos <= now.nanos);
        let since = since.or(self.start_time.map(|at| Sample { at, nanos: 0 }))?;
        let seconds = now.at.duration_since(since.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let nano_cores = ((now.nanos - since.nanos) as f64 / seconds) as u64;
        Some(Usage { nano_cores, memory, at, seconds })
    }
}

impl Usage {
    pub fn amounts(&self) -> Value {
        json!({"cpu": format!("{}n", self.nano_cores), "memory": format!("{}Ki", self.memory / 1024)})
    }

    pub fn timestamp(&self, now: &str) -> String {
        self.at.map_or_else(|| now.to_owned(), crate::object::timestamp)
    }

    /// As Go prints a duration.
    pub fn window(&self) -> String {
        knarr_api::duration::format((self.seconds * NANOS) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(value: Value) -> Figures {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rates_are_the_kubelets_or_counted_between_samples_or_since_the_start() {
        let at = |second: u8, nanos: u64| {
            json!({"startTime": "2030-01-01T00:00:00Z", "memory": {"workingSetBytes": 4096},
                "cpu": {"time": format!("2030-01-01T00:00:{second:02}Z"), "usageCoreNanoSeconds": nanos}})
        };
        let first = figures(at(10, 1_000_000_000));
        let usage = first.usage(None).unwrap();
        assert_eq!(usage.amounts(), json!({"cpu": "100000000n", "memory": "4Ki"}));
        assert_eq!(usage.window(), "10s");
        let second = figures(at(20, 4_000_000_000));
        assert_eq!(second.usage(first.sample()).unwrap().amounts()["cpu"], "300000000n");
        let mut told = at(30, 5_000_000_000);
        told["cpu"]["usageNanoCores"] = 7.into();
        assert_eq!(figures(told).usage(second.sample()).unwrap().amounts()["cpu"], "7n");
        assert_eq!(figures(json!({"memory": {"workingSetBytes": 1}})).usage(None), None);
    }
}
