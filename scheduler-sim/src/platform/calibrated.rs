//! Measured machines: what each kernel takes on each worker, and what links between memory nodes give.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Cost, Platform, PlatformError, SimLink, SimProcessor, checked_link, checked_ns, error};

#[derive(Deserialize)]
struct File {
    memory_nodes: Vec<String>,
    #[serde(rename = "bandwidth_MB_per_s")]
    bandwidth: Vec<Vec<f64>>,
    #[serde(rename = "latency_us")]
    latency: Vec<Vec<f64>>,
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    name: String,
    kind: String,
    memory_node: usize,
    kernels: BTreeMap<String, Measured>,
}

#[derive(Deserialize)]
struct Measured {
    mean_us: f64,
    #[serde(default)]
    stddev_us: f64,
}

impl Platform {
    /// The platform that a JSON text of measurements describes: `workers`, each with `name`, `kind`, `memory_node` and `kernels` (`mean_us`, `stddev_us`),
    /// `memory_nodes`, and `bandwidth_MB_per_s` and `latency_us` from each of those to each.
    ///
    /// # Errors
    /// The text is no JSON, or a field is missing or out of range.
    pub fn from_measurements(text: &str) -> Result<Self, PlatformError> {
        let file: File = serde_json::from_str(text).map_err(|wrong| error(format_args!("line {}", wrong.line()), &wrong))?;
        if file.workers.is_empty() {
            return Err(error("workers", "there is no processor"));
        }
        let nodes = file.memory_nodes.len();
        let mut processors = Vec::new();
        let mut costs: BTreeMap<String, BTreeMap<String, Cost>> = BTreeMap::new();
        for (index, Worker { name, kind, memory_node: space, kernels }) in file.workers.into_iter().enumerate() {
            if space >= nodes {
                return Err(error(format_args!("workers[{index}].memory_node"), format_args!("{space} is none of {nodes} memory nodes")));
            }
            for (code, Measured { mean_us, stddev_us }) in kernels {
                let place = |field: &str| format!("workers[{index}].kernels.{code}.{field}");
                let cost = Cost {
                    mean_ns: checked_ns(place("mean_us"), mean_us / 1e6)?,
                    spread_ns: checked_ns(place("stddev_us"), stddev_us / 1e6)?,
                };
                costs.entry(code).or_default().insert(name.clone(), cost);
            }
            processors.push(SimProcessor { name, kind, speed: 1.0, space, process: 0 });
        }
        let mut platform = Self::plain(processors, file.memory_nodes, SimLink::NONE);
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))).filter(|(from, to)| from != to) {
            let at = |field: &str, table: &[Vec<f64>]| {
                let value = table.get(from).and_then(|row| row.get(to)).copied();
                value.ok_or_else(|| error(format_args!("{field}[{from}][{to}]"), "it is missing"))
            };
            let (bandwidth, latency) = (at("bandwidth_MB_per_s", &file.bandwidth)?, at("latency_us", &file.latency)?);
            platform.between.insert((from, to), checked_link(&format!("[{from}][{to}]"), bandwidth * 1e6, latency / 1e6)?);
        }
        platform.costs = costs;
        Ok(platform)
    }
}
