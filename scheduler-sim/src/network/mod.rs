//! Transfers that are under way at the same time, over links that they share.
//!
//! Under [`Sharing::MaxMin`] the rates are max-min fair at every instant: no transfer could be faster without one that is no faster being slower (Dimitri Bertsekas and Robert
//! Gallager, "Data networks", 1992, section 6.5.2). Transfers of one route have the same rate, so what is solved is how fast each *route* serves each of its
//! transfers; one that begins when its route has served `v` bytes is over when that has served `v` plus its own. A change touches a number for each route instead of
//! one for each transfer, and only routes that share a link with it, directly or by others in between, are solved again.

mod first;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use first::First;

/// How transfers at the same time share links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// They do not: each takes as long as alone.
    #[default]
    None,
    /// Max-min fair.
    MaxMin,
    /// One after the other, as they were started. A transfer has all links of its route from its turn to its end.
    Queue,
}

impl Sharing {
    /// All of them, with their names in files and on the command line.
    pub const ALL: [(&str, Self); 3] = [("none", Self::None), ("max-min", Self::MaxMin), ("queue", Self::Queue)];
}

impl std::str::FromStr for Sharing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, sharing)| sharing).ok_or_else(|| format!("`{name}` is none of {}", Self::ALL.map(|(name, _)| name).join(", ")))
    }
}

/// A transfer that waits for its first byte, by when that comes: then its number, its route, its bytes and what it is known by.
type Begin = Reverse<(u64, u64, u32, u64, u32)>;

/// Links, routes, and what is on them.
#[derive(Debug)]
pub struct Network {
    sharing: Sharing,
    links: Vec<Link>,
    routes: Vec<Route>,
    /// The links of all routes, one behind the other.
    hops: Vec<u32>,
    /// Of each route its transfers: how many bytes it has served when one is over (as bits, which are in the order of the numbers), its number, what it is known by.
    flows: Vec<BinaryHeap<Reverse<(u64, u64, u32)>>>,
    now_ns: u64,
    /// How many transfers have begun: ties go to the one that did first.
    begun: u64,
    begins: BinaryHeap<Begin>,
    /// Transfers whose end nothing changes any more: when, their number, what they are known by.
    ends: BinaryHeap<Reverse<(u64, u64, u32)>>,
    /// Of the routes that which serves one next.
    first: First,
    /// Links whose routes have more or fewer transfers than when they were solved.
    changed: Vec<u32>,
    /// What was looked at by the present solution has this number.
    mark: u32,
    /// Memory that is used again: the links and the routes of a solution, and when those serve one next.
    part: Vec<Share>,
    part_routes: Vec<u32>,
    /// Which of those links have transfers without a rate, in their order.
    open: Vec<u32>,
    served: Vec<(u32, u64)>,
}

#[derive(Debug)]
struct Link {
    bytes_per_s: f64,
    /// Routes over it that have transfers.
    routes: Vec<u32>,
    /// When it is free, under [`Sharing::Queue`].
    free_ns: u64,
    mark: u32,
    /// Where it is in the solution.
    position: u32,
}

/// As much as a solution looks at, in one line of the cache.
#[derive(Clone, Copy, Debug)]
struct Route {
    /// Where its links begin and end.
    hops: (u32, u32),
    latency_ns: u64,
    /// How many bytes it has served to each transfer at `since_ns`.
    served: f64,
    since_ns: u64,
    /// How many it serves to each from then on, each second.
    rate: f64,
    /// How many bytes it has served when the first of its transfers is over.
    next: f64,
    flow_count: u32,
    mark: u32,
    /// Whether its transfers have changed since it was solved.
    is_changed: bool,
    is_solved: bool,
}

/// A link in a solution.
#[derive(Clone, Copy, Debug)]
struct Share {
    link: u32,
    /// The transfers over it that have no rate yet: a whole number, and divided by more often than counted.
    flows: f64,
    /// What is left for them.
    left: f64,
    /// For each of them, or [`STALE`].
    each: f64,
}

/// Something was taken from a link since it was shared out: it is divided when it is looked at, and not each time.
const STALE: f64 = -1.0;

