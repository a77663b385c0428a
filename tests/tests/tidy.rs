//! The workspace keeps its own rules: headers, links, arrows between crates, where `unsafe` may stand, and documents that quote code.
//!
//! Each test collects everything that is wrong before it fails, so that one run shows all.
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A longer file says in its header why it is one.
const LINES_MAX: usize = 600;
/// How it says so.
const WHY_LONG: &str = "One file because";
/// Where the mirror of the contract is, and `abi_stable` with it.
const STABLE: &str = "core/interface/src/stable/";
/// Files in which `unsafe` is text that is compiled elsewhere.
const UNSAFE_AS_TEXT: [&str; 4] = [
    "core/interface/src/export.rs", // the macro of plugins
    "core/macros/src/data.rs",      // what the derive macro writes
    "tests/tests/loader.rs",        // sources of plugins that the tests compile
    "tests/tests/tidy.rs",          // this file
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A file of the workspace.
struct Source {
    /// Its path from the root, with `/`.
    path: String,
    text: String,
}

/// The files whose names end with one of `endings`, without what cargo builds, hidden files and material that is not the project's.
fn sources(endings: &[&str]) -> Vec<Source> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<Source>) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            if name.starts_with('.') || (folder == root() && ["target", "shared"].contains(&name.as_str())) {
                continue;
            }
            if kind.is_dir() {
                walk(&entry.path(), endings, found);
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                let path = entry.path().strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
                found.push(Source { path, text });
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), endings, &mut found);
    assert!(!found.is_empty(), "no file ends with {endings:?}");
    found
}

/// The text of one file.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with everything that is wrong.
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} thing(s) to put in order:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_source_begins_with_a_header() {
    let wrong: Vec<_> = sources(&[".rs"])
        .iter()
        .filter(|source| !source.text.starts_with("//! ") && !source.text.starts_with("#![doc = include_str!("))
        .map(|source| format!("{}: begins without `//!`", source.path))
        .collect();
    check(&wrong);
}

#[test]
fn a_long_file_says_why_it_is_one() {
    let header = |text: &str| text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(WHY_LONG));
    let wrong: Vec<_> = sources(&[".rs"])
        .iter()
        .filter(|source| source.text.lines().count() > LINES_MAX && !header(&source.text))
        .map(|source| format!("{}: more than {LINES_MAX} lines, and its header does not say `{WHY_LONG} ...`", source.path))
        .collect();
    check(&wrong);
}

#[test]
fn no_white_space_at_the_end_of_lines_and_one_line_end_at_the_end() {
    let mut wrong = Vec::new();
    for source in sources(&[".rs", ".md", ".toml", ".svg", ".json"]) {
        for (index, line) in source.text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                wrong.push(format!("{}:{}: white space at the end", source.path, index + 1));
            }
        }
        if !source.text.ends_with('\n') || source.text.ends_with("\n\n") {
            wrong.push(format!("{}: does not end with one line end", source.path));
        }
    }
    check(&wrong);
}

#[test]
fn no_banned_words() {
    // In two parts, so that this file has none of them.
    let banned = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("crates", ".io"),
        ("docs", ".rs/"),
        ("lib", ".rs/"),
        ("pypi", ".org"),
        ("npmjs", ".com"),
        ("proxy.golang", ".org"),
    ]
    .map(|(first, second)| format!("{first}{second}"));
    let mut wrong = Vec::new();
    for source in sources(&[".rs", ".md", ".toml", ".svg"]) {
        for (index, line) in source.text.lines().enumerate() {
            wrong.extend(banned.iter().filter(|word| has_word(line, word)).map(|word| format!("{}:{}: {word}", source.path, index + 1)));
        }
    }
    check(&wrong);
}

/// Whether `word` stands in `line` and is no part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        !part(line[..at].chars().next_back()) && (word.ends_with('/') || !part(after))
    })
}

