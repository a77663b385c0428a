//! `poniard models`: what has been measured on this machine, and how to forget it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use poniard::model::store::{default_folder, files, read};
use poniard::model::{Kept, KeptCurve, Machine, Summary};
use serde_json::{Value, json};

use crate::console::{self, Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::ModelsOptions;
use crate::report::{counted, digits, duration, path_text};

/// Shows or clears the models.
pub fn models(options: &ModelsOptions, console: &mut Console) -> Result<(), Failure> {
    let folder = match options.folder.clone().or_else(default_folder) {
        Some(folder) => folder,
        None => return Err(Failure::usage("neither XDG_CACHE_HOME nor HOME says where models are; say it with --folder DIR")),
    };
    let files = files(&folder).map_err(|error| Failure::input(format_args!("{}: {error}", folder.display())))?;
    if options.clear {
        return clear(&folder, &files, console);
    }
    let mut found = Vec::new();
    for file in files {
        if file.extension().is_some_and(|extension| extension != "txt") {
            console::warn(format_args!("{} was damaged and is not used; `poniard models --clear` removes it", file.display()));
            continue;
        }
        match read(&file) {
            Ok(kept) => found.push((file, kept)),
            Err(error) => console::warn(error),
        }
    }
    if options.json {
        return console.line(found.iter().map(|(file, kept)| as_json(file, kept)).collect::<Value>());
    }
    for (file, kept) in &found {
        let here = if kept.machine == Machine::this().as_str() { ", this machine" } else { "" };
        console.line(format_args!("{}  {}{here}", Styled(NAME, file.display()), shown(&kept.machine)))?;
        show(kept, console)?;
    }
    let folder = folder.display();
    console.line(match found.is_empty() {
        true => Styled(QUIET, format!("Nothing has been kept in {folder}.")),
        false => Styled(QUIET, "`poniard models --clear` forgets it all.".into()),
    })
}

fn clear(folder: &Path, files: &[PathBuf], console: &mut Console) -> Result<(), Failure> {
    for file in files {
        let removed = std::fs::remove_file(file);
        removed.map_err(|error| Failure::new(ExitCode::Output, format_args!("{} could not be removed: {error}", file.display())))?;
    }
    console.line(format_args!("removed {} from {}", counted(files.len() as u64, "file"), folder.display()))
}

/// A table of all that a file has, with a line for each size class.
fn show(kept: &Kept, console: &mut Console) -> Result<(), Failure> {
    let codes = kept.codes.iter().map(|((code, class), curve)| (shown(&code.name), shown(class.as_str()), curve));
    let links = kept.links.iter().map(|((from, to), curve)| (format!("{} to {}", shown(from), shown(to)), "link".into(), curve));
    let head = ["code", "on", "bytes", "mean", "spread", "least", "CPU", "count"].map(str::to_owned);
    let mut rows = vec![head];
    for (name, class, curve) in codes.chain(links) {
        rows.extend(curve.classes.values().map(|summary| row(name.clone(), class.clone(), summary)));
    }
    let widths: [usize; 8] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for (index, row) in rows.iter().enumerate() {
        let cell = |column: usize| match (row[column].as_str(), widths[column]) {
            (text, width) if column < 2 => format!("{text:width$}"),
            (text, width) => format!("{text:>width$}"),
        };
        let line = (0..row.len()).map(cell).collect::<Vec<_>>().join("  ");
        if index == 0 {
            console.line(Styled(QUIET, format_args!("  {line}")))?;
        } else {
            console.line(format_args!("  {line}"))?;
        }
    }
    console.line("")
}

fn row(name: String, class: String, summary: &Summary) -> [String; 8] {
    let time = |ns: f64| duration(Duration::from_nanos(ns.round() as u64));
    let cpu = summary.cpu_share.map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0));
    let (mean, spread, least) = (time(summary.mean_ns), time(summary.spread_ns), time(summary.least_ns as f64));
    [name, class, digits(summary.bytes), mean, spread, least, cpu, digits(summary.count)]
}

/// A name on a line: what would move the cursor is left out.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

/// A file for programs.
fn as_json(file: &Path, kept: &Kept) -> Value {
    let codes = kept.codes.iter().map(|((code, class), curve)| {
        let identity = format!("{:016x}", code.identity);
        json!({ "name": &*code.name, "identity": identity, "on": class.as_str(), "classes": classes_json(curve) })
    });
    let links = kept.links.iter().map(|((from, to), curve)| json!({ "from": &**from, "to": &**to, "classes": classes_json(curve) }));
    json!({
        "file": path_text(file),
        "machine": kept.machine,
        "is_this_machine": kept.machine == Machine::this().as_str(),
        "generation": kept.generation,
        "codes": codes.collect::<Value>(),
        "links": links.collect::<Value>(),
    })
}

fn classes_json(curve: &KeptCurve) -> Value {
    let class = |summary: &Summary| {
        json!({
            "bytes": summary.bytes,
            "count": summary.count,
            "mean_ns": summary.mean_ns,
            "spread_ns": summary.spread_ns,
            "least_ns": summary.least_ns,
            "cpu_share": summary.cpu_share,
        })
    };
    curve.classes.values().map(class).collect()
}
