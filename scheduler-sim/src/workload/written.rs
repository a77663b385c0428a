//! A workload as a file that this and other programs read: WfFormat 1.5.

use serde_json::{Value, json};

use super::Workload;

impl Workload {
    /// The workload in WfFormat 1.5 (JSON). Whoever reads that has the same tasks and edges with the same numbers, works up to 2^51 ns and bytes; each edge is a file that one task writes and another one reads.
    #[must_use]
    pub fn to_wfformat(&self) -> String {
        let file = |from: usize, to: usize| format!("{} to {}", self.task_name(from), self.task_name(to));
        let names = |tasks: &mut dyn Iterator<Item = usize>| tasks.map(|task| self.task_name(task)).collect::<Vec<_>>();
        let sources = |task: usize| self.edges_in(task).map(|(source, _)| source);
        let targets = |task: usize| self.edges_out(task).map(|edge| self.target(edge));
        let tasks = (0..self.len()).map(|task| {
            json!({
                "name": self.task_name(task),
                "id": self.task_name(task),
                "parents": names(&mut sources(task)),
                "children": names(&mut targets(task)),
                "inputFiles": sources(task).map(|source| file(source, task)).collect::<Vec<_>>(),
                "outputFiles": targets(task).map(|target| file(task, target)).collect::<Vec<_>>(),
            })
        });
        let edges = (0..self.len()).flat_map(|task| self.edges_out(task).map(move |edge| (task, edge)));
        let files = edges.map(|(task, edge)| json!({ "id": file(task, self.target(edge)), "sizeInBytes": self.bytes(edge) }));
        let executed = (0..self.len()).map(|task| {
            json!({
                "id": self.task_name(task),
                "runtimeInSeconds": self.work_ns(task) as f64 / 1e9,
                "command": { "program": self.code_names()[self.code(task) as usize] },
            })
        });
        let document = json!({
            "name": self.name(),
            "schemaVersion": "1.5",
            "workflow": {
                "specification": { "tasks": tasks.collect::<Value>(), "files": files.collect::<Value>() },
                "execution": { "tasks": executed.collect::<Value>() },
            },
        });
        format!("{document:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use crate::workload::{Format, Generate, ReadOptions, read_text};

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in ["cholesky:5,ccr=1", "random:60,ccr=2,seed=4", "independent:3", "tree:8,ccr=0"] {
            let workload = Generate::parse(text).unwrap().workload();
            let written = workload.to_wfformat();
            assert_eq!(read_text(workload.name(), &written, Format::WfFormat, ReadOptions::default()).unwrap(), workload, "{text}");
        }
    }
}
