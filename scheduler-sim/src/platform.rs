//! What tasks run on: processors, the memory spaces that they work in, and what lies between those.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The most processors that a platform has.
pub const MOST_PROCESSORS: usize = 65_536;

/// One processor.
#[derive(Clone, Debug, PartialEq)]
pub struct SimProcessor {
    /// What it is called.
    pub name: String,
    /// Its kind: processors of one kind take the same time for a task.
    pub kind: String,
    /// How many times as fast as a processor of speed 1 it is.
    pub speed: f64,
    /// The memory space that it works in.
    pub space: usize,
}

/// What lies between two memory spaces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimLink {
    /// How long the first byte takes, in nanoseconds.
    pub latency_ns: u64,
    /// How many bytes a second follow; infinity where that costs nothing.
    pub bytes_per_s: f64,
}

impl SimLink {
    /// Everything is everywhere at once.
    pub const NONE: Self = Self { latency_ns: 0, bytes_per_s: f64::INFINITY };

    /// How long so many bytes take alone, in nanoseconds. No bytes take no time.
    #[must_use]
    pub fn time_ns(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let moving = bytes as f64 / self.bytes_per_s * 1e9;
        self.latency_ns.saturating_add(moving.round() as u64)
    }
}

/// The machine of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    processors: Vec<SimProcessor>,
    spaces: Vec<String>,
    link: SimLink,
    /// Those between two spaces that are not like the others.
    between: BTreeMap<(usize, usize), SimLink>,
}

/// Why there is no such platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformError {
    /// Where: a field, a line and a column.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for PlatformError {}

