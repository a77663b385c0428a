//! Mistakes on the command line, which are found before anything runs, and help.

use std::fs;

use crate::installation::Installation;

/// What `arguments` fail with, without a plugin: none is needed to see what is wrong.
#[track_caller]
fn check(arguments: &str, code: i32, said: &[&str]) {
    let answer = Installation::without_plugins().ask(arguments);
    answer.failed(code, said);
    assert_eq!(answer.stdout, "");
}

#[test]
fn without_arguments_the_help_is_shown() {
    let answer = Installation::without_plugins().ask("");
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("Usage: poniard") && answer.stderr.contains("samples"), "{answer:#?}");
}

#[test]
fn every_help_has_examples() {
    let installation = Installation::without_plugins();
    for command in ["", "run", "samples", "kernels", "processors", "models", "simulate", "bench", "completions", "install"] {
        let help = installation.ask(&format!("{command} --help")).good();
        assert!(help.contains("Examples:") && help.contains(&format!("  poniard {command}")), "{help}");
    }
    let help = installation.ask("run --help").good();
    assert!(
        help.contains("Exit codes:") && help.contains("--generations") && help.contains("--processes") && help.contains("70  a bug"),
        "{help}"
    );
    assert!(installation.ask("--version").good().starts_with("poniard "));
}

#[test]
fn names_that_mean_nothing_are_usage_errors() {
    check("run qqqqqq", 2, &["no sample or graph file named qqqqqq", "`poniard samples`", "./qqqqqq.toml"]);
    check("run helo", 2, &["no sample or graph file named helo; did you mean hello?"]);
    check("runn hello", 2, &["'runn'", "'run'"]);
    check("hello", 2, &["`hello` is not a subcommand; did you mean `poniard run hello`?"]);
    check("bench qqqqqq", 2, &["no case named qqqqqq (`poniard bench --help` lists the cases)"]);
    check("bench chain two-dep", 2, &["no case named two-dep; did you mean two-deps?"]);
    check("completions tcsh", 2, &["tcsh", "bash", "fish"]);
}

#[test]
fn numbers_out_of_range_are_usage_errors() {
    check("run hello --threads 0", 2, &["--threads", "at least one thread"]);
    check("bench --threads 0", 2, &["--threads", "at least one thread"]);
    check("processors --threads 0", 2, &["--threads", "at least one thread"]);
    check("run hello --threads 18446744073709551616", 2, &["--threads", "too large"]);
    check("run hello --processes 1025", 2, &["--processes", "too large", "1024"]);
    check("bench --processes many", 2, &["--processes", "not a whole number"]);
    check("processors --processes=-1", 2, &["--processes", "not a whole number"]);
    for option in ["size", "tile", "seed", "generations"] {
        check(&format!("run hello --{option} 99999999999999999999"), 2, &[option, "too large", "18446744073709551615"]);
        check(&format!("run hello --{option} 1.5"), 2, &[option, "not a whole number"]);
        check(&format!("run hello --{option}=-1"), 2, &[option, "not a whole number"]);
    }
}

#[test]
fn malformed_options_are_usage_errors() {
    check("run hello --set threads", 2, &["--set", "NAME=VALUE"]);
    check("run hello --size 1 --size 2", 2, &["--size", "multiple times"]);
    check("run hello --size", 2, &["--size"]);
    check("run hello --colour", 2, &["--colour"]);
    check("run hello --plugin ./nowhere.so", 2, &["--plugin ./nowhere.so", "No such file"]);
    check("install", 2, &["--prefix"]);
}

#[test]
fn an_option_that_a_sample_does_not_heed_is_a_usage_error() {
    check("run hello --tile 3", 2, &["the sample hello has no option --tile; it has none"]);
    check("run fib --generations 3", 2, &["the sample fib has no option --generations; it has --size"]);
}

#[test]
fn what_looks_like_a_path_is_a_graph_file() {
    check("run ./qqqqqq", 3, &["there is no graph file ./qqqqqq"]);
    check("run qqqqqq.toml", 3, &["there is no graph file qqqqqq.toml"]);
    check("run qqqqqq.json", 3, &["there is no graph file qqqqqq.json"]);
    check("run .", 3, &[". is a folder"]);

    let installation = Installation::without_plugins();
    fs::write(installation.file("graph.toml"), "").unwrap();
    installation.ask("run grahp.toml").failed(3, &["there is no graph file grahp.toml; did you mean graph.toml?"]);
    installation.ask("run graph.toml --size 3").failed(2, &["a graph file has no option --size", "graph.toml"]);
}

#[test]
fn a_missing_input_is_an_input_error() {
    check("run convolve --input nowhere.png", 3, &["nowhere.png", "No such file"]);
    check("run convolve --input .", 3, &["is a folder"]);
}