impl Network {
    /// Without links.
    #[must_use]
    pub fn new(sharing: Sharing) -> Self {
        Self {
            sharing,
            links: Vec::new(),
            routes: Vec::new(),
            hops: Vec::new(),
            flows: Vec::new(),
            now_ns: 0,
            begun: 0,
            begins: BinaryHeap::new(),
            ends: BinaryHeap::new(),
            first: First::default(),
            changed: Vec::new(),
            mark: 0,
            part: Vec::new(),
            part_routes: Vec::new(),
            open: Vec::new(),
            served: Vec::new(),
        }
    }

    /// Adds a link, in one direction or for both together, and gives its number. It has more than no bytes a second.
    pub fn link(&mut self, bytes_per_s: f64) -> u32 {
        debug_assert!(bytes_per_s > 0.0, "a link carries something");
        self.links.push(Link { bytes_per_s, routes: Vec::new(), free_ns: 0, mark: 0, position: 0 });
        self.links.len() as u32 - 1
    }

    /// Adds a route over these links, and gives its number. The first byte of a transfer takes the latency, and nothing of the links until then.
    pub fn route(&mut self, links: &[u32], latency_ns: u64) -> u32 {
        // A link that counts for nothing has no part in what is solved; one that comes twice is crossed at one time.
        let mut own: Vec<u32> = links.iter().copied().filter(|link| self.links[*link as usize].bytes_per_s.is_finite()).collect();
        own.sort_unstable();
        own.dedup();
        let start = self.hops.len() as u32;
        self.hops.extend(own);
        self.routes.push(Route {
            hops: (start, self.hops.len() as u32),
            latency_ns,
            served: 0.0,
            since_ns: 0,
            rate: 0.0,
            next: f64::INFINITY,
            flow_count: 0,
            mark: 0,
            is_changed: false,
            is_solved: false,
        });
        self.flows.push(BinaryHeap::new());
        self.first.push();
        self.routes.len() as u32 - 1
    }

    /// Starts a transfer. `name` is what [`pop`](Self::pop) gives when it is over. The time is not before that of the last call.
    pub fn start(&mut self, route: u32, bytes: u64, now_ns: u64, name: u32) {
        debug_assert!(now_ns >= self.now_ns, "time goes on");
        let number = self.begun;
        self.begun += 1;
        let way = self.routes[route as usize];
        let hops = way.hops.0 as usize..way.hops.1 as usize;
        let links = || self.hops[hops.clone()].iter().map(|link| &self.links[*link as usize]);
        match self.sharing {
            Sharing::None | Sharing::Queue => {
                let slowest = links().map(|link| link.bytes_per_s).fold(f64::INFINITY, f64::min);
                let free_ns = links().map(|link| link.free_ns).max().unwrap_or(0);
                let end_ns = now_ns.max(free_ns).saturating_add(way.latency_ns).saturating_add(time_ns(bytes as f64, slowest));
                if self.sharing == Sharing::Queue {
                    self.hops[hops].iter().for_each(|link| self.links[*link as usize].free_ns = end_ns);
                }
                self.ends.push(Reverse((end_ns, number, name)));
            }
            Sharing::MaxMin if hops.is_empty() => self.ends.push(Reverse((now_ns.saturating_add(way.latency_ns), number, name))),
            Sharing::MaxMin if way.latency_ns > 0 => {
                self.begins.push(Reverse((now_ns.saturating_add(way.latency_ns), number, route, bytes, name)));
            }
            Sharing::MaxMin => {
                self.catch_up(now_ns);
                self.join(number, route, bytes, name);
            }
        }
    }

    /// When the next transfer is over or has its first byte, if nothing else is started before.
    pub fn next_ns(&mut self) -> Option<u64> {
        self.settle();
        let begin_ns = self.begins.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
        let end_ns = self.ends.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
        let next_ns = begin_ns.min(end_ns).min(self.first.at_ns());
        (next_ns < u64::MAX).then_some(next_ns)
    }