#[test]
fn unsafe_stands_only_where_the_header_expects_it() {
    let expects = |text: &str| {
        text.lines()
            .take_while(|line| line.starts_with("//!") || line.starts_with("#!["))
            .any(|line| line.starts_with("#![expect(unsafe_code, reason = \""))
    };
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::new();
    for source in sources(&[".rs"]) {
        let text = UNSAFE_AS_TEXT.contains(&source.path.as_str());
        let code = |line: &str| line.split("//").next().is_some_and(|code| has_word(code, "unsafe"));
        if expects(&source.text) {
            listed.insert(source.path.clone());
        } else if !text && let Some(index) = source.text.lines().position(code) {
            wrong.push(format!("{}:{}: `unsafe`, and no `#![expect(unsafe_code, reason = ...)]` below the header", source.path, index + 1));
        }
    }
    let style = read("docs/STYLE.md");
    let told: BTreeSet<_> = rows(&style, "| Module | For |").into_iter().map(|(module, _)| module.trim_matches('`').to_owned()).collect();
    wrong.extend(listed.difference(&told).map(|path| format!("docs/STYLE.md: does not list {path} among the modules with unsafe code")));
    wrong.extend(told.difference(&listed).map(|path| format!("docs/STYLE.md: {path} is no module with unsafe code")));
    check(&wrong);
}

#[test]
fn only_the_stable_mirror_names_abi_stable() {
    let mut wrong = Vec::new();
    for source in sources(&[".rs"]) {
        if source.path.starts_with(STABLE) || source.path == "tests/tests/tidy.rs" {
            continue;
        }
        // Prose may name it.
        let code = |line: &str| line.split("//").next().is_some_and(|code| has_word(code, "abi_stable"));
        wrong.extend(source.text.lines().position(code).map(|index| format!("{}:{}: abi_stable outside {STABLE}", source.path, index + 1)));
    }
    for (name, manifest) in manifests() {
        if name != "poniard-interface" && dependencies(&manifest, &["dependencies", "dev-dependencies"]).contains("abi_stable") {
            wrong.push(format!("{name}: depends on abi_stable"));
        }
    }
    check(&wrong);
}

/// The manifests of the workspace's crates, by name.
fn manifests() -> BTreeMap<String, toml::Table> {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| {
            let manifest: toml::Table = read(&format!("{}/Cargo.toml", member.as_str().unwrap())).parse().unwrap();
            (manifest["package"]["name"].as_str().unwrap().to_owned(), manifest)
        })
        .collect()
}

/// The names in some tables of dependencies, those for single targets included.
fn dependencies(manifest: &toml::Table, tables: &[&str]) -> BTreeSet<String> {
    let mut places = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        places.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let tables = places.iter().flat_map(|place| tables.iter().filter_map(|table| place.get(*table)?.as_table()));
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let manifests = manifests();
    let mut wrong = Vec::new();
    for (name, manifest) in &manifests {
        let all = dependencies(manifest, &["dependencies", "build-dependencies"]);
        let ours: BTreeSet<&str> = all.iter().map(String::as_str).filter(|name| manifests.contains_key(*name)).collect();
        let allowed: &[&str] = match name.as_str() {
            "poniard-interface" | "poniard-macros" => &[],
            "poniard" => {
                &["poniard-interface", "poniard-macros", "poniard-backend-process", "poniard-backend-threads", "poniard-backend-vulkan"]
            }
            "poniard-cli" => &["poniard", "poniard-bench", "poniard-scheduler-sim"],
            "poniard-scheduler-sim" => &["poniard"],
            "poniard-bench" | "poniard-tests" | "poniard-diagnostics" | "poniard-late" => &["poniard"],
            backend if backend.starts_with("poniard-backend-") || backend.starts_with("poniard-plugin-") => &["poniard-interface"],
            _ => {
                wrong.push(format!("{name}: say in this test what it may depend on"));
                continue;
            }
        };
        wrong.extend(ours.iter().filter(|other| !allowed.contains(other)).map(|other| format!("{name} depends on {other}")));
    }
    for backend in ["poniard-backend-process", "poniard-backend-threads", "poniard-backend-vulkan"] {
        let dependency = &manifests["poniard"]["dependencies"][backend];
        if dependency.get("optional").and_then(toml::Value::as_bool) != Some(true) {
            wrong.push(format!("poniard: {backend} is not optional"));
        }
    }
    check(&wrong);
}

