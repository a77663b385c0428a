//! `poniard processors`: what was found to run tasks on, and where it was looked for.

use poniard::{BackendReport, ProcessorReport, Report};
use serde_json::{Value, json};

use super::build_runtime;
use crate::console::{BAD, Console, NAME, Styled};
use crate::failure::Failure;
use crate::options::ProcessorsOptions;
use crate::report::{path_text, refused_json, size};

/// Shows what was found.
pub fn processors(options: &ProcessorsOptions, console: &mut Console) -> Result<(), Failure> {
    let report = build_runtime(&options.runtime)?.report();
    if options.json {
        return console.line(as_json(&report));
    }
    for backend in &report.backends {
        show_backend(backend, console)?;
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

/// Shows a backend and its processors.
fn show_backend(backend: &BackendReport, console: &mut Console) -> Result<(), Failure> {
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
    }
    console.line("")
}

/// `threads-0: cpu, inline, in memory host, NUMA node 0`.
fn processor_line(processor: &ProcessorReport) -> String {
    let fed = if processor.queued { "queued" } else { "inline" };
    let node = processor.numa_node.map_or_else(String::new, |node| format!(", NUMA node {node}"));
    format!("{}: {}, {fed}, in memory {}{node}", processor.name, processor.kind, processor.space)
}

/// The whole report for programs.
fn as_json(report: &Report) -> Value {
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
                    json!({
                        "name": processor.name,
                        "kind": processor.kind.as_str(),
                        "queued": processor.queued,
                        "space": processor.space,
                        "numa_node": processor.numa_node,
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
    json!({ "backends": backends, "refused": refused_json(report), "searched": searched })
}
