//! `poniard policies`: what can decide where and when tasks run.

use poniard::plugin::{FoundPolicies, load_policies};
use poniard::policy::{DEFAULT, POLICIES};
use serde_json::{Value, json};

use super::search;
use crate::console::{BAD, Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::options::PoliciesOptions;
use crate::report::path_text;

/// A policy as it is listed.
struct Listed<'a> {
    name: &'a str,
    summary: &'a str,
    /// Its plugin file.
    file: Option<String>,
}

/// Lists the policies.
pub fn policies(options: &PoliciesOptions, console: &mut Console) -> Result<(), Failure> {
    let found = load_policies(&search(&options.plugins)?);
    let listed = listed(&found);
    if options.json {
        return console.line(as_json(&listed, &found));
    }
    let width = |text: fn(&Listed<'_>) -> usize| listed.iter().map(text).max().unwrap_or(0);
    let (names, summaries) = (width(|one| one.name.chars().count()), width(|one| one.summary.chars().count()));
    for one in &listed {
        let name_padding = " ".repeat(names - one.name.chars().count());
        let from = match &one.file {
            Some(file) => file.as_str(),
            None if one.name == DEFAULT => "built in, the default",
            None => "built in",
        };
        let (name, summary) = (Styled(NAME, one.name), one.summary);
        console.line(format_args!("{name}{name_padding}  {summary:summaries$}  {}", Styled(QUIET, from)))?;
    }
    if !found.refused.is_empty() {
        console.line("")?;
        console.line(Styled(BAD, "refused"))?;
        for refused in &found.refused {
            console.line(format_args!("  {}: {}", refused.file.display(), refused.error))?;
        }
    }
    console.line("")?;
    console.line(Styled(NAME, "searched"))?;
    for place in &found.searched {
        console.line(format_args!("  {} ({})", place.path.display(), place.reason))?;
    }
    Ok(())
}

/// Those that come with the command, then those of plugin files. A file whose policy is called as one of the first is not used by its name, and says so.
fn listed(found: &FoundPolicies) -> Vec<Listed<'_>> {
    let built_in = POLICIES.iter().map(|known| Listed { name: known.name, summary: known.summary, file: None });
    let loaded = found.loaded.iter().map(|loaded| {
        let hidden = if POLICIES.iter().any(|known| known.name == loaded.name) { " (by this path only)" } else { "" };
        Listed { name: loaded.name, summary: loaded.summary, file: Some(format!("{}{hidden}", path_text(&loaded.file))) }
    });
    built_in.chain(loaded).collect()
}

/// The list for programs.
fn as_json(listed: &[Listed<'_>], found: &FoundPolicies) -> Value {
    let policies: Value = listed
        .iter()
        .zip(std::iter::repeat_n(None, POLICIES.len()).chain(found.loaded.iter().map(Some)))
        .map(|(one, loaded)| {
            json!({
                "name": one.name,
                "summary": one.summary,
                "default": loaded.is_none() && one.name == DEFAULT,
                "file": loaded.map(|loaded| path_text(&loaded.file)),
                "version": loaded.map(|loaded| &loaded.version),
                "rustc": loaded.map(|loaded| &loaded.rustc),
            })
        })
        .collect();
    let refused: Value =
        found.refused.iter().map(|refused| json!({ "file": path_text(&refused.file), "reason": refused.error.to_string() })).collect();
    let searched: Value = found.searched.iter().map(|place| json!({ "path": path_text(&place.path), "reason": place.reason })).collect();
    json!({ "policies": policies, "refused": refused, "searched": searched })
}