#[test]
fn plugins_have_the_names_that_the_loader_looks_for() {
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        let Some(backend) = name.strip_prefix("poniard-backend-") else { continue };
        let types = manifest.get("lib").and_then(|lib| lib.get("crate-type")).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        for needed in ["cdylib", "rlib"] {
            if !types.iter().any(|known| known.as_str() == Some(needed)) {
                wrong.push(format!("{name}: its crate-type has no {needed}"));
            }
        }
        // Cargo calls the file after the library.
        let library = manifest.get("lib").and_then(|lib| lib.get("name")).and_then(toml::Value::as_str).map(str::to_owned);
        let file = format!("lib{}.so", library.unwrap_or_else(|| name.replace('-', "_")));
        let wanted = format!("{}{backend}.so", poniard_interface::PluginKind::Backend.file_prefix());
        if file != wanted {
            wrong.push(format!("{name}: cargo builds {file}, and the loader looks for {wanted}"));
        }
        let source = read(&format!("backends/{backend}/src/lib.rs"));
        if !source.contains(&format!("export_backend!(\"{backend}\",")) {
            wrong.push(format!("{name}: does not export a backend called {backend}"));
        }
    }
    check(&wrong);
}

/// A line of a document outside fenced blocks, or a whole fenced block.
enum Part<'a> {
    Line(&'a str),
    Block { language: &'a str, code: &'a str },
}

/// The parts of a document, each with the number of its first line.
fn parts(text: &str) -> Vec<(usize, Part<'_>)> {
    let mut parts = Vec::new();
    // The number of the block's first line, its language, and where its code begins.
    let mut open: Option<(usize, &str, usize)> = None;
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(_), Some((number, language, start))) => {
                parts.push((number, Part::Block { language, code: &text[start..at] }));
                open = None;
            }
            (Some(language), None) => open = Some((index + 1, language.trim(), at + line.len())),
            (None, None) => parts.push((index + 1, Part::Line(line))),
            (None, Some(_)) => {}
        }
        at += line.len();
    }
    assert!(open.is_none(), "a block is not closed: {text}");
    parts
}

/// The cells of the table with two columns and this heading.
fn rows(text: &str, heading: &str) -> Vec<(String, String)> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with("| "));
    let rows: Vec<_> = lines
        .map(|line| {
            let (first, second) = line.trim_matches('|').split_once('|').unwrap();
            (first.trim().to_owned(), second.trim().to_owned())
        })
        .collect();
    assert!(!rows.is_empty(), "no table `{heading}`");
    rows
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for source in sources(&[".md"]) {
        for (number, part) in parts(&source.text) {
            let Part::Line(line) = part else { continue };
            for target in links(line) {
                // Rustdoc resolves the links of a crate's own page.
                if target.contains("://") || target.starts_with("mailto:") || source.path.ends_with("src/tour.md") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let folder = root().join(&source.path).parent().unwrap().to_path_buf();
                let path = if file.is_empty() { root().join(&source.path) } else { folder.join(file) };
                if !path.exists() {
                    wrong.push(format!("{}:{number}: {target} is not there", source.path));
                } else if !anchor.is_empty() && !anchors(&fs::read_to_string(&path).unwrap()).contains(anchor) {
                    wrong.push(format!("{}:{number}: {target} has no such heading", source.path));
                }
            }
        }
    }
    check(&wrong);
}

