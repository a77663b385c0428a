//! DOT, the language of Graphviz, as far as it says what runs when: a `digraph` with nodes, edges and attributes, each statement ended by `;` or by nothing.
//!
//! `work`, `weight` or `runtime` of a node are seconds, `work_ns` nanoseconds; `code` or `kind` is what kind of work it is; `processors` is how many it takes; `bytes` or `size` of an edge is what goes along.
//! `node [..]` and `edge [..]` give what those have that say nothing themselves, and subgraphs group statements. Other attributes are for those who draw.

use std::collections::BTreeMap;
use std::fmt;

use super::read::{MOST_PROCESSORS, ReadOptions, Wrong};
use super::{Workload, WorkloadBuilder};

/// So deep may subgraphs lie in each other.
const DEEPEST: usize = 64;
/// The most bytes of an edge.
const MOST_BYTES: f64 = 1e18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A name, a number or a quoted text; whether it was quoted, as then it is no keyword.
    Word(String, bool),
    Arrow,
    /// `--`, of graphs whose edges have no direction.
    Line,
    Sign(char),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word, _) => write!(f, "`{word}`"),
            Self::Arrow => f.write_str("`->`"),
            Self::Line => f.write_str("`--`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// The text that is left, and where it begins.
struct Scanner<'a> {
    text: &'a str,
    place: Place,
}

