//! Graph files right and wrong, both formats, through the functions that the command calls.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ndarray::{Array2, array};
use ndarray_npy::{ReadNpyExt, WriteNpyExt};
use serde_json::json;

use super::*;
use crate::kernels::catalogue;

#[derive(Default)]
struct Counted(AtomicU64);

impl Progress for Counted {
    fn advance(&self, done: u64, total: u64) {
        assert!(done <= total);
        self.0.store(done, Ordering::Relaxed);
    }
}

fn run_file(file: &Path) -> Result<GraphOutcome, GraphError> {
    let runtime = Runtime::new().unwrap();
    run(file, &GraphContext { runtime: &runtime, seed: 0, progress: &Counted::default() })
}

/// A directory with one file in it.
fn with_file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(name);
    std::fs::write(&file, content).unwrap();
    (directory, file)
}

/// The lines of a graph in TOML that is right.
fn lines(graph: &str) -> Vec<String> {
    let (_directory, file) = with_file("graph.toml", graph);
    check(&file).unwrap_or_else(|error| panic!("{error}"));
    run_file(&file).unwrap_or_else(|error| panic!("{error}")).lines
}

/// A file that is wrong: `place` is `:line:` or `:`, and the message has all of `words`.
fn wrong(name: &str, content: impl AsRef<[u8]>, place: &str, words: &[&str]) {
    let (_directory, file) = with_file(name, content);
    wrong_file(&file, place, words);
}

