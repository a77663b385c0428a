//! What a measurement came to, as a line of a table or of JSON.

/// One system's figures in one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The benchmark's name.
    pub bench: &'static str,
    /// The case's name.
    pub case: &'static str,
    /// The system's name.
    pub system: &'static str,
    /// What the figures count.
    pub unit: &'static str,
    /// The least of all samples.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// How many there were.
    pub sample_count: usize,
    /// The minimum as a multiple of that of the first system of the case, where that is not nothing.
    pub ratio: Option<f64>,
    /// What else one has to know.
    pub note: String,
}

impl Figure {
    /// The heading of the table whose lines are [`row`](Self::row).
    pub fn heading() -> String {
        line(["case", "system", "min", "median", "unit", "ratio", "note"])
    }

    /// A line of the table.
    pub fn row(&self) -> String {
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("x{ratio:.2}"));
        line([self.case, self.system, &three_digits(self.min), &three_digits(self.median), self.unit, &ratio, &self.note])
    }

    /// One JSON object in one line.
    pub fn json(&self) -> String {
        let Self { bench, case, system, unit, min, median, sample_count, note, .. } = self;
        // Debug quotes and escapes a string, for plain text in the way of JSON.
        format!(
            r#"{{"bench":"{bench}","case":"{case}","system":"{system}","unit":"{unit}","min":{min:.3},"median":{median:.3},"samples":{sample_count},"note":{note:?}}}"#
        )
    }
}

/// Cells in their columns.
fn line([case, system, min, median, unit, ratio, note]: [&str; 7]) -> String {
    format!("{case:<19} {system:<17} {min:>8} {median:>8} {unit:<11} {ratio:>7}  {note}").trim_end().to_owned()
}

/// A number as exactly as it is worth reading.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        99.95.. => 0,
        9.995.. => 1,
        0.9995.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{Figure, three_digits};

    #[test]
    fn lines_have_all_that_was_measured() {
        let figure = Figure {
            bench: "overhead",
            case: "chain",
            system: "poniard-spawn",
            unit: "ns/task",
            min: 97.25,
            median: 1234.5678,
            sample_count: 9,
            ratio: Some(35.4),
            note: r#"2 workers, "quoted""#.into(),
        };
        assert_eq!(
            figure.json(),
            r#"{"bench":"overhead","case":"chain","system":"poniard-spawn","unit":"ns/task","min":97.250,"median":1234.568,"samples":9,"note":"2 workers, \"quoted\""}"#
        );
        assert_eq!(figure.row(), r#"chain               poniard-spawn         97.2     1235 ns/task      x35.40  2 workers, "quoted""#);
        let column = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        assert_eq!(column(&Figure::heading(), "ratio"), column(&figure.row(), "x35.40"));
        assert!(Figure { ratio: None, ..figure }.row().contains("ns/task           -  2"));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.0, 0.0123, 1.026, 9.996, 99.96, 27_941.4].map(three_digits), ["0.000", "0.012", "1.03", "10.0", "100", "27941"]);
    }
}
