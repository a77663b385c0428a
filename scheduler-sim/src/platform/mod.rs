//! What tasks run on: processors, the memory spaces that they work in, and what lies between those.

mod calibrated;
mod file;

use std::collections::BTreeMap;
use std::fmt;

use crate::network::Sharing;

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
    /// The process that it is in; that of the program is 0.
    pub process: u32,
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

/// A link with a name, over which routes lead.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLink {
    /// What it is called.
    pub name: String,
    /// What it gives.
    pub link: SimLink,
    /// Whether its two directions have nothing to do with each other; else they share what it gives.
    pub is_full_duplex: bool,
}

/// A link of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its index in [`Platform::links`].
    pub link: usize,
    /// Whether it is crossed against its own direction.
    pub is_back: bool,
}

/// What else a task costs but its work and its data, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overheads {
    /// The program takes so long to submit a task; it does so one after the other, in their order.
    pub submit_ns: u64,
    /// A processor takes so long to get a task from the scheduler.
    pub dispatch_ns: u64,
    /// A task takes so much longer in another process than the program's.
    pub hop_ns: u64,
    /// And so much on a processor that is not of kind `cpu`.
    pub launch_ns: u64,
    /// And for each block that it allocates: what it needs of another memory space, and what it returns if that has bytes.
    pub allocation_ns: u64,
}

impl Overheads {
    /// The names of the fields, as in files and on the command line.
    pub const NAMES: [&str; 5] = ["submit", "dispatch", "hop", "launch", "allocation"];

    fn fields(&mut self) -> [&mut u64; 5] {
        [&mut self.submit_ns, &mut self.dispatch_ns, &mut self.hop_ns, &mut self.launch_ns, &mut self.allocation_ns]
    }

    /// Those with these names; the others are 0.
    ///
    /// # Errors
    /// None is called that: the name.
    pub fn only<'n>(mut self, names: &[&'n str]) -> Result<Self, &'n str> {
        if let Some(name) = names.iter().find(|name| !Self::NAMES.contains(name)) {
            return Err(name);
        }
        for (field, name) in self.fields().into_iter().zip(Self::NAMES) {
            *field *= u64::from(names.contains(&name));
        }
        Ok(self)
    }
}

/// What a task of some code takes on some processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// In the mean at speed 1, in nanoseconds.
    pub mean_ns: u64,
    /// The standard deviation, in nanoseconds.
    pub spread_ns: u64,
}

/// The machine of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    processors: Vec<SimProcessor>,
    spaces: Vec<String>,
    /// How many bytes each space holds, if that is limited.
    memories: Vec<Option<u64>>,
    link: SimLink,
    /// Those between two spaces that are not like the others.
    between: BTreeMap<(usize, usize), SimLink>,
    sharing: Sharing,
    links: Vec<NamedLink>,
    routes: BTreeMap<(usize, usize), Vec<Hop>>,
    /// Of each space the link that leads to it, if one does.
    ways_in: Vec<Option<usize>>,
    overheads: Overheads,
    /// By code, then by kind or name of a processor.
    costs: BTreeMap<String, BTreeMap<String, Cost>>,
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
    Ok(SimLink { latency_ns: checked_ns(format_args!("{place}.latency"), latency)?, bytes_per_s: bandwidth })
}