    /// Goes on to [`next_ns`](Self::next_ns): what is over then is known by this, if a transfer is.
    pub fn pop(&mut self) -> Option<u32> {
        let at_ns = self.next_ns()?;
        self.now_ns = at_ns;
        let is_due = |peeked: Option<u64>| peeked == Some(at_ns);
        // What begins takes its share before something ends.
        if is_due(self.begins.peek().map(|Reverse((begin_ns, ..))| *begin_ns)) {
            self.catch_up(at_ns);
            return None;
        }
        if is_due(self.ends.peek().map(|Reverse((end_ns, ..))| *end_ns)) {
            return self.ends.pop().map(|Reverse((.., name))| name);
        }
        let number = self.first.index();
        let route = &mut self.routes[number as usize];
        let flows = &mut self.flows[number as usize];
        let Some(Reverse((.., name))) = flows.pop() else { unreachable!("the first of all routes serves one") };
        route.is_changed = true;
        route.flow_count -= 1;
        route.next = flows.peek().map_or(f64::INFINITY, |Reverse((end, ..))| f64::from_bits(*end));
        let links = &self.hops[route.hops.0 as usize..route.hops.1 as usize];
        if flows.is_empty() {
            (route.served, route.rate) = (0.0, 0.0);
            self.first.set(number, u64::MAX);
            for link in links {
                let routes = &mut self.links[*link as usize].routes;
                let at = routes.iter().position(|other| *other == number);
                routes.swap_remove(at.unwrap_or_else(|| unreachable!("a route with transfers is on its links")));
            }
        }
        // Without it they need no longer have to do with each other.
        self.changed.extend(links);
        Some(name)
    }

    /// Has those begin that do until a time.
    fn catch_up(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, number, route, bytes, name))) = self.begins.peek()
            && at_ns <= now_ns
        {
            self.begins.pop();
            self.go_on(at_ns);
            self.join(number, route, bytes, name);
        }
        self.go_on(now_ns);
    }

    /// Time goes on. What changed until then is solved for the time that passes.
    fn go_on(&mut self, now_ns: u64) {
        if now_ns > self.now_ns {
            self.settle();
            self.now_ns = now_ns;
        }
    }

    /// A transfer takes a share of its route from now on.
    fn join(&mut self, number: u64, index: u32, bytes: u64, name: u32) {
        let route = &mut self.routes[index as usize];
        let links = &self.hops[route.hops.0 as usize..route.hops.1 as usize];
        if route.flow_count == 0 {
            for link in links {
                self.links[*link as usize].routes.push(index);
            }
        }
        route.advance(self.now_ns);
        let end = route.served + bytes as f64;
        self.flows[index as usize].push(Reverse((end.to_bits(), number, name)));
        route.flow_count += 1;
        route.next = if route.flow_count == 1 { end } else { route.next.min(end) };
        route.is_changed = true;
        self.changed.extend(links.first());
    }

    /// Solves those routes again that share links with what has changed.
    fn settle(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        self.mark += 1;
        let Self { links, routes, hops, first, changed, mark, part, part_routes, open, served, now_ns, .. } = self;
        served.clear();
        part.clear();
        part_routes.clear();
        let look_at = |link: u32, links: &mut [Link], part: &mut Vec<Share>| {
            let known = &mut links[link as usize];
            if known.mark != *mark {
                known.mark = *mark;
                known.position = part.len() as u32;
                part.push(Share { link, flows: 0.0, left: known.bytes_per_s, each: STALE });
            }
        };
        for link in changed.drain(..) {
            look_at(link, links, part);
        }
        let mut next = 0;
        while let Some(&Share { link, .. }) = part.get(next) {
            let mut flows = 0;
            for at in 0..links[link as usize].routes.len() {
                let index = links[link as usize].routes[at];
                let route = &mut routes[index as usize];
                flows += u64::from(route.flow_count);
                if route.mark != *mark {
                    (route.mark, route.is_solved) = (*mark, false);
                    part_routes.push(index);
                    for other in &hops[route.hops.0 as usize..route.hops.1 as usize] {
                        look_at(*other, links, part);
                    }
                }
            }
            part[next].flows = flows as f64;
            next += 1;
        }
        open.clear();
        open.extend((0..part.len() as u32).filter(|at| part[*at as usize].flows > 0.0));
        // The link that has least for each of its transfers is full with that; those have their rate, and the others what is left.
        let mut unsolved = part_routes.len();
        while unsolved > 0 {
            let (mut rate, mut least) = (f64::INFINITY, u32::MAX);
            open.retain(|at| {
                let share = &mut part[*at as usize];
                if share.each == STALE {
                    if share.flows == 0.0 {
                        return false;
                    }
                    share.each = share.left / share.flows;
                }
                if share.each < rate || least == u32::MAX {
                    (rate, least) = (share.each, *at);
                }
                true
            });
            let Some(&Share { link: full, .. }) = part.get(least as usize) else { unreachable!("what has no rate is on a link") };
            for index in &links[full as usize].routes {
                let route = &mut routes[*index as usize];
                if std::mem::replace(&mut route.is_solved, true) {
                    continue;
                }
                unsolved -= 1;
                let flows = f64::from(route.flow_count);
                for link in &hops[route.hops.0 as usize..route.hops.1 as usize] {
                    let share = &mut part[links[*link as usize].position as usize];
                    share.left = (share.left - rate * flows).max(0.0);
                    share.flows -= flows;
                    share.each = STALE;
                }
                if route.rate.to_bits() != rate.to_bits() || std::mem::take(&mut route.is_changed) {
                    route.is_changed = false;
                    route.advance(*now_ns);
                    route.rate = rate;
                    served.push((*index, route.end_ns()));
                }
            }
        }
        first.set_all(served);
    }
}

