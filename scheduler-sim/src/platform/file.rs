//! Platforms that TOML files describe.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::{
    Cost, Hop, MOST_PROCESSORS, NamedLink, Overheads, Platform, PlatformError, SimLink, SimProcessor, checked_link, checked_ns,
    checked_speed, error,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    link: Option<LinkTable>,
    #[serde(default)]
    processor: Vec<ProcessorTable>,
    #[serde(default)]
    between: Vec<BetweenTable>,
    #[serde(default)]
    space: Vec<SpaceTable>,
    #[serde(default)]
    network: NetworkTable,
    #[serde(default)]
    overheads: OverheadsTable,
    #[serde(default)]
    cost: Vec<CostTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpaceTable {
    name: String,
    memory: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    sharing: Option<String>,
    #[serde(default)]
    link: Vec<NamedLinkTable>,
    #[serde(default)]
    route: Vec<RouteTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedLinkTable {
    name: String,
    bandwidth: f64,
    #[serde(default)]
    latency: f64,
    duplex: Option<String>,
    space: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    from: String,
    to: String,
    links: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OverheadsTable {
    submit: f64,
    dispatch: f64,
    hop: f64,
    launch: f64,
    allocation: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CostTable {
    code: String,
    kind: String,
    mean: f64,
    #[serde(default)]
    spread: f64,
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
    #[serde(default)]
    process: u32,
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

/// What a file says by a name.
fn one_of<T: Copy>(place: impl fmt::Display, name: &str, known: &[(&str, T)]) -> Result<T, PlatformError> {
    known.iter().find(|(known, _)| *known == name).map(|(_, meant)| *meant).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        error(place, format_args!("`{name}` is none of {}", names.join(", ")))
    })
}

impl Platform {
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
    /// process = 0             # 0, the program's own; `overheads.hop` is for the others
    ///
    /// [[processor]]
    /// kind = "gpu"
    /// count = 2
    ///
    /// [[between]]             # where two spaces differ from the others, in this direction
    /// from = "host"
    /// to = "gpu-0"
    /// bandwidth = 25e9
    /// latency = 5e-6
    ///
    /// [[space]]               # where a space holds no more than so many bytes; one has no limit
    /// name = "gpu-0"
    /// memory = 8e9
    ///
    /// [network]
    /// sharing = "max-min"     # or `none`, which it is without this, or `queue`: one transfer at a time on each link and direction
    ///
    /// [[network.link]]        # a link with a name, over which routes lead; a pair of spaces without a route has a link for itself in each direction
    /// name = "pcie-0"
    /// bandwidth = 12.5e9
    /// latency = 5e-6
    /// duplex = "full"         # or `half`: both directions share the bandwidth
    /// space = "gpu-0"         # it leads to this space: routes from there begin with it, those to there end with it
    ///
    /// [[network.route]]       # and where that does not say it all; the way back is the same unless it is written down
    /// from = "host"
    /// to = "gpu-1"
    /// links = ["pcie-0"]      # `-pcie-0` is the other direction of that link
    ///
    /// [overheads]             # seconds, 0 each: see `Overheads`
    /// submit = 1e-6
    /// dispatch = 200e-9
    /// hop = 5e-6
    /// launch = 10e-6
    /// allocation = 1e-6
    ///
    /// [[cost]]                # where time is not work divided by speed; a code that has one of these runs only where it has one
    /// code = "gemm"
    /// kind = "gpu"            # a kind of processors, or the name of one: `gpu-1`
    /// mean = 1e-3             # seconds at speed 1
    /// spread = 1e-4           # the standard deviation, 0
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
                processors.push(SimProcessor { name, kind: table.kind.clone(), speed, space, process: table.process });
            }
        }
        if processors.is_empty() {
            return Err(error("processor", "there is no processor"));
        }
        let mut platform = Self::plain(processors, spaces, link);
        let known = platform.spaces.clone();
        let space_of = |name: &str, place: fmt::Arguments<'_>| {
            let space = known.iter().position(|known| known == name);
            space.ok_or_else(|| error(place, format_args!("there is no space `{name}`; there are {}", known.join(", "))))
        };
        let mut between = BTreeMap::new();
        for (index, table) in file.between.iter().enumerate() {
            let from = space_of(&table.from, format_args!("between[{index}].from"))?;
            let pair = (from, space_of(&table.to, format_args!("between[{index}].to"))?);
            between.insert(pair, checked_link(&format!("between[{index}]"), table.bandwidth, table.latency)?);
        }
        let mut memories = platform.memories.clone();
        for (index, table) in file.space.iter().enumerate() {
            let space = space_of(&table.name, format_args!("space[{index}].name"))?;
            memories[space] = match table.memory {
                Some(bytes) if (0.0..=1e18).contains(&bytes) => Some(bytes as u64),
                Some(bytes) => {
                    return Err(error(
                        format_args!("space[{index}].memory"),
                        format_args!("{bytes} is no number of bytes between 0 and 1e18"),
                    ));
                }
                None => None,
            };
        }
        if memories.iter().all(Option::is_some) {
            return Err(error("space", "every space has a limit; what gives way in one needs another one without"));
        }
        let mut ways_in = platform.ways_in.clone();
        for (index, table) in file.network.link.iter().enumerate() {
            let place = format!("network.link[{index}]");
            let link = checked_link(&place, table.bandwidth, table.latency)?;
            let duplex = table.duplex.as_deref().unwrap_or("full");
            let is_full_duplex = one_of(format_args!("{place}.duplex"), duplex, &[("full", true), ("half", false)])?;
            if platform.links.iter().any(|known| known.name == table.name) || table.name.starts_with('-') {
                let why = format!("`{}` is the name of another one, or begins with `-`", table.name);
                return Err(error(format_args!("{place}.name"), why));
            }
            if let Some(name) = &table.space {
                let space = space_of(name, format_args!("{place}.space"))?;
                if ways_in[space].replace(index).is_some() {
                    return Err(error(format_args!("{place}.space"), format_args!("another link leads to `{name}`")));
                }
            }
            platform.links.push(NamedLink { name: table.name.clone(), link, is_full_duplex });
        }
        for (index, table) in file.network.route.iter().enumerate() {
            let place = format!("network.route[{index}]");
            let from = space_of(&table.from, format_args!("{place}.from"))?;
            let pair = (from, space_of(&table.to, format_args!("{place}.to"))?);
            let hop = |name: &String| {
                let (is_back, plain) = name.strip_prefix('-').map_or((false, name.as_str()), |plain| (true, plain));
                let known: Vec<(&str, usize)> =
                    platform.links.iter().enumerate().map(|(link, named)| (named.name.as_str(), link)).collect();
                Ok(Hop { link: one_of(format_args!("{place}.links"), plain, &known)?, is_back })
            };
            let hops = table.links.iter().map(hop).collect::<Result<Vec<_>, _>>()?;
            if pair.0 == pair.1 || platform.routes.insert(pair, hops).is_some() {
                return Err(error(place, "there is another one from there to there, or both are one space"));
            }
        }
        let sharing = file.network.sharing.as_deref().unwrap_or("none");
        platform.sharing = sharing.parse().map_err(|why| error("network.sharing", why))?;
        let OverheadsTable { submit, dispatch, hop, launch, allocation } = file.overheads;
        let seconds = [submit, dispatch, hop, launch, allocation];
        let mut overheads = Overheads::default();
        for ((field, seconds), name) in overheads.fields().into_iter().zip(seconds).zip(Overheads::NAMES) {
            *field = checked_ns(format_args!("overheads.{name}"), seconds)?;
        }
        for (index, CostTable { code, kind, mean, spread }) in file.cost.into_iter().enumerate() {
            if !platform.processors.iter().any(|processor| processor.kind == kind || processor.name == kind) {
                return Err(error(format_args!("cost[{index}].kind"), format_args!("no processor is of kind `{kind}` or called that")));
            }
            let cost = Cost {
                mean_ns: checked_ns(format_args!("cost[{index}].mean"), mean)?,
                spread_ns: checked_ns(format_args!("cost[{index}].spread"), spread)?,
            };
            platform.costs.entry(code).or_default().insert(kind, cost);
        }
        (platform.between, platform.memories, platform.ways_in, platform.overheads) = (between, memories, ways_in, overheads);
        Ok(platform)
    }
}
