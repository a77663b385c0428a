//! `poniard processors`: what was found to run tasks on, and where it was looked for.

use poniard::{BackendReport, Handle, ProcessorReport, Report};
use serde_json::{Map, Value, json};

use super::{Devices, build_runtime, missing_devices};
use crate::console::{BAD, Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::options::ProcessorsOptions;
use crate::report::{device_json, path_text, refused_json, size};

/// Shows what was found.
pub fn processors(options: &ProcessorsOptions, console: &mut Console) -> Result<(), Failure> {
    let runtime = build_runtime(&options.runtime, Devices::Sought)?;
    let report = runtime.report();
    if options.json {
        return console.line(as_json(&runtime, &report));
    }
    for backend in &report.backends {
        show_backend(&runtime, backend, console)?;
        for reason in missing_devices(backend, &report.messages) {
            console.line(format_args!("  {reason}"))?;
        }
        console.line("")?;
    }
    if !report.refused.is_empty() {
        console.line(Styled(BAD, "refused"))?;
        for refused in &report.refused {
            console.line(format_args!("  {}: {}", refused.file.display(), refused.reason))?;
        }
        console.line("")?;
    }
    console.line(Styled(NAME, "searched"))?;
    for (path, why) in &report.searched {
        console.line(format_args!("  {} ({why})", path.display()))?;
    }
    Ok(())
}

/// Shows a backend and its processors. Devices are measured for it.
fn show_backend(runtime: &Handle, backend: &BackendReport, console: &mut Console) -> Result<(), Failure> {
    console.line(format_args!("{} {}", Styled(NAME, &backend.name), backend.version))?;
    let file = backend.file.as_deref().map_or_else(|| "built in".to_owned(), path_text);
    console.line(format_args!("  file      {file}"))?;
    console.line(format_args!("  compiler  {}", backend.rustc))?;
    for space in &backend.spaces {
        let capacity = space.capacity_bytes.map_or_else(|| "size unknown".to_owned(), size);
        console.line(format_args!("  memory    {} ({capacity})", space.name))?;
    }
    for processor in &backend.processors {
        console.line(format_args!("  {}", processor_line(processor)))?;
        let facts = facts(runtime, processor);
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            console.line(format_args!("    {}  {value}", Styled(QUIET, format_args!("{name:width$}"))))?;
        }
    }
    Ok(())
}

/// What is to be known of a device, measured figures included: up to a second of its work.
fn facts(runtime: &Handle, processor: &ProcessorReport) -> Vec<(String, String)> {
    if processor.device.is_some() { runtime.describe(&processor.name, true) } else { Vec::new() }
}

/// `threads-0: cpu, inline, in memory host, NUMA node 0`.
fn processor_line(processor: &ProcessorReport) -> String {
    let fed = if processor.queued { "queued" } else { "inline" };
    let node = processor.numa_node.map_or_else(String::new, |node| format!(", NUMA node {node}"));
    format!("{}: {}, {fed}, in memory {}{node}", processor.name, processor.kind, processor.space)
}

/// The whole report for programs.
fn as_json(runtime: &Handle, report: &Report) -> Value {
    let backends: Value = report
        .backends
        .iter()
        .map(|backend| {
            let spaces: Value =
                backend.spaces.iter().map(|space| json!({ "name": space.name, "capacity_bytes": space.capacity_bytes })).collect();
            let processors: Value = backend
                .processors
                .iter()
                .map(|processor| {
                    let facts: Map<String, Value> =
                        facts(runtime, processor).into_iter().map(|(name, value)| (name, value.into())).collect();
                    json!({
                        "name": processor.name,
                        "kind": processor.kind.as_str(),
                        "queued": processor.queued,
                        "space": processor.space,
                        "numa_node": processor.numa_node,
                        "device": device_json(processor),
                        "facts": facts,
                    })
                })
                .collect();
            json!({
                "name": backend.name,
                "version": backend.version,
                "file": backend.file.as_deref().map(path_text),
                "rustc": backend.rustc,
                "spaces": spaces,
                "processors": processors,
            })
        })
        .collect();
    let searched: Value = report.searched.iter().map(|(path, why)| json!({ "path": path_text(path), "reason": why })).collect();
    json!({ "backends": backends, "refused": refused_json(report), "searched": searched, "messages": report.messages })
}