impl Route {
    /// Serves until a time.
    fn advance(&mut self, now_ns: u64) {
        self.served += self.rate * ((now_ns - self.since_ns) as f64 / 1e9);
        self.since_ns = now_ns;
    }

    /// When the first of its transfers is over, if its rate stays.
    fn end_ns(&self) -> u64 {
        self.since_ns.saturating_add(time_ns((self.next - self.served).max(0.0), self.rate))
    }
}

/// How long so many bytes take, to the nearest nanosecond.
fn time_ns(bytes: f64, bytes_per_s: f64) -> u64 {
    let ns = bytes / bytes_per_s * 1e9;
    // What `round` does to what is not negative, without its call.
    let whole = ns as u64;
    whole.saturating_add(u64::from(ns - whole as f64 >= 0.5))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When each transfer is over: route, bytes, when it starts.
    fn ends(network: &mut Network, mut flows: Vec<(u32, u64, u64)>) -> Vec<u64> {
        let mut ends = vec![0; flows.len()];
        let mut order: Vec<usize> = (0..flows.len()).collect();
        order.sort_by_key(|flow| flows[*flow].2);
        let mut take = |network: &mut Network, until_ns: u64| {
            while let Some(at_ns) = network.next_ns().filter(|at_ns| *at_ns <= until_ns) {
                if let Some(flow) = network.pop() {
                    ends[flow as usize] = at_ns;
                }
            }
        };
        for flow in order {
            let (route, bytes, start_ns) = flows[flow];
            take(network, start_ns);
            network.start(route, bytes, start_ns, flow as u32);
        }
        take(network, u64::MAX);
        flows.clear();
        ends
    }

    /// Progressive filling, all anew at each event and each transfer for itself: routes of links, and the transfers as above. In seconds.
    fn filled(capacities: &[f64], routes: &[Vec<usize>], flows: &[(u32, u64, u64)]) -> Vec<f64> {
        let mut left: Vec<f64> = flows.iter().map(|flow| flow.1 as f64).collect();
        let mut ends = vec![f64::NAN; flows.len()];
        let mut now = 0.0;
        loop {
            let active: Vec<usize> = (0..flows.len()).filter(|flow| ends[*flow].is_nan() && flows[*flow].2 as f64 / 1e9 <= now).collect();
            let mut rates = vec![f64::NAN; flows.len()];
            let mut room = capacities.to_vec();
            let on = |flow: usize, link: usize| routes[flows[flow].0 as usize].contains(&link);
            loop {
                let users = |link: usize, rates: &[f64]| active.iter().filter(|flow| rates[**flow].is_nan() && on(**flow, link)).count();
                let shares = (0..room.len()).filter(|link| users(*link, &rates) > 0);
                let Some((share, full)) =
                    shares.map(|link| (room[link] / users(link, &rates) as f64, link)).min_by(|one, other| one.0.total_cmp(&other.0))
                else {
                    break;
                };
                for flow in active.iter().copied().filter(|flow| on(*flow, full)) {
                    if rates[flow].is_nan() {
                        rates[flow] = share;
                        routes[flows[flow].0 as usize].iter().for_each(|link| room[*link] -= share);
                    }
                }
            }
            let starts = flows.iter().map(|flow| flow.2 as f64 / 1e9).filter(|start| *start > now);
            let finish = active.iter().map(|flow| now + left[*flow] / rates[*flow]);
            let next = starts.chain(finish).fold(f64::INFINITY, f64::min);
            if next.is_infinite() {
                return ends;
            }
            for flow in active {
                left[flow] -= rates[flow] * (next - now);
                if left[flow] <= 1e-7 * flows[flow].1 as f64 {
                    ends[flow] = next;
                }
            }
            now = next;
        }
    }

    proptest! {
        #[test]
        fn rates_are_those_of_progressive_filling(
            capacities in prop::collection::vec(1_u32..20, 1..7),
            routes in prop::collection::vec(prop::collection::vec(0_usize..7, 1..4), 1..8),
            flows in prop::collection::vec((0_u32..8, 1_u64..100, 0_u64..20), 1..20),
        ) {
            let capacities: Vec<f64> = capacities.into_iter().map(|megabytes| f64::from(megabytes) * 1e6).collect();
            let routes: Vec<Vec<usize>> = routes.into_iter().map(|route| route.into_iter().map(|link| link % capacities.len()).collect()).collect();
            let flows: Vec<_> =
                flows.into_iter().map(|(route, bytes, start)| (route % routes.len() as u32, bytes * 1_000_003, start * 1_000_000_000)).collect();
            let mut network = Network::new(Sharing::MaxMin);
            let links: Vec<u32> = capacities.iter().map(|bytes_per_s| network.link(*bytes_per_s)).collect();
            for route in &routes {
                network.route(&route.iter().map(|link| links[*link]).collect::<Vec<_>>(), 0);
            }
            let ours = ends(&mut network, flows.clone());
            // A link that stands twice in a route is crossed once.
            let routes: Vec<Vec<usize>> = routes.into_iter().map(|mut route| { route.sort_unstable(); route.dedup(); route }).collect();
            for (flow, (ours, theirs)) in ours.into_iter().zip(filled(&capacities, &routes, &flows)).enumerate() {
                let ours = ours as f64 / 1e9;
                prop_assert!((ours - theirs).abs() <= 1e-6 * theirs, "{flow}: {ours} s instead of {theirs} s");
            }
        }
    }

    #[test]
    fn one_transfer_takes_what_it_does_alone_and_two_share_or_wait() {
        let seconds = |sharing, latency_ns, bytes: &[u64]| {
            let mut network = Network::new(sharing);
            let link = network.link(1e9);
            network.route(&[link], latency_ns);
            ends(&mut network, bytes.iter().map(|bytes| (0, *bytes, 5)).collect())
        };
        for sharing in [Sharing::None, Sharing::MaxMin, Sharing::Queue] {
            assert_eq!(seconds(sharing, 30, &[1000]), [1035], "{sharing:?}");
        }
        assert_eq!(seconds(Sharing::None, 30, &[1000, 500]), [1035, 535]);
        assert_eq!(seconds(Sharing::MaxMin, 30, &[1000, 500]), [1535, 1035]);
        assert_eq!(seconds(Sharing::Queue, 30, &[1000, 500]), [1035, 1565]);
    }

    #[test]
    fn links_that_cost_nothing_take_no_time() {
        let mut network = Network::new(Sharing::MaxMin);
        let link = network.link(f64::INFINITY);
        let route = network.route(&[link], 7);
        assert_eq!(ends(&mut network, vec![(route, u64::MAX, 1)]), [8]);
    }
}
