//! What the user typed behind `poniard compare`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::options::{MachineOptions, RoundCosts, SimEngine};

/// The most seeds.
const SEEDS_MOST: u64 = 1_000_000;

/// `poniard compare`.
#[derive(Args, Debug)]
pub struct CompareOptions {
    /// The policies and planners, as in `poniard simulate`
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 1.., required = true)]
    pub policies: Vec<String>,

    /// The workloads, as in `poniard simulate`; random:50,seed=* is another graph for each seed
    #[arg(long, value_name = "LIST", num_args = 1.., required = true)]
    pub workloads: Vec<String>,

    /// The files with the platforms
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 1.., value_hint = ValueHint::FilePath, conflicts_with_all = ["speeds", "bandwidth"], required_unless_present = "speeds")]
    pub platforms: Vec<PathBuf>,

    /// The speeds of the processors of the only platform, each with a memory of its own
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub speeds: Option<Vec<f64>>,

    /// How many bytes a second go from any processor to any other [default: data is everywhere at once]
    #[arg(long, value_name = "BYTES", requires = "speeds")]
    pub bandwidth: Option<f64>,

    /// Where random numbers begin: numbers and ranges with both ends, 1..20 or 3,5,8..10
    #[arg(long, value_name = "RANGE", value_parser = Seeds::parse, default_value = "0")]
    pub seeds: Seeds,

    /// The policy that the others are compared with [default: the first one]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,

    /// Where to look for the plugin file of a policy first: a folder or a file; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// What runs a policy: the engine, or the whole runtime in virtual time, for machines where data is everywhere at once
    #[arg(long, value_enum, default_value = "board")]
    pub engine: SimEngine,

    /// Round recorded run times to whole milliseconds, halves to the even one
    #[arg(long, value_name = "UNIT")]
    pub round_costs: Option<RoundCosts>,

    /// What differs from the files.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Leave out what a policy cannot do, and say so, instead of an error
    #[arg(long)]
    pub skip_unable: bool,

    /// How many runs at a time [default: as many as the machine has processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Keep each result in this file, and do not run what it has already (a JSON object a line)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub results: Option<PathBuf>,

    /// Write a table with a line for each run (CSV)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub csv: Option<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Seeds, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// Them, in the order that they were given in.
    pub all: Vec<u64>,
    /// What the user has typed.
    pub text: String,
}

impl Seeds {
    /// Reads numbers and ranges with both ends, separated by commas.
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no whole number from 0 to {}", u64::MAX));
        let mut all = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once("..") {
                Some((first, last)) => (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?),
                None => (number(part)?, number(part)?),
            };
            if last < first {
                return Err(format!("`{part}` ends before it begins"));
            }
            if (last - first).saturating_add(all.len() as u64) >= SEEDS_MOST {
                return Err(format!("there are more than {SEEDS_MOST} seeds"));
            }
            all.extend(first..=last);
        }
        let mut sorted = all.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} is there twice", pair[0]));
        }
        Ok(Self { all, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Seeds;

    #[test]
    fn seeds_are_numbers_and_ranges_with_both_ends() {
        let all = |text: &str| Seeds::parse(text).map(|seeds| seeds.all);
        assert_eq!(all("1..4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(all("7"), Ok(vec![7]));
        assert_eq!(all("9,1..=2,18446744073709551615"), Ok(vec![9, 1, 2, u64::MAX]));
        for (text, said) in [
            ("20..1", "`20..1` ends before it begins"),
            ("", "`` is no whole number from 0 to 18446744073709551615"),
            ("1..", "`` is no whole number"),
            ("a..b", "`a` is no whole number"),
            ("-1", "`-1` is no whole number"),
            ("1..5,3", "3 is there twice"),
            ("0..18446744073709551615", "there are more than 1000000 seeds"),
        ] {
            assert!(all(text).unwrap_err().starts_with(said), "{text}: {:?}", all(text));
        }
    }
}