fn wrong_file(file: &Path, place: &str, words: &[&str]) {
    let error = check(file).expect_err("the file is wrong");
    assert!(error.is_input(), "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 2000, "one paragraph: {text}");
    let rest = text.strip_prefix(&file.display().to_string()).unwrap_or_else(|| panic!("no file: {text}"));
    assert!(rest.starts_with(&format!("{place} ")), "expected {place} in {text}");
    for word in words {
        assert!(rest.contains(word), "expected {word:?} in {text}");
    }
    assert_eq!(run_file(file).expect_err("what is wrong is not run"), error);
}

fn toml(content: &str, line: usize, words: &[&str]) {
    wrong("graph.toml", content, &format!(":{line}:"), words);
}

fn json_wrong(content: &str, line: usize, words: &[&str]) {
    wrong("graph.json", content, &format!(":{line}:"), words);
}

const DOCUMENT: &str = include_str!("../../../docs/GRAPH_FILES.md");

#[test]
fn shipped_graphs_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        check(&file).unwrap_or_else(|error| panic!("{error}"));
        let outcome = run_file(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(!outcome.lines.is_empty() && outcome.outputs.is_empty());
        names.push(file.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["diamond.toml", "image-edges.toml", "linear-solve.json", "priorities.toml", "statistics.toml"]);
    for name in names {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

#[test]
fn shipped_graphs_have_the_values_they_promise() {
    let values = |name: &str| run_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs").join(name)).unwrap();
    assert_eq!(values("diamond.toml").lines, ["bottom = 70"]);
    let residual = values("linear-solve.json").values.into_iter().find(|(name, _)| name == "residual").unwrap().1;
    assert!(residual.as_f64().unwrap() < 1e-10, "{residual}");
    assert_eq!(values("priorities.toml").lines, ["waited = 190"]);
}

#[test]
fn the_document_lists_the_catalogue() {
    let documented: Vec<(&str, &str, &str)> = DOCUMENT
        .split("## Catalogue")
        .last()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.strip_suffix(" |"))
        .filter_map(|row| {
            let (name, rest) = row.split_once("` | `")?;
            let (signature, summary) = rest.split_once("` | ")?;
            Some((name, signature, summary))
        })
        .collect();
    let entries = catalogue();
    // A cell of a Markdown table cannot hold a bare `|`.
    let listed: Vec<(&str, String, &str)> =
        entries.iter().map(|entry| (entry.name, entry.signature.replace('|', "\\|"), entry.summary)).collect();
    let table: String = listed.iter().map(|(name, signature, summary)| format!("| `{name}` | `{signature}` | {summary} |\n")).collect();
    assert!(
        documented.iter().copied().eq(listed.iter().map(|(name, signature, summary)| (*name, signature.as_str(), *summary))),
        "the table of docs/GRAPH_FILES.md should be:\n{table}"
    );
}

#[test]
fn the_examples_of_the_document_are_right() {
    let mut found = 0;
    for (language, name) in [("```toml\n", "graph.toml"), ("```json\n", "graph.json")] {
        for block in DOCUMENT.split(language).skip(1) {
            let block = block.split("```").next().unwrap();
            // Blocks that show one field are no graphs.
            if block.contains("tasks") {
                let (_directory, file) = with_file(name, block);
                check(&file).unwrap_or_else(|error| panic!("{error}\n{block}"));
                found += 1;
            }
        }
    }
    assert!(found >= 2);
}

#[test]
fn values_and_references() {
    let graph = r#"
        [tasks.a]
        kernel = "constant"
        inputs = ["@@home"]
        [tasks.b]
        kernel = "sum"
        inputs = [[1, 0x10, 1_000, 1e2]]
        [tasks.c]
        kernel = "constant"
        inputs = [[[1, 2], [3, 4]]]
        [tasks.d]
        kernel = "scale"
        inputs = [[], 2]
        [tasks.e]
        kernel = "divide"
        inputs = [1, 0]
        [tasks.later]
        kernel = "constant"
        inputs = ["@earlier"]
        [tasks.earlier]
        kernel = "range"
        inputs = [9]
        [tasks.picture]
        kernel = "gradient-image"
        inputs = [4, 3]
        [tasks.small]
        kernel = "divide"
        inputs = [1, 3e20]
        [tasks."with.dot"]
        kernel = "power"
        inputs = [10, 300]
        "#;
    assert_eq!(
        lines(graph),
        [
            "a = \"@home\"",
            "b = 1117",
            "c: matrix 2x2",
            "d: vector of 0 []",
            "e = inf",
            "later: vector of 9 [0, 1, 2, 3, 4, 5, …]",
            "picture: image 4x3 rgb",
            "small = 3.3333333333333333e-21",
            "with.dot = 1e300",
        ]
    );
}

#[test]
fn both_formats_say_the_same() {
    let json = r#"{"tasks": {"b": {"kernel": "add", "inputs": ["@a", 1.5e0], "after": ["c"], "priority": "high", "scope": "any"},
        "a": {"kernel": "constant", "inputs": [-2]}, "c": {"kernel": "length", "inputs": ["\u00e9\ud83d\ude00\n"]}}}"#;
    let (_directory, file) = with_file("graph.json", format!("\u{feff}{json}"));
    let outcome = run_file(&file).unwrap();
    assert_eq!(outcome.lines, ["b = -0.5"]);
    assert_eq!(outcome.values, [("b".to_owned(), json!(-0.5))]);
    let toml = "tasks.b = { kernel = 'add', inputs = ['@a', 1.5e0], after = ['c'], priority = 'high', scope = 'any' }\n\
        tasks.a = { kernel = 'constant', inputs = [-2] }\ntasks.c = { kernel = 'length', inputs = [\"\\u00e9\\U0001f600\\n\"] }\n";
    assert_eq!(lines(toml), ["b = -0.5"]);
    // TOML 1.1: an inline table over several lines.
    assert_eq!(lines("tasks.a = {\n  kernel = 'constant',\n  inputs = [1],\n}\n"), ["a = 1"]);
}

