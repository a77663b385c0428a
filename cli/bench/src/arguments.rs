//! What a benchmark is told on its command line: `[--json] [--quick] [CASE ...]`.

use crate::case::Effort;
use crate::figure::Figure;

/// What to measure, and how to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The names of the cases; nothing means all.
    cases: Vec<String>,
    /// Whether figures are JSON, one object a line.
    pub json: bool,
    /// How much time to spend.
    pub effort: Effort,
}

impl Arguments {
    /// Reads the arguments of a benchmark whose cases have these names.
    ///
    /// # Errors
    /// A text that names the case that is not there, and those that are.
    pub fn parse(arguments: impl Iterator<Item = String>, names: &[&str]) -> Result<Self, String> {
        let mut parsed = Self { cases: Vec::new(), json: false, effort: Effort::Thorough };
        for argument in arguments {
            match argument.as_str() {
                // From cargo.
                "--bench" => {}
                "--json" => parsed.json = true,
                "--quick" => parsed.effort = Effort::Quick,
                name if names.contains(&name) => parsed.cases.push(argument),
                name => return Err(format!("no case named {name}; there are {}", names.join(", "))),
            }
        }
        Ok(parsed)
    }

    /// Whether this case is to be measured.
    pub fn includes(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|name| name == case)
    }

    /// The line above the figures, if there is one.
    pub fn heading(&self) -> Option<String> {
        (!self.json).then(Figure::heading)
    }

    /// A line for a figure.
    pub fn line(&self, figure: &Figure) -> String {
        if self.json { figure.json() } else { figure.row() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(arguments.iter().map(|&argument| argument.to_owned()), &["one", "two"])
    }

    #[test]
    fn without_names_all_cases_are_measured() {
        let all = parse(&["--bench"]).unwrap();
        assert!(all.includes("one") && all.includes("two") && all.heading().is_some() && all.effort == Effort::Thorough);
        let some = parse(&["two", "--json", "--quick"]).unwrap();
        assert!(!some.includes("one") && some.includes("two") && some.heading().is_none() && some.effort == Effort::Quick);
        assert_eq!(parse(&["three"]).unwrap_err(), "no case named three; there are one, two");
    }
}
