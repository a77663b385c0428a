//! Pegasus DAX 2.1 and 3: XML with jobs, the files that they use, and which jobs are children of which.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

use super::read::{Files, ReadOptions, Wrong, shared_bytes};
use super::{Workload, WorkloadBuilder};

pub(super) fn read(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let document = Document::parse(text).map_err(|error| {
        let position = error.pos();
        Wrong::at(format_args!("line {}, column {}", position.row, position.col), error)
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "adag" {
        return Err(at(
            &document,
            root,
            format_args!("the outermost element is `{}`, and that of a DAX is `adag`", root.tag_name().name()),
        ));
    }
    let mut builder = WorkloadBuilder::new(name);
    let mut jobs: BTreeMap<&str, usize> = BTreeMap::new();
    // Of each job those that it reads, and those that it writes.
    let mut uses: Vec<(Files<'_>, Files<'_>)> = Vec::new();
    let jobs_of = root.children().filter(|node| matches!(node.tag_name().name(), "job" | "dag" | "dax"));
    for node in jobs_of {
        let id = attribute(&document, node, "id")?;
        let code = node.attribute("name").unwrap_or("job");
        let work_ns = match node.attribute("runtime") {
            None => 0,
            Some(runtime) => {
                let seconds: f64 =
                    runtime.parse().map_err(|_| at(&document, node, format_args!("job `{id}`: its runtime is no number: `{runtime}`")))?;
                options.nanoseconds(seconds).map_err(|reason| at(&document, node, format_args!("job `{id}`: its runtime: {reason}")))?
            }
        };
        let task = builder.task(id, code, work_ns);
        if jobs.insert(id, task).is_some() {
            return Err(at(&document, node, format_args!("there is a job `{id}` already")));
        }
        let (mut reads, mut writes) = (Files::new(), Files::new());
        for file in node.children().filter(|child| child.tag_name().name() == "uses") {
            let Some(path) = file.attribute("file").or_else(|| file.attribute("name")) else {
                return Err(at(&document, file, format_args!("job `{id}` uses a file without a name")));
            };
            let bytes = match file.attribute("size") {
                None => 0,
                Some(size) => size.parse().map_err(|_| {
                    at(&document, file, format_args!("file `{path}` of job `{id}`: its size is no number of bytes: `{size}`"))
                })?,
            };
            match file.attribute("link") {
                Some("input") => drop(reads.insert(path, bytes)),
                Some("output") => drop(writes.insert(path, bytes)),
                Some("inout") => {
                    reads.insert(path, bytes);
                    writes.insert(path, bytes);
                }
                link => {
                    let link = link.unwrap_or("");
                    return Err(at(
                        &document,
                        file,
                        format_args!("file `{path}` of job `{id}`: link is `{link}`, and can be `input`, `output` or `inout`"),
                    ));
                }
            }
        }
        uses.push((reads, writes));
    }
    if jobs.is_empty() {
        return Err(Wrong::whole("there is no job in it"));
    }
    for child in root.children().filter(|node| node.tag_name().name() == "child") {
        let to = job(&document, &jobs, child)?;
        for parent in child.children().filter(|node| node.tag_name().name() == "parent") {
            let from = job(&document, &jobs, parent)?;
            builder.edge(from, to, shared_bytes(&uses[to].0, &uses[from].1));
        }
    }
    Ok(builder.build()?)
}

fn at(document: &Document<'_>, node: Node<'_, '_>, reason: impl std::fmt::Display) -> Wrong {
    let position = document.text_pos_at(node.range().start);
    Wrong::at(format_args!("line {}, column {}", position.row, position.col), reason)
}

fn attribute<'a>(document: &Document<'_>, node: Node<'a, '_>, name: &str) -> Result<&'a str, Wrong> {
    node.attribute(name).ok_or_else(|| at(document, node, format_args!("`{}` has no `{name}`", node.tag_name().name())))
}

fn job(document: &Document<'_>, jobs: &BTreeMap<&str, usize>, node: Node<'_, '_>) -> Result<usize, Wrong> {
    let id = attribute(document, node, "ref")?;
    jobs.get(id).copied().ok_or_else(|| at(document, node, format_args!("there is no job `{id}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        read("g", text, ReadOptions::default()).unwrap_err().shown()
    }

    #[test]
    fn an_edge_has_the_files_that_both_ends_use() {
        let text = r#"<adag>
            <job id="a" name="first" runtime="1.5"><uses file="x" link="output" size="10"/><uses file="y" link="output" size="5"/></job>
            <job id="b" runtime="2"><uses file="x" link="input" size="10"/></job>
            <child ref="b"><parent ref="a"/></child>
        </adag>"#;
        let workload = read("g", text, ReadOptions::default()).unwrap();
        assert_eq!((workload.work_ns(0), workload.bytes(0), workload.task_name(1)), (1_500_000_000, 10, "b"));
        assert_eq!(workload.code_names(), ["first", "job"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert!(wrong("<adag>\n</dag>").starts_with("line 2, column "), "{}", wrong("<adag>\n</dag>"));
        assert_eq!(wrong("<dag/>"), "line 1, column 1: the outermost element is `dag`, and that of a DAX is `adag`");
        assert_eq!(wrong("<adag/>"), ": there is no job in it");
        assert_eq!(wrong("<adag>\n<job/></adag>"), "line 2, column 1: `job` has no `id`");
        assert_eq!(wrong("<adag>\n<job id='a' runtime='-1'/></adag>"), "line 2, column 1: job `a`: its runtime: -1 s is negative");
        assert_eq!(wrong("<adag><job id='a'/>\n<job id='a'/></adag>"), "line 2, column 1: there is a job `a` already");
        assert_eq!(wrong("<adag><job id='a'/>\n<child ref='b'/></adag>"), "line 2, column 1: there is no job `b`");
    }
}