fn checked_ns(place: impl fmt::Display, seconds: f64) -> Result<u64, PlatformError> {
    if !(0.0..=1e6).contains(&seconds) {
        return Err(error(place, format_args!("{seconds} is no time in seconds between 0 and 1e6")));
    }
    Ok((seconds * 1e9).round() as u64)
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
            processors.push(SimProcessor { name: format!("p{index}"), kind: "cpu".into(), speed, space: index, process: 0 });
        }
        let link = bytes_per_s.map_or(Ok(SimLink::NONE), |bandwidth| checked_link("link", bandwidth, 0.0))?;
        Ok(Self::plain(processors, (0..speeds.len()).map(|index| format!("space-{index}")).collect(), link))
    }

    /// Nothing is shared, limited or in the way.
    fn plain(processors: Vec<SimProcessor>, spaces: Vec<String>, link: SimLink) -> Self {
        let (memories, ways_in) = (vec![None; spaces.len()], vec![None; spaces.len()]);
        Self {
            processors,
            spaces,
            memories,
            link,
            between: BTreeMap::new(),
            sharing: Sharing::None,
            links: Vec::new(),
            routes: BTreeMap::new(),
            ways_in,
            overheads: Overheads::default(),
            costs: BTreeMap::new(),
        }
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

    /// What lies between two different spaces: the slowest link of the route and the latencies of all.
    #[must_use]
    pub fn link(&self, from: usize, to: usize) -> SimLink {
        let hops = self.route(from, to);
        if hops.is_empty() {
            return self.between.get(&(from, to)).copied().unwrap_or(self.link);
        }
        hops.iter().map(|hop| self.links[hop.link].link).fold(SimLink::NONE, |all, link| SimLink {
            latency_ns: all.latency_ns + link.latency_ns,
            bytes_per_s: all.bytes_per_s.min(link.bytes_per_s),
        })
    }

    /// The named links between two different spaces, in order. None where the two have a link for themselves.
    #[must_use]
    pub fn route(&self, from: usize, to: usize) -> Vec<Hop> {
        if let Some(hops) = self.routes.get(&(from, to)) {
            return hops.clone();
        }
        if let Some(hops) = self.routes.get(&(to, from)) {
            return hops.iter().rev().map(|hop| Hop { is_back: !hop.is_back, ..*hop }).collect();
        }
        let out = self.ways_in[from].map(|link| Hop { link, is_back: true });
        out.into_iter().chain(self.ways_in[to].map(|link| Hop { link, is_back: false })).collect()
    }

    /// The links that have names.
    #[must_use]
    pub fn links(&self) -> &[NamedLink] {
        &self.links
    }

    /// How transfers at the same time share links.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The same with another way to share links.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// How many bytes a space holds, if that is limited.
    #[must_use]
    pub fn memory(&self, space: usize) -> Option<u64> {
        self.memories[space]
    }

    /// What tasks cost besides.
    #[must_use]
    pub fn overheads(&self) -> Overheads {
        self.overheads
    }

    /// The same with other overheads.
    #[must_use]
    pub fn with_overheads(self, overheads: Overheads) -> Self {
        Self { overheads, ..self }
    }

    /// What tasks of a code take at speed 1 on a processor, where that is not their work: `None` inside if they do not run there.
    #[must_use]
    pub fn cost(&self, code: &str, processor: usize) -> Option<Option<Cost>> {
        let costs = self.costs.get(code)?;
        let SimProcessor { name, kind, .. } = &self.processors[processor];
        Some(costs.get(name).or_else(|| costs.get(kind)).copied())
    }

    /// Whether two processors take the same time for every task, and have the same memory for it.
    #[must_use]
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        let memory = |processor: usize| self.memories[self.processors[processor].space];
        memory(one) == memory(other)
            && self.processors[one].speed == self.processors[other].speed
            && self.costs.keys().all(|code| self.cost(code, one) == self.cost(code, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_make_processors_with_memories_of_their_own() {
        let platform = Platform::of_speeds(&[1.0, 2.0], Some(2_000.0)).unwrap();
        assert_eq!(platform.processors()[1], SimProcessor { name: "p1".into(), kind: "cpu".into(), speed: 2.0, space: 1, process: 0 });
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
    fn routes_lead_over_links_with_names() {
        let text = "[link]\nbandwidth = 1e9\n[[processor]]\nspace = 'host'\n[[processor]]\nkind = 'gpu'\ncount = 3\n[network]\nsharing = 'max-min'\n\
            [[network.link]]\nname = 'a'\nbandwidth = 4e9\nlatency = 1e-6\nspace = 'gpu-0'\n\
            [[network.link]]\nname = 'b'\nbandwidth = 2e9\nlatency = 2e-6\nspace = 'gpu-1'\nduplex = 'half'\n\
            [[network.route]]\nfrom = 'host'\nto = 'gpu-2'\nlinks = ['a', '-b']\n[[space]]\nname = 'gpu-1'\nmemory = 1e6\n";
        let platform = Platform::from_toml(text).unwrap();
        let shown = |from: usize, to: usize| {
            let hops = platform.route(from, to).into_iter();
            hops.map(|hop| format!("{}{}", if hop.is_back { "-" } else { "" }, platform.links()[hop.link].name))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!([shown(0, 1), shown(1, 0), shown(1, 2), shown(2, 1)], ["a", "-a", "-a b", "-b a"]);
        assert_eq!([shown(0, 3), shown(3, 0), shown(3, 1)], ["a -b", "b -a", "a"]);
        assert_eq!(platform.link(1, 2), SimLink { latency_ns: 3000, bytes_per_s: 2e9 });
        assert_eq!((platform.memory(1), platform.memory(2), platform.sharing()), (None, Some(1_000_000), Sharing::MaxMin));
    }

    /// The example of the documentation is one.
    #[test]
    fn the_example_is_read() {
        let source = include_str!("file.rs");
        let lines = source.lines().skip_while(|line| !line.ends_with("/// ```toml")).skip(1);
        let text: String = lines
            .take_while(|line| !line.ends_with("/// ```"))
            .map(|line| line.trim_start().trim_start_matches("///").to_owned() + "\n")
            .collect();
        let platform = Platform::from_toml(&text).unwrap();
        assert_eq!(platform.processors().len(), 6);
        assert_eq!(platform.overheads().launch_ns, 10_000);
        let cost = |processor: usize| platform.cost("gemm", processor).unwrap().map(|cost| cost.mean_ns);
        assert_eq!([cost(0), cost(4)], [None, Some(1_000_000)]);
    }

    #[test]
    fn measurements_are_a_platform() {
        let text = r#"{"memory_nodes": ["host", "gpu"], "bandwidth_MB_per_s": [[0, 1000], [2000, 0]], "latency_us": [[0, 5], [6, 0]], "workers": [
            {"name": "cpu0", "kind": "cpu", "memory_node": 0, "kernels": {"gemm": {"mean_us": 100, "stddev_us": 3, "samples": 4}}},
            {"name": "cuda0", "kind": "gpu", "memory_node": 1, "kernels": {"gemm": {"mean_us": 2.5}}}]}"#;
        let platform = Platform::from_measurements(text).unwrap();
        assert_eq!([platform.link(0, 1).time_ns(1000), platform.link(1, 0).time_ns(1000)], [6000, 6500]);
        let costs = [0, 1].map(|processor| platform.cost("gemm", processor).unwrap().unwrap());
        assert_eq!(costs, [Cost { mean_ns: 100_000, spread_ns: 3000 }, Cost { mean_ns: 2500, spread_ns: 0 }]);
        assert_eq!(platform.cost("potrf", 0), None);
        let wrong = |from: &str, to: &str| Platform::from_measurements(&text.replace(from, to)).unwrap_err().to_string();
        assert_eq!(wrong("\"memory_node\": 1", "\"memory_node\": 2"), "workers[1].memory_node: 2 is none of 2 memory nodes");
        assert_eq!(wrong("[2000, 0]", "[]"), "bandwidth_MB_per_s[1][0]: it is missing");
        assert!(wrong("\"mean_us\": 2.5", "\"mean_us\": -1").starts_with("workers[1].kernels.gemm.mean_us: "));
        assert!(wrong("\"kind\": \"gpu\",", "").starts_with("line 3: missing field `kind`"));
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
        let wrong = |more: &str| Platform::from_toml(&format!("[[processor]]\nspace = 'host'\n{more}")).unwrap_err().to_string();
        let link = "[[network.link]]\nname = 'a'\nbandwidth = 1\n";
        assert_eq!(wrong("[network]\nsharing = 'fair'"), "network.sharing: `fair` is none of none, max-min, queue");
        assert_eq!(wrong(&format!("{link}duplex = 'both'")), "network.link[0].duplex: `both` is none of full, half");
        assert_eq!(wrong(&format!("{link}space = 'b'")), "network.link[0].space: there is no space `b`; there are host");
        assert_eq!(wrong(&format!("{link}{link}")), "network.link[1].name: `a` is the name of another one, or begins with `-`");
        let route = "[[processor]]\n[[network.route]]\nfrom = 'host'\nto = 'cpu-1'\nlinks = ";
        assert_eq!(wrong(&format!("{link}{route}['b']")), "network.route[0].links: `b` is none of a");
        assert_eq!(
            wrong("[[space]]\nname = 'host'\nmemory = 1e9"),
            "space: every space has a limit; what gives way in one needs another one without"
        );
        assert_eq!(wrong("[[space]]\nname = 'host'\nmemory = -1"), "space[0].memory: -1 is no number of bytes between 0 and 1e18");
        assert_eq!(wrong("[overheads]\nhop = -1"), "overheads.hop: -1 is no time in seconds between 0 and 1e6");
        assert_eq!(wrong("[[cost]]\ncode = 'a'\nkind = 'gpu'\nmean = 1"), "cost[0].kind: no processor is of kind `gpu` or called that");
        assert_eq!(Platform::of_speeds(&[], None).unwrap_err().to_string(), "speeds: there is no processor");
        assert_eq!(Platform::of_speeds(&[-1.0], None).unwrap_err().to_string(), "speeds[0]: -1 is no speed between 1e-6 and 1e9");
    }
}