fn error(place: impl fmt::Display, reason: impl fmt::Display) -> PlatformError {
    PlatformError { place: place.to_string(), reason: reason.to_string() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    link: Option<LinkTable>,
    #[serde(default)]
    processor: Vec<ProcessorTable>,
    #[serde(default)]
    between: Vec<BetweenTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkTable {
    bandwidth: Option<f64>,
    #[serde(default)]
    latency: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessorTable {
    #[serde(default = "cpu")]
    kind: String,
    #[serde(default = "one")]
    count: u64,
    #[serde(default = "unit")]
    speed: f64,
    space: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BetweenTable {
    from: String,
    to: String,
    bandwidth: f64,
    #[serde(default)]
    latency: f64,
}

fn cpu() -> String {
    "cpu".into()
}

fn one() -> u64 {
    1
}

fn unit() -> f64 {
    1.0
}

fn checked_speed(place: impl fmt::Display, speed: f64) -> Result<f64, PlatformError> {
    if speed.is_finite() && (1e-6..=1e9).contains(&speed) {
        Ok(speed)
    } else {
        Err(error(place, format_args!("{speed} is no speed between 1e-6 and 1e9")))
    }
}

fn checked_link(place: &str, bandwidth: f64, latency: f64) -> Result<SimLink, PlatformError> {
    if bandwidth.is_nan() || bandwidth <= 0.0 {
        return Err(error(format_args!("{place}.bandwidth"), format_args!("{bandwidth} is no number of bytes per second above 0")));
    }
    if !latency.is_finite() || !(0.0..=1e6).contains(&latency) {
        return Err(error(format_args!("{place}.latency"), format_args!("{latency} is no time in seconds between 0 and 1e6")));
    }
    Ok(SimLink { latency_ns: (latency * 1e9).round() as u64, bytes_per_s: bandwidth })
}

impl Platform {
    /// Processors of these speeds, each with a memory space of its own, and so many bytes a second between any two; without a number data is everywhere at once.
    ///
    /// # Errors
    /// There is no processor, or a number is out of range.
    pub fn of_speeds(speeds: &[f64], bytes_per_s: Option<f64>) -> Result<Self, PlatformError> {
        if speeds.is_empty() {
            return Err(error("speeds", "there is no processor"));
        }
        if speeds.len() > MOST_PROCESSORS {
            return Err(error("speeds", format_args!("there are more than {MOST_PROCESSORS} processors")));
        }
        let mut processors = Vec::new();
        for (index, speed) in speeds.iter().enumerate() {
            let speed = checked_speed(format_args!("speeds[{index}]"), *speed)?;
            processors.push(SimProcessor { name: format!("p{index}"), kind: "cpu".into(), speed, space: index });
        }
        let link = bytes_per_s.map_or(Ok(SimLink::NONE), |bandwidth| checked_link("link", bandwidth, 0.0))?;
        Ok(Self { spaces: (0..speeds.len()).map(|index| format!("space-{index}")).collect(), processors, link, between: BTreeMap::new() })
    }

    /// The platform that a TOML text describes:
    ///
    /// ```toml
    /// [link]                  # between any two memory spaces
    /// bandwidth = 12.5e9      # bytes per second; without it data is everywhere at once
    /// latency = 10e-6         # seconds; 0 if it is not there
    ///
    /// [[processor]]
    /// kind = "cpu"            # `cpu` if it is not there
    /// count = 4               # 1
    /// speed = 1.0             # 1; work takes that many times less
    /// space = "host"          # without it each has a space of its own
    ///
    /// [[between]]             # where two spaces differ from the others, in this direction
    /// from = "host"
    /// to = "gpu"
    /// bandwidth = 25e9
    /// latency = 5e-6
    /// ```
    ///
    /// # Errors
    /// The text is no TOML, or a field is missing, unknown or out of range.
    pub fn from_toml(text: &str) -> Result<Self, PlatformError> {
        let file: File = toml::from_str(text).map_err(|wrong| {
            let at = wrong.span().map_or(0, |span| span.start).min(text.len());
            let line = text[..at].matches('\n').count() + 1;
            error(format_args!("line {line}"), wrong.message())
        })?;
        let link = match file.link {
            Some(LinkTable { bandwidth, latency }) => checked_link("link", bandwidth.unwrap_or(f64::INFINITY), latency)?,
            None => SimLink::NONE,
        };
        let (mut processors, mut spaces) = (Vec::new(), Vec::<String>::new());
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for (index, table) in file.processor.iter().enumerate() {
            let speed = checked_speed(format_args!("processor[{index}].speed"), table.speed)?;
            if table.count > (MOST_PROCESSORS - processors.len()) as u64 {
                return Err(error(
                    format_args!("processor[{index}].count"),
                    format_args!("there are more than {MOST_PROCESSORS} processors"),
                ));
            }
            for _ in 0..table.count {
                let number = kinds.entry(table.kind.clone()).or_default();
                let name = format!("{}-{number}", table.kind);
                *number += 1;
                let wanted = table.space.clone().unwrap_or_else(|| name.clone());
                let space = *numbers.entry(wanted.clone()).or_insert_with(|| {
                    spaces.push(wanted);
                    spaces.len() - 1
                });
                processors.push(SimProcessor { name, kind: table.kind.clone(), speed, space });
            }
        }
        if processors.is_empty() {
            return Err(error("processor", "there is no processor"));
        }
        let mut between = BTreeMap::new();
        for (index, table) in file.between.iter().enumerate() {
            let space = |name: &str, field: &str| {
                let known = || spaces.join(", ");
                numbers.get(name).copied().ok_or_else(|| {
                    error(format_args!("between[{index}].{field}"), format_args!("there is no space `{name}`; there are {}", known()))
                })
            };
            let pair = (space(&table.from, "from")?, space(&table.to, "to")?);
            between.insert(pair, checked_link(&format!("between[{index}]"), table.bandwidth, table.latency)?);
        }
        Ok(Self { processors, spaces, link, between })
    }

    /// The processors.
    #[must_use]
    pub fn processors(&self) -> &[SimProcessor] {
        &self.processors
    }

    /// The names of the memory spaces.
    #[must_use]
    pub fn spaces(&self) -> &[String] {
        &self.spaces
    }

    /// What lies between two different spaces.
    #[must_use]
    pub fn link(&self, from: usize, to: usize) -> SimLink {
        self.between.get(&(from, to)).copied().unwrap_or(self.link)
    }

    /// Whether all pairs of spaces are alike.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.between.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_make_processors_with_memories_of_their_own() {
        let platform = Platform::of_speeds(&[1.0, 2.0], Some(2_000.0)).unwrap();
        assert_eq!(platform.processors()[1], SimProcessor { name: "p1".into(), kind: "cpu".into(), speed: 2.0, space: 1 });
        assert_eq!(platform.link(0, 1).time_ns(3), 1_500_000);
        assert_eq!(Platform::of_speeds(&[1.0], None).unwrap().link(0, 0).time_ns(u64::MAX), 0);
    }

    #[test]
    fn a_text_describes_kinds_spaces_and_links() {
        let text = "[link]\nbandwidth = 1e9\nlatency = 1e-6\n[[processor]]\ncount = 2\nspace = 'host'\n[[processor]]\nkind = 'gpu'\nspeed = 8\n\
            [[between]]\nfrom = 'host'\nto = 'gpu-0'\nbandwidth = 2e9\n";
        let platform = Platform::from_toml(text).unwrap();
        let shown: Vec<_> = platform.processors().iter().map(|processor| (processor.name.as_str(), processor.space)).collect();
        assert_eq!(shown, [("cpu-0", 0), ("cpu-1", 0), ("gpu-0", 1)]);
        assert_eq!((platform.link(0, 1).time_ns(1000), platform.link(1, 0).time_ns(1000)), (500, 2000));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let wrong = |text: &str| Platform::from_toml(text).unwrap_err().to_string();
        assert_eq!(wrong(""), "processor: there is no processor");
        assert_eq!(wrong("[[processor]]\nspeed = 0"), "processor[0].speed: 0 is no speed between 1e-6 and 1e9");
        assert_eq!(wrong("[[processor]]\nspeed = nan"), "processor[0].speed: NaN is no speed between 1e-6 and 1e9");
        assert_eq!(wrong("[[processor]]\ncount = 100000"), "processor[0].count: there are more than 65536 processors");
        assert!(wrong("[[processor]]\nsped = 1").starts_with("line 2: unknown field `sped`"));
        assert_eq!(wrong("[link]\nbandwidth = 0\n[[processor]]"), "link.bandwidth: 0 is no number of bytes per second above 0");
        assert_eq!(
            wrong("[[processor]]\n[[between]]\nfrom = 'a'\nto = 'b'\nbandwidth = 1"),
            "between[0].from: there is no space `a`; there are cpu-0"
        );
        assert_eq!(Platform::of_speeds(&[], None).unwrap_err().to_string(), "speeds: there is no processor");
        assert_eq!(Platform::of_speeds(&[-1.0], None).unwrap_err().to_string(), "speeds[0]: -1 is no speed between 1e-6 and 1e9");
    }
}