impl Scanner<'_> {
    fn advance(&mut self) -> Option<char> {
        let c = self.text.chars().next()?;
        self.text = &self.text[c.len_utf8()..];
        if c == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(c)
    }

    fn skip_line(&mut self) {
        while !self.text.is_empty() && !self.text.starts_with('\n') {
            self.advance();
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Wrong> {
        loop {
            let rest = self.text.trim_start();
            while self.text.len() > rest.len() {
                self.advance();
            }
            if rest.starts_with("//") || (rest.starts_with('#') && self.place.column == 1) {
                self.skip_line();
            } else if rest.starts_with("/*") {
                let begin = self.place;
                let Some(length) = rest.find("*/") else { return Err(Wrong::at(begin, "the comment has no end")) };
                while self.text.len() > rest.len() - length - 2 {
                    self.advance();
                }
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<(Token, Place), Wrong> {
        self.skip_blanks()?;
        let place = self.place;
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let Some(c) = self.text.chars().next() else { return Ok((Token::End, place)) };
        let is_number = c == '-' && self.text[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let token = if self.text.starts_with("->") || self.text.starts_with("--") {
            self.advance();
            if self.advance() == Some('>') { Token::Arrow } else { Token::Line }
        } else if c == '"' {
            Token::Word(self.quoted(place)?, true)
        } else if c == '<' {
            Token::Word(self.markup(place)?, true)
        } else if is_word(c) || is_number {
            let mut word = String::new();
            while let Some(c) = self.text.chars().next() {
                // The sign of an exponent, in a number.
                let is_sign = matches!(c, '+' | '-')
                    && word.ends_with(['e', 'E'])
                    && word.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '.'))
                    && !self.text.starts_with("->");
                if !(is_word(c) || is_sign || (word.is_empty() && c == '-')) {
                    break;
                }
                word.push(c);
                self.advance();
            }
            Token::Word(word, false)
        } else if "{}[];,=:".contains(c) {
            self.advance();
            Token::Sign(c)
        } else {
            return Err(Wrong::at(place, format_args!("`{}` has no meaning here", c.escape_default())));
        };
        Ok((token, place))
    }

    fn quoted(&mut self, begin: Place) -> Result<String, Wrong> {
        self.advance();
        let mut text = String::new();
        loop {
            match self.advance() {
                None => return Err(Wrong::at(begin, "the text has no end")),
                Some('"') => return Ok(text),
                Some('\\') if self.text.starts_with('"') => text.extend(self.advance()),
                Some('\\') if self.text.starts_with('\n') => drop(self.advance()),
                Some(c) => text.push(c),
            }
        }
    }

    /// A label in markup, with all that is in it.
    fn markup(&mut self, begin: Place) -> Result<String, Wrong> {
        let (mut text, mut depth) = (String::new(), 0_usize);
        loop {
            let Some(c) = self.advance() else { return Err(Wrong::at(begin, "the markup has no end")) };
            match c {
                '<' => depth += 1,
                '>' => depth -= 1,
                _ => {}
            }
            text.push(c);
            if depth == 0 {
                return Ok(text);
            }
        }
    }
}

/// Attributes with where each stands.
type Attributes = BTreeMap<String, (String, Place)>;

/// What nodes and edges have that say nothing themselves.
#[derive(Clone, Default)]
struct Defaults {
    node: Attributes,
    edge: Attributes,
}

struct Node {
    name: String,
    place: Place,
    attributes: Attributes,
    /// Those that held when it was first named.
    defaults: Attributes,
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    token: Token,
    place: Place,
    nodes: Vec<Node>,
    numbers: BTreeMap<String, usize>,
    edges: Vec<(usize, usize, Attributes)>,
}

impl Reader<'_> {
    fn advance(&mut self) -> Result<Token, Wrong> {
        let (token, place) = self.scanner.next()?;
        self.place = place;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is_sign(&self, sign: char) -> bool {
        self.token == Token::Sign(sign)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.token, Token::Word(word, false) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_sign(&mut self, sign: char) -> Result<bool, Wrong> {
        let is_there = self.is_sign(sign);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn expected(&self, what: &str) -> Wrong {
        Wrong::at(self.place, format_args!("there is {}, and {what} was expected", self.token))
    }

    fn word(&mut self, what: &str) -> Result<String, Wrong> {
        if !matches!(self.token, Token::Word(..)) {
            return Err(self.expected(what));
        }
        match self.advance()? {
            Token::Word(word, _) => Ok(word),
            _ => unreachable!("it was looked at"),
        }
    }

    fn graph(&mut self) -> Result<(), Wrong> {
        if self.is_keyword("strict") {
            self.advance()?;
        }
        if self.is_keyword("graph") {
            return Err(Wrong::at(self.place, "the edges of a `graph` have no direction; what depends on what is a `digraph`"));
        }
        if !self.is_keyword("digraph") {
            return Err(self.expected("`digraph`"));
        }
        self.advance()?;
        if matches!(self.token, Token::Word(..)) {
            self.advance()?;
        }
        if !self.take_sign('{')? {
            return Err(self.expected("`{`"));
        }
        self.statements(Defaults::default(), 0)?;
        if self.token != Token::End {
            return Err(self.expected("nothing more"));
        }
        Ok(())
    }

    /// All up to the brace that closes them.
    fn statements(&mut self, mut defaults: Defaults, depth: usize) -> Result<(), Wrong> {
        while !self.take_sign('}')? {
            if self.take_sign(';')? {
                continue;
            }
            if self.token == Token::End {
                return Err(self.expected("`}`"));
            }
            if self.is_keyword("subgraph") || self.is_sign('{') {
                self.subgraph(&defaults, depth)?;
                continue;
            }
            let keyword = ["node", "edge", "graph"].into_iter().find(|keyword| self.is_keyword(keyword));
            if let Some(keyword) = keyword {
                self.advance()?;
                let attributes = self.attributes()?;
                match keyword {
                    "node" => defaults.node.extend(attributes),
                    "edge" => defaults.edge.extend(attributes),
                    _ => {}
                }
                continue;
            }
            let place = self.place;
            let name = self.word("a node, an edge or `}`")?;
            if self.take_sign('=')? {
                self.word("a value")?;
                continue;
            }
            self.node_or_edges(name, place, &defaults)?;
        }
        Ok(())
    }

    fn subgraph(&mut self, defaults: &Defaults, depth: usize) -> Result<(), Wrong> {
        if depth == DEEPEST {
            return Err(Wrong::at(self.place, format_args!("subgraphs lie in each other more than {DEEPEST} deep")));
        }
        if self.is_keyword("subgraph") {
            self.advance()?;
            if matches!(self.token, Token::Word(..)) {
                self.advance()?;
            }
        }
        if !self.take_sign('{')? {
            return Err(self.expected("`{`"));
        }
        self.statements(defaults.clone(), depth + 1)?;
        match self.token {
            Token::Arrow => Err(Wrong::at(self.place, "edges from and to whole subgraphs are not read; name the nodes")),
            _ => Ok(()),
        }
    }

    fn node_or_edges(&mut self, name: String, place: Place, defaults: &Defaults) -> Result<(), Wrong> {
        let mut way = vec![self.node(name, place, defaults)?];
        loop {
            match self.token {
                Token::Arrow => {
                    self.advance()?;
                    if self.is_keyword("subgraph") || self.is_sign('{') {
                        return Err(Wrong::at(self.place, "edges from and to whole subgraphs are not read; name the nodes"));
                    }
                    let place = self.place;
                    let name = self.word("the node that the edge goes to")?;
                    way.push(self.node(name, place, defaults)?);
                }
                Token::Line => return Err(Wrong::at(self.place, "an edge with a direction is `->`")),
                _ => break,
            }
        }
        let attributes = self.attributes()?;
        if let [node] = way[..] {
            let node = &mut self.nodes[node];
            for (name, (value, place)) in attributes {
                if let Some((before, at)) = node.attributes.get(&name)
                    && (WORKS.contains(&name.as_str()) || CODES.contains(&name.as_str()))
                    && *before != value
                {
                    return Err(Wrong::at(place, format_args!("`{}` has a `{name}` already, in {at}", node.name)));
                }
                node.attributes.insert(name, (value, place));
            }
            return Ok(());
        }
        for pair in way.windows(2) {
            let mut all = defaults.edge.clone();
            all.extend(attributes.clone());
            self.edges.push((pair[0], pair[1], all));
        }
        Ok(())
    }

    /// The number of a node, which is new if it was not named before. Where at a node an edge ends is for those who draw.
    fn node(&mut self, name: String, place: Place, defaults: &Defaults) -> Result<usize, Wrong> {
        while self.take_sign(':')? {
            self.word("a port")?;
        }
        if let Some(number) = self.numbers.get(&name) {
            return Ok(*number);
        }
        let number = self.nodes.len();
        self.nodes.push(Node { name: name.clone(), place, attributes: Attributes::new(), defaults: defaults.node.clone() });
        self.numbers.insert(name, number);
        Ok(number)
    }

    /// `[a=1, b=2; c=3] [d=4]`, or nothing.
    fn attributes(&mut self) -> Result<Attributes, Wrong> {
        let mut attributes = Attributes::new();
        while self.take_sign('[')? {
            while !self.take_sign(']')? {
                let place = self.place;
                let name = self.word("an attribute or `]`")?;
                let value = if self.take_sign('=')? { self.word("a value")? } else { "true".into() };
                if let Some((_, before)) = attributes.insert(name.clone(), (value, place)) {
                    return Err(Wrong::at(place, format_args!("there is a `{name}` already, in {before}")));
                }
                if !self.take_sign(',')? {
                    self.take_sign(';')?;
                }
            }
        }
        Ok(attributes)
    }
}

/// What says how long a task takes; the last one in nanoseconds, the others in seconds.
const WORKS: [&str; 4] = ["work", "weight", "runtime", "work_ns"];
const CODES: [&str; 2] = ["code", "kind"];
const BYTES: [&str; 2] = ["bytes", "size"];

/// The one of some attributes that is there.
fn one<'a>(names: &'static [&'static str], attributes: &'a Attributes) -> Result<Option<(&'static str, &'a str, Place)>, Wrong> {
    let mut found = names.iter().filter_map(|name| attributes.get(*name).map(|(value, place)| (*name, value.as_str(), *place)));
    let first = found.next();
    match (first, found.next()) {
        (Some((name, ..)), Some((other, _, place))) => {
            Err(Wrong::at(place, format_args!("there are a `{name}` and a `{other}`; one says it")))
        }
        _ => Ok(first),
    }
}

fn work_ns(node: &Node, options: ReadOptions) -> Result<u64, Wrong> {
    let own = one(&WORKS, &node.attributes)?;
    let found = if own.is_some() { own } else { one(&WORKS, &node.defaults)? };
    let Some((field, value, place)) = found else {
        return Err(Wrong::at(
            node.place,
            format_args!(
                "node `{}` does not say how long it takes: `{} [work=SECONDS]`, or `node [work=SECONDS]` for all",
                node.name, node.name
            ),
        ));
    };
    let wrong = |reason: &dyn fmt::Display| Wrong::at(place, format_args!("node `{}`: {field}: {reason}", node.name));
    let number: f64 = value.parse().map_err(|_| wrong(&format_args!("`{value}` is no number")))?;
    let seconds = if field == "work_ns" { number / 1e9 } else { number };
    options.nanoseconds(seconds).map_err(|reason| wrong(&reason))
}

fn processors(node: &Node) -> Result<u32, Wrong> {
    let Some((value, place)) = node.attributes.get("processors").or_else(|| node.defaults.get("processors")) else { return Ok(1) };
    let count = value.parse().ok().filter(|count| (1..=MOST_PROCESSORS).contains(count));
    count.ok_or_else(|| {
        Wrong::at(*place, format_args!("node `{}`: processors: `{value}` is no whole number from 1 to {MOST_PROCESSORS}", node.name))
    })
}

fn bytes(from: &str, to: &str, attributes: &Attributes) -> Result<u64, Wrong> {
    let Some((field, value, place)) = one(&BYTES, attributes)? else { return Ok(0) };
    let wrong = |reason: &dyn fmt::Display| Wrong::at(place, format_args!("edge `{from}` to `{to}`: {field}: {reason}"));
    let number: f64 = value.parse().map_err(|_| wrong(&format_args!("`{value}` is no number")))?;
    if !(0.0..=MOST_BYTES).contains(&number) {
        return Err(wrong(&format_args!("{value} is no number of bytes between 0 and {MOST_BYTES:e}")));
    }
    Ok(value.parse().unwrap_or(number.round() as u64))
}

pub(super) fn read(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let start = Place { line: 1, column: 1 };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        scanner: Scanner { text, place: start },
        token: Token::End,
        place: start,
        nodes: Vec::new(),
        numbers: BTreeMap::new(),
        edges: Vec::new(),
    };
    reader.advance()?;
    reader.graph()?;
    let mut builder = WorkloadBuilder::new(name);
    for node in &reader.nodes {
        let code = one(&CODES, &node.attributes)?.or(one(&CODES, &node.defaults)?).map_or("task", |(_, code, _)| code);
        let number = builder.task(&node.name, code, work_ns(node, options)?);
        builder.processors(number, processors(node)?);
    }
    for (from, to, attributes) in &reader.edges {
        builder.edge(*from, *to, bytes(&reader.nodes[*from].name, &reader.nodes[*to].name, attributes)?);
    }
    if builder.is_empty() {
        return Err(Wrong::whole("there is no node in it"));
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrong(text: &str) -> String {
        read("g", text, ReadOptions::default()).unwrap_err().shown()
    }

    #[test]
    fn nodes_are_tasks_and_edges_have_bytes() {
        let text = r#"/* a
            graph */ strict digraph "my graph" {
            rankdir = LR; graph [fontsize=9]
            node [work=0.5 kind=common shape=box];
            a [work=1e-3, code=first label="x -> y"]; // its own
# a line for another program
            "b 1" [work_ns=7, label=<<b>bold</b>>]
            a:n -> "b 1":s:w -> c [bytes=12]
            subgraph cluster_1 { edge [size=3.2e1]; a -> c; { d } }
        }"#;
        let workload = read("g", text, ReadOptions::default()).unwrap();
        let tasks: Vec<_> = (0..4).map(|task| (workload.task_name(task), workload.work_ns(task), workload.code(task))).collect();
        assert_eq!(tasks, [("a", 1_000_000, 0), ("b 1", 7, 1), ("c", 500_000_000, 1), ("d", 500_000_000, 1)]);
        assert_eq!(workload.code_names(), ["first", "common"]);
        let edges: Vec<_> = (0..4).flat_map(|task| workload.edges_in(task)).map(|(from, edge)| (from, workload.bytes(edge))).collect();
        assert_eq!(edges, [(0, 12), (0, 32), (1, 12)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, said) in [
            ("", "line 1, column 1: there is the end of the file, and `digraph` was expected"),
            ("graph { a -- b }", "line 1, column 1: the edges of a `graph` have no direction; what depends on what is a `digraph`"),
            ("digraph {\n a -- b }", "line 2, column 4: an edge with a direction is `->`"),
            ("digraph {}", ": there is no node in it"),
            ("digraph {\n a [work=1]", "line 2, column 12: there is the end of the file, and `}` was expected"),
            ("digraph { a [work=1] } x", "line 1, column 24: there is `x`, and nothing more was expected"),
            ("digraph { a [work=-1] }", "line 1, column 14: node `a`: work: -1 s is negative"),
            ("digraph { a [runtime=nan] }", "line 1, column 14: node `a`: runtime: NaN is no time"),
            ("digraph { a [weight=x] }", "line 1, column 14: node `a`: weight: `x` is no number"),
            ("digraph { a [work_ns=1e99] }", "line 1, column 14: node `a`: work_ns: "),
            ("digraph { a [work=1, processors=0] }", "line 1, column 22: node `a`: processors: `0` is no whole number from 1 to 255"),
            (
                "digraph {\n a -> b [bytes=-2]; node [work=1] }",
                "line 2, column 2: node `a` does not say how long it takes: `a [work=SECONDS]`",
            ),
            (
                "digraph { node [work=1]\n a -> b [bytes=-2] }",
                "line 2, column 10: edge `a` to `b`: bytes: -2 is no number of bytes between 0 and 1e18",
            ),
            ("digraph { node [work=1] a -> b [size=NaN] }", "line 1, column 33: edge `a` to `b`: size: NaN is no number of bytes"),
            ("digraph { a [work=1]\n a [work=2] }", "line 2, column 5: `a` has a `work` already, in line 1, column 14"),
            ("digraph { a [work=1, work=1] }", "line 1, column 22: there is a `work` already, in line 1, column 14"),
            ("digraph { a [work=1, weight=1] }", "line 1, column 22: there are a `work` and a `weight`; one says it"),
            ("digraph { node [work=1] a -> b -> a }", ": tasks depend on each other in a circle: "),
            ("digraph { node [work=1] a -> { b c } }", "line 1, column 30: edges from and to whole subgraphs are not read"),
            ("digraph { \"a", "line 1, column 11: the text has no end"),
            ("digraph { /* ", "line 1, column 11: the comment has no end"),
            ("digraph { a ? }", "line 1, column 13: `?` has no meaning here"),
        ] {
            assert!(wrong(text).starts_with(said), "{text}: {}", wrong(text));
        }
        assert!(wrong(&format!("digraph {}", "{".repeat(1_000_000))).contains("more than 64 deep"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(digraph|strict| |\\{|\\}|\\[|\\]|a|b|->|--|=|;|,|:|\"|<|>|work|1|-|e5|\n|#|//|/\\*|é){0,40}") {
            let _ = read("g", &text, ReadOptions::default());
        }
    }
}