#[test]
fn values_for_programs() {
    let (_directory, file) = with_file(
        "graph.toml",
        "tasks.n = { kernel = 'divide', inputs = [0, 0] }\ntasks.v = { kernel = 'range', inputs = [2] }\n\
         tasks.long = { kernel = 'range', inputs = [10001] }\ntasks.i = { kernel = 'checkerboard', inputs = [2, 1, 1] }\n\
         tasks.m = { kernel = 'constant', inputs = [[[1, 2.5]]] }",
    );
    let values = run_file(&file).unwrap().values;
    let expect = [
        ("n", json!("NaN")),
        ("v", json!([0, 1])),
        ("long", json!({ "type": "vector", "length": 10001 })),
        ("i", json!({ "type": "image", "width": 2, "height": 1, "channels": 1 })),
        ("m", json!([[1, 2.5]])),
    ];
    assert_eq!(values, expect.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn files_come_in_and_go_out() {
    let (directory, file) = with_file(
        "graph.toml",
        r#"
        [tasks.board]
        kernel = "checkerboard"
        inputs = [4, 2, 1]
        output = "out/board.png"
        [tasks.seen]
        kernel = "mean"
        inputs = [{ file = "in/picture.png" }]
        [tasks.table]
        kernel = "matmul"
        inputs = [{ file = "in/table.csv" }, { file = "in/column.npy" }]
        output = "out/product.csv"
        [tasks.also]
        kernel = "constant"
        inputs = ["@table"]
        output = "out/product.npy"
        [tasks.words]
        kernel = "word-count"
        inputs = [{ file = "in/words.txt" }]
        output = "out/words.txt"
        [tasks.rows]
        kernel = "transpose"
        inputs = [{ file = "in/rows.json" }]
        output = "out/rows.json"
        "#,
    );
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("in")).unwrap();
    std::fs::create_dir(path("out")).unwrap();
    let picture = image::RgbImage::from_pixel(3, 2, image::Rgb([255, 0, 0]));
    picture.save(path("in/picture.png")).unwrap();
    std::fs::write(path("in/table.csv"), "1, 2\n\n3,4.5e0\r\n").unwrap();
    array![[1_i32], [2]].write_npy(std::fs::File::create(path("in/column.npy")).unwrap()).unwrap();
    std::fs::write(path("in/words.txt"), "@three words here").unwrap();
    std::fs::write(path("in/rows.json"), "[[1,2]]").unwrap();
    let outcome = run_file(&file).unwrap();
    assert!(outcome.lines.contains(&"seen = 0.3333333333333333".to_owned()), "{:?}", outcome.lines);
    let written: BTreeMap<String, Vec<u8>> = outcome
        .outputs
        .iter()
        .map(|(path, bytes)| (path.strip_prefix(directory.path()).unwrap().display().to_string(), bytes.clone()))
        .collect();
    assert_eq!(written["out/product.csv"], b"5\n12\n");
    assert_eq!(Array2::<f64>::read_npy(written["out/product.npy"].as_slice()).unwrap(), array![[5.0], [12.0]]);
    assert_eq!(written["out/words.txt"], b"3\n");
    assert_eq!(written["out/rows.json"], b"[[1],[2]]\n");
    let board = image::load_from_memory(&written["out/board.png"]).unwrap().into_luma8();
    assert_eq!(board.as_raw(), &[0, 255, 0, 255, 255, 0, 255, 0]);
}

#[test]
fn input_files_that_are_wrong() {
    let attempt = |name: &str, content: &[u8], words: &[&str]| {
        let (directory, file) = with_file("graph.toml", format!("[tasks.a]\nkernel = 'constant'\ninputs = [\n  {{ file = '{name}' }}]"));
        std::fs::write(directory.path().join(name), content).unwrap();
        wrong_file(&file, ":4:", &[words, &[name]].concat());
    };
    attempt("x.csv", b"1,2\n3\n", &["line 2", "1 columns"]);
    attempt("x.csv", b"a,b\n1,2\n", &["line 1", "`a` is not a number"]);
    attempt("x.csv", b"1,nan\n", &["`nan` is not a number"]);
    attempt("x.csv", b"1,1e999\n", &["too large"]);
    attempt("x.csv", b"", &["no numbers"]);
    attempt("x.txt", b"ok\n\xff\xfe", &["line 2", "not UTF-8"]);
    attempt("x.png", b"not an image", &["not a PNG image"]);
    attempt("x.npy", b"", &["not a .npy file"]);
    attempt("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xffhm", &["header is longer"]);
    let mut header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".to_vec();
    header.resize(127, b' ');
    header.push(b'\n');
    attempt("x.npy", &header, &["not a .npy file"]);
    attempt("x.json", b"[1, [2]]", &["a list holds numbers"]);
    attempt("x.json", b"{}", &["a table is no value"]);
    attempt("x.xyz", b"", &["ends in .png"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [{ file = 'none.png' }]", 3, &["none.png", "no such file"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [{ file = '/' }]", 3, &["ends in .png"]);
    let (directory, file) = with_file("graph.toml", "[tasks.a]\nkernel = 'constant'\ninputs = [{ file = 'd.png' }]");
    std::fs::create_dir(directory.path().join("d.png")).unwrap();
    wrong_file(&file, ":3:", &["d.png", "directory"]);
    // A PNG that claims 2^31-1 pixels a side, in a header of the right checksum or not: nothing of that size is set aside.
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png);
    image::GrayImage::new(40_000, 1).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    attempt("x.png", &png, &["not a PNG image"]);
}

#[test]
fn outputs_that_are_wrong() {
    let task = |kernel: &str, output: &str| format!("[tasks.a]\nkernel = {kernel}\noutput = '{output}'");
    let number = "'constant'\ninputs = [1]";
    toml(&task(number, "a.png"), 4, &["`a.png`", "holds image", "is number"]);
    toml(&task(number, "a.jpg"), 4, &["ends in .png"]);
    toml(&task(number, "none/a.txt"), 4, &["no directory"]);
    toml(&task(number, ""), 4, &["ends in"]);
    toml(&task("'checkerboard'\ninputs = [2, 2, 1]", "a.json"), 4, &["is image"]);
    let twice = "tasks.a = { kernel = 'constant', inputs = [1], output = 'a.txt' }\n\ntasks.b = { kernel = 'constant', inputs = [1], output = './a.txt' }";
    toml(twice, 3, &["task `a` writes it"]);
    json_wrong(r#"{"tasks": {"a": {"kernel": "constant", "inputs": [1], "output": "graph.json"}}}"#, 1, &["this run reads it"]);
}

#[test]
fn files_that_are_no_graphs() {
    for name in ["graph.toml", "graph.json"] {
        wrong(name, "", ":", &["empty"]);
        wrong(name, " \n\n", ":", &["empty"]);
        wrong(name, b"\n\xff\xfe\x00", ":2:", &["not UTF-8"]);
        let big = vec![b'['; (document::MAX_FILE_BYTES + 1) as usize];
        wrong(name, big, ":", &["the limit is 16777216"]);
    }
    wrong("graph.yaml", "a: 1", ":", &["ends in .toml or .json", ".yaml"]);
    wrong("graph", "", ":", &["ends in .toml or .json"]);
    let (directory, file) = with_file("graph.toml", "");
    std::fs::remove_file(&file).unwrap();
    wrong_file(&file, ":", &["no such file"]);
    std::fs::create_dir(&file).unwrap();
    wrong_file(&file, ":", &["directory"]);
    wrong_file(directory.path().parent().unwrap(), ":", &["directory"]);
    let link = directory.path().join("null.json");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    wrong_file(&link, ":", &["not a regular file"]);
}

#[test]
fn nesting_is_bounded() {
    // As deep as a file may be long, and just over the limit; the stack of a test's thread is 2 MiB.
    let most = document::MAX_FILE_BYTES as usize - 100;
    for depth in [most, document::MAX_DEPTH * 5 + 5, 400] {
        let nested = "[".repeat(depth);
        json_wrong(&format!("{{\n\"tasks\": {nested}"), 2, &["more than 64 deep"]);
        json_wrong(&format!("\n{}", r#"{"a":"#.repeat(depth / 5)), 2, &["more than 64 deep"]); // Five bytes a level.
        toml(&format!("x = 1\ny = {nested}"), 2, &[]);
    }
    let closed = format!("\ny = {}{}", "[".repeat(70), "]".repeat(70));
    toml(&closed, 2, &["more than 64 deep"]);
    let closed = format!("\ny = {}{}", "[".repeat(1000), "]".repeat(1000));
    toml(&closed, 2, &["more than 64 deep"]);
    let tables = format!("y = {}1{}", "{ a = ".repeat(1000), "}".repeat(1000));
    toml(&tables, 1, &["more than 64 deep"]);
    for count in [66, 100, 1_000_000] {
        toml(&format!("\n{}a = 1", "a.".repeat(count)), 2, &["more than 64 deep"]);
        toml(&format!("\n[{}a]\nb = 1", "a.".repeat(count)), 2, &["more than 64 deep"]);
    }
    // Each part within the parser's own limits, all of them together 6 000 levels deep.
    let names = "a.".repeat(78);
    let combined = format!("[{names}a]\n{names}a = {}1{}", format!("{{ {names}a = ").repeat(78), "}".repeat(78));
    toml(&combined, 1, &["more than 64 deep"]);
    toml(&format!("{combined}\n="), 3, &[]);
}

#[test]
fn syntax_errors_have_lines() {
    toml("\n\n[tasks.a\n", 3, &[]);
    toml("[tasks.a]\nkernel = \"x\n", 2, &[]);
    toml("[tasks.a]\nkernel = 'x'\n\nkernel = 'y'\n", 4, &["defined twice", "`kernel`"]);
    toml("[tasks.a]\nkernel = 'x'\n[tasks.b]\nkernel = 'x'\n[tasks.a]\nkernel = 'y'", 5, &["defined twice", "`a`"]);
    toml("d = 1979-05-27", 1, &["date"]);
    json_wrong("{\n\"tasks\": \n", 3, &["the file ends where a value is expected"]);
    json_wrong("{\n\"tasks\": {\"a\": 1\n\n\"b\"", 4, &["found", "`,` or `}`"]);
    json_wrong("{\"tasks\": {\n\"a\": {},\n\"b\": {},\n\"a\": {}}}", 4, &["`a` is defined twice", "line 2"]);
    json_wrong("{\"tasks\": {}} x", 1, &["the end of the file"]);
    json_wrong("{\n\"x", 2, &["not closed"]);
    json_wrong("{\"\\x\": 1}", 1, &["malformed"]);
    json_wrong("{\"\\ud800\": 1}", 1, &["malformed"]);
    json_wrong("{\"a\nb\": 1}", 1, &["malformed"]);
    json_wrong("{a: 1}", 1, &["a name in double quotes"]);
    json_wrong("{\"a\": nan}", 1, &["`nan` is not a value"]);
    for number in ["01", "1.", ".5", "-", "1e", "1e+", "--1", "+1", "1.2.3", "0x10"] {
        let error = json::parse(number).expect_err(number);
        assert_eq!(error.line, Some(1));
    }
    for (number, value) in
        [("0", 0.0), ("-0.5E+1", -5.0), ("1000000000000000000", 1e18), ("-9007199254740992", -9_007_199_254_740_992.0), ("1e-999", 0.0)]
    {
        assert_eq!(json::parse(number).unwrap().content, document::Content::Number(value));
    }
}

#[test]
fn numbers_are_exact_or_refused() {
    for (number, word) in
        [("1e999", "too large"), ("9007199254740993", "would be rounded"), ("123456789012345678901234567890", "would be rounded")]
    {
        json_wrong(&format!("{{\"tasks\": {{\"a\": {{\"kernel\": \"constant\",\n\"inputs\": [{number}]}}}}}}"), 2, &[word]);
        toml(&format!("[tasks.a]\nkernel = 'constant'\ninputs = [{number}]"), 3, &[word]);
    }
    for number in ["nan", "inf", "-inf"] {
        toml(&format!("[tasks.a]\nkernel = 'constant'\ninputs = [\n{number}]"), 4, &["not a number that a graph file may hold"]);
    }
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [0xffffffffffffffffffff]", 3, &["too large"]);
}

#[test]
fn fields_that_are_wrong() {
    toml("[task.a]\nkernel = 'constant'", 1, &["a graph has no field `task`", "did you mean `tasks`"]);
    toml("name = 'x'", 1, &["no `tasks`"]);
    toml("name = 1\n[tasks.a]\nkernel = 'constant'", 1, &["`name`", "expected a text, found a number"]);
    toml("\ntasks = []", 2, &["table of tasks by name, not a list"]);
    toml("\n[tasks]", 2, &["no tasks"]);
    toml("\n[tasks]\na = 3", 3, &["task `a` is a table"]);
    toml("\n[tasks.a]", 2, &["task `a` has no `kernel`"]);
    toml("[tasks.a]\nkernel = 'constant'\ninput = [1]", 3, &["task `a` has no field `input`", "did you mean `inputs`"]);
    toml("[tasks.a]\nkernel = 'constant'\nwhatever = [1]", 3, &["no field `whatever`", "it has kernel, inputs"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = 1", 3, &["`inputs` is a list", "a number"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [true]", 3, &["true and false"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [{ path = 'x' }]", 3, &["no field `path`", "file"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [{ task = 'x' }]", 3, &["`\"@x\"`"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = ['@']", 3, &["not followed by"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [[1,\n'@b']]", 4, &["`collect`"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [[[1, 2],\n[3]]]", 4, &["equally long"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [[[[1]]]]", 3, &["a list holds numbers"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\npriority = 'hihg'", 4, &["`hihg`", "did you mean `high`"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nscope = 'cpu'", 4, &["`scope` `cpu`", "character 1", "kind:<name>"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nscope = 'kind:cpu & (any'", 4, &["character 12", "not closed"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nscope = { kind = 'cpu' }", 4, &["`scope` is a text", "a table"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nafter = ['@b']", 4, &["plain names"]);
    toml("[tasks.'a b']\nkernel = 'constant'", 1, &["`a b`", "letters, digits"]);
    toml("[tasks.'']\nkernel = 'constant'", 1, &["empty"]);
    toml(&format!("[tasks.{}]\nkernel = 'constant'", "x".repeat(201)), 1, &["201 bytes", "…"]);
    json_wrong("{\"tasks\": {\"a\": null}}", 1, &["not null"]);
    json_wrong("[]", 1, &["a graph is a table, not a list"]);
    json_wrong("{\"tasks\": {\"\\u001b[31m\": {}}}", 1, &["\\u{1b}"]);
}

#[test]
fn names_that_are_wrong() {
    toml("[tasks.a]\nkernel = 'devide'\ninputs = [1, 2]", 2, &["unknown kernel `devide`", "did you mean `divide`"]);
    toml("[tasks.a]\nkernel = 'qqqqqqqq'", 2, &["unknown kernel `qqqqqqqq`"]);
    toml(
        "[tasks.alpha]\nkernel = 'constant'\ninputs = [1]\n[tasks.b]\nkernel = 'constant'\ninputs = ['@alpah']",
        6,
        &["task `b`", "`alpah`", "did you mean `alpha`"],
    );
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nafter = [\n'b']", 5, &["unknown task `b`"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = ['@a']", 3, &["`a` needs itself"]);
    toml("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nafter = ['a']", 4, &["`a` needs itself"]);
    json_wrong("{\"tasks\": {\"a\": {\n\"kernel\": \"ad\",\n\"inputs\": [1]}}}", 2, &["unknown kernel `ad`", "did you mean `add`"]);
    json_wrong("{\"tasks\": {\"a\": {\n\"kernel\": \"add\",\n\"inputs\": [1,\n\"@b\"]}}}", 4, &["unknown task `b`"]);
}

#[test]
fn cycles_name_their_tasks_in_order() {
    let graph = "[tasks.start]\nkernel = 'constant'\ninputs = ['@c']\n[tasks.a]\nkernel = 'constant'\ninputs = ['@b']\n\
        [tasks.b]\nkernel = 'constant'\ninputs = [1]\nafter = ['c']\n[tasks.c]\nkernel = 'add'\ninputs = [1, '@a']\n";
    toml(graph, 6, &["3 tasks form a cycle", "a -> b -> c -> a"]);
    let mut long = String::from("{\"tasks\": {");
    for index in 0..100_000 {
        let _ = write!(
            long,
            "{}\n\"t{index}\": {{\"kernel\": \"constant\", \"inputs\": [\"@t{}\"]}}",
            if index > 0 { "," } else { "" },
            (index + 1) % 100_000
        );
    }
    long.push_str("}}");
    json_wrong(&long, 2, &["100000 tasks form a cycle", "t0 -> t1 -> ", "… -> t0"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let task = |kernel: &str, inputs: &str| format!("[tasks.a]\nkernel = '{kernel}'\ninputs = [{inputs}]");
    toml(&task("divide", "1"), 2, &["gives 1 inputs", "`divide` takes 2", "divide(dividend: number"]);
    toml(&task("divide", "1, 2, 3"), 2, &["gives 3 inputs"]);
    toml(&task("add", ""), 2, &["1 or more"]);
    toml(&task("range", "1, 2"), 2, &["takes 1 or 3"]);
    toml("[tasks.a]\nkernel = 'constant'", 2, &["gives 0 inputs"]);
    toml(&task("divide", "1,\n'x'"), 4, &["input 2 of task `a` is text", "takes number there"]);
    toml(&task("add", "1, [1]"), 3, &["input 2", "is vector", "takes number"]);
    toml(&task("norm", "1"), 3, &["input 1", "is number", "takes matrix or vector"]);
    let chain = "[tasks.a]\nkernel = 'range'\ninputs = [3]\n[tasks.b]\nkernel = 'reverse'\ninputs = ['@a']\n[tasks.c]\nkernel = 'transpose'\ninputs = ['@b']";
    toml(chain, 9, &["is vector, the result of task `b`", "takes matrix"]);
    let (directory, file) = with_file("graph.toml", task("transpose", "{ file = 'x.txt' }"));
    std::fs::write(directory.path().join("x.txt"), "hm").unwrap();
    wrong_file(&file, ":3:", &["is text, from file `x.txt`"]);
}

#[test]
fn failed_tasks_are_not_the_files_fault() {
    let failed = |graph: &str, words: &[&str]| {
        let (_directory, file) = with_file("graph.toml", graph);
        check(&file).unwrap();
        let error = run_file(&file).expect_err("a task fails");
        assert!(!error.is_input());
        assert!(!error.to_string().contains(char::is_control) && error.to_string().len() < 2000, "one paragraph: {error}");
        for word in words {
            assert!(error.to_string().contains(word), "expected {word:?} in {error}");
        }
    };
    let graph = "[tasks.a]\nkernel = 'constant'\ninputs = ['@b']\n[tasks.b]\nkernel = 'fail'\ninputs = ['on purpose']";
    failed(graph, &[":4: task `b` (kernel `fail`) failed", "on purpose"]);
    let graph = "[tasks.a]\nkernel = 'text-repeat'\ninputs = [\"\\u001bx\\n\", 10000]\n[tasks.b]\nkernel = 'fail'\ninputs = ['@a']";
    failed(graph, &["x  x", "…"]);
    // A failed predecessor that gives no value still stops what comes after it.
    let graph = "[tasks.a]\nkernel = 'constant'\ninputs = [1]\nafter = ['b']\n[tasks.b]\nkernel = 'solve'\ninputs = [[[0]], [1]]\npriority = 'high'";
    failed(graph, &[":5: task `b` (kernel `solve`) failed", "singular"]);
}

#[test]
fn scopes_are_checked_against_the_runtime() {
    let runtime = Runtime::new().unwrap();
    let report = runtime.report();
    let backend = &report.backends[0];
    let with_scope = |scope: &str| {
        let (_directory, file) = with_file("graph.toml", format!("[tasks.a]\nkernel = 'constant'\ninputs = [1]\nscope = {scope}"));
        check(&file).unwrap();
        run_file(&file)
    };
    for scope in [
        "'any'".to_owned(),
        "'kind:cpu'".to_owned(),
        format!("'host & backend:{}'", backend.name),
        format!("'processor:{} | processor:nobody'", backend.processors[0].name),
    ] {
        assert_eq!(with_scope(&scope).unwrap().lines, ["a = 1"]);
    }
    for (scope, hint) in [
        ("'kind:cpuu'", "; did you mean `cpu`?"),
        ("'backend:thredas & host'", "; did you mean `threads`?"),
        ("'processor:nobody'", "has no processor here"),
        ("'any - kind:cpu'", "any processor except processors of kind `cpu`, has no processor here"),
    ] {
        let error = with_scope(scope).expect_err(scope);
        let text = error.to_string();
        assert!(error.is_input() && text.contains(":4: task `a`: its scope, ") && text.ends_with(hint), "{error}");
    }
}

#[test]
fn a_hundred_thousand_tasks_are_fine() {
    const COUNT: usize = 100_000;
    let mut toml = String::from("[tasks.t0]\nkernel = 'constant'\ninputs = [1]\n");
    let mut json = String::from("{\"tasks\": {\n\"t0\": {\"kernel\": \"constant\", \"inputs\": [1]}");
    for index in 1..COUNT {
        let _ = write!(toml, "[tasks.t{index}]\nkernel = 'add'\ninputs = ['@t{}', 1]\n", index - 1);
        let _ = write!(json, ",\n\"t{index}\": {{\"kernel\": \"add\", \"inputs\": [\"@t{}\", 1]}}", index - 1);
    }
    json.push_str("}}");
    for (name, content) in [("graph.toml", toml), ("graph.json", json)] {
        let (_directory, file) = with_file(name, content);
        let start = Instant::now();
        check(&file).unwrap();
        // Half a second on a slow machine; anything quadratic takes minutes.
        assert!(start.elapsed() < Duration::from_secs(30), "{name}: {:?}", start.elapsed());
        let runtime = Runtime::new().unwrap();
        let progress = Counted::default();
        let outcome = run(&file, &GraphContext { runtime: &runtime, seed: 0, progress: &progress }).unwrap();
        assert_eq!(outcome.lines, [format!("t{} = {COUNT}", COUNT - 1)]);
        assert_eq!(progress.0.load(Ordering::Relaxed), COUNT as u64);
    }
}

#[test]
fn the_seed_decides_random_values() {
    let (_directory, file) = with_file("graph.toml", "tasks.a = { kernel = 'random-vector', inputs = [4] }");
    let runtime = Runtime::new().unwrap();
    let lines = |seed| run(&file, &GraphContext { runtime: &runtime, seed, progress: &Counted::default() }).unwrap().lines;
    assert_eq!(lines(5), lines(5));
    assert_ne!(lines(5), lines(6));
}