/// The targets of the links of a line; what stands between backquotes is none.
fn links(line: &str) -> Vec<&str> {
    line.match_indices("](")
        .filter(|(at, _)| line[..*at].matches('`').count().is_multiple_of(2))
        .filter_map(|(at, _)| line[at + 2..].split_once(')').map(|(target, _)| target))
        .collect()
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = parts(text).into_iter().filter_map(|(_, part)| match part {
        Part::Line(line) => line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()),
        Part::Block { .. } => None,
    });
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    headings.map(|heading| heading.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn blocks_of_documents_name_their_language_and_rust_is_compiled() {
    let included = read("tests/support/lib.rs");
    let mut wrong = Vec::new();
    for source in sources(&[".md"]) {
        if source.path.ends_with("src/tour.md") {
            continue;
        }
        let mut rust = false;
        for (number, part) in parts(&source.text) {
            match part {
                Part::Block { language: "", .. } => wrong.push(format!("{}:{number}: a block without a language", source.path)),
                Part::Block { language, .. } => {
                    rust |= language.starts_with("rust");
                    if language.contains("ignore") {
                        wrong.push(format!("{}:{number}: a block that is not compiled", source.path));
                    }
                }
                Part::Line(_) => {}
            }
        }
        if rust && !included.contains(&format!("include_str!(\"../../{}\")", source.path)) {
            wrong.push(format!("{}: has blocks of Rust; include it in tests/support/lib.rs", source.path));
        }
    }
    check(&wrong);
}

#[test]
fn the_tutorials_quote_the_examples() {
    for (tutorial, example) in [
        ("docs/WRITING_A_BACKEND.md", "tests/plugins/example/src/lib.rs"),
        ("docs/WRITING_A_POLICY.md", "tests/plugins/policy-example/src/lib.rs"),
    ] {
        let (text, source) = (read(tutorial), read(example));
        let quoted = parts(&text).into_iter().any(|(_, part)| matches!(part, Part::Block { language: "rust", code } if code == source));
        assert!(quoted, "{tutorial} has no block that is {example}");
    }
}

#[test]
fn the_tutorial_explains_every_refusal() {
    let source = read("core/src/plugin/error.rs");
    let body = source.split_once("pub enum LoadErrorKind {\n").unwrap().1.split_once("\n}\n").unwrap().0;
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let variants: BTreeSet<_> = body
        .lines()
        .filter(is_variant)
        .map(|line| line.trim().trim_end_matches([',', '{', ' ']).split('(').next().unwrap().to_owned())
        .collect();
    let tutorial = read("docs/WRITING_A_BACKEND.md");
    let told: BTreeSet<_> = rows(&tutorial, "| Message | Variant | Means | Do |")
        .into_iter()
        .map(|(_, rest)| rest.split('|').next().unwrap().trim().trim_matches('`').to_owned())
        .collect();
    assert_eq!(variants, told);
}

#[test]
fn the_readme_has_the_exit_codes_of_the_command() {
    let source = read("cli/src/exit_code.rs");
    let help = source.split_once("Exit codes:\n").unwrap().1.split_once("\";").unwrap().0;
    let codes: Vec<_> = help
        .lines()
        .map(|line| {
            let (code, meaning) = line.trim().split_once(' ').unwrap();
            (code.to_owned(), meaning.trim().to_owned())
        })
        .collect();
    assert_eq!(rows(&read("README.md"), "| Code | Means |"), codes);
}

#[test]
fn the_readme_has_the_samples_of_the_command() {
    let module = read("cli/src/samples/mod.rs");
    let text_of = |source: &str, field: &str| {
        let rest = source.split_once(&format!("{field}: \"")).unwrap_or_else(|| panic!("no {field}")).1;
        rest.split_once('"').unwrap().0.to_owned()
    };
    let samples: Vec<_> = module
        .lines()
        .filter_map(|line| line.trim().strip_prefix('&')?.strip_suffix("::SAMPLE,"))
        .map(|file| {
            let source = read(&format!("cli/src/samples/{file}.rs"));
            let sample = source.split_once("static SAMPLE").unwrap().1.to_owned();
            (format!("`{}`", text_of(&sample, "name")), text_of(&sample, "summary"))
        })
        .collect();
    assert_eq!(rows(&read("README.md"), "| Sample | Shows |"), samples);
}

#[test]
fn decisions_are_numbered_and_complete() {
    let decisions: Vec<_> = sources(&[".md"]).into_iter().filter(|source| source.path.starts_with("docs/decisions/")).collect();
    let mut wrong = Vec::new();
    for (index, decision) in decisions.iter().enumerate() {
        let number = index + 1;
        if !decision.path.starts_with(&format!("docs/decisions/{number:04}-")) || !decision.text.starts_with(&format!("# {number}. ")) {
            wrong.push(format!("{}: expected to be number {number}", decision.path));
        }
        for heading in ["Context", "Decision", "Consequences", "Alternatives rejected"] {
            if !decision.text.contains(&format!("\n## {heading}\n")) {
                wrong.push(format!("{}: has no heading `{heading}`", decision.path));
            }
        }
    }
    check(&wrong);
}
