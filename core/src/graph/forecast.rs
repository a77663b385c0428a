//! What the nodes of a graph are expected to cost on one runtime, and how far each of them is from the end: for runs whose nodes are placed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::Graph;
use crate::placement::{NodeCode, Placement};
use crate::policy::ranks::{Successors, upward_ranks};

/// Ranks are computed anew when the cost of some function has changed by more than a share of one to so many.
const DRIFT_DIVISOR: u64 = 4;

/// What is expected of a graph's nodes on the board of one runtime. Kept by the graph from run to run; never changed.
#[derive(Debug)]
pub(crate) struct Forecast {
    /// The number of the board.
    board: u64,
    codes: Arc<Codes>,
    /// The cost of each code that the ranks rest on, and the ranks; empty when the policy looks at none.
    costs_ns: Vec<u64>,
    ranks_ns: Vec<u64>,
}

/// The functions of a graph.
#[derive(Debug)]
struct Codes {
    codes: Vec<NodeCode>,
    /// For each site the place of its function; that of an input means nothing.
    of_site: Vec<u32>,
}

impl Codes {
    fn new(graph: &Graph, placement: &Placement) -> Self {
        let (mut codes, mut known) = (Vec::new(), BTreeMap::new());
        let sites = graph.sites.iter().map(|site| {
            if site.input {
                return 0;
            }
            let code = placement.node_code((site.code.type_name)(), site.location);
            *known.entry(code.number()).or_insert_with(|| {
                codes.push(code);
                codes.len() as u32 - 1
            })
        });
        let of_site = sites.collect();
        Self { codes, of_site }
    }
}

impl Forecast {
    /// What is expected now. One step for each function where costs are as they were for the run before, else one for each node and edge.
    pub(super) fn of(graph: &Graph, placement: &Placement) -> Arc<Self> {
        // Replaced as a whole.
        let mut kept = graph.forecast.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.take().filter(|known| known.board == placement.number);
        let codes = known.as_ref().map_or_else(|| Arc::new(Codes::new(graph, placement)), |known| Arc::clone(&known.codes));
        let costs_ns = if placement.wants_ranks { codes.codes.iter().map(|code| code.expected().mean_ns).collect() } else { Vec::new() };
        let forecast = known.filter(|known| !have_drifted(&known.costs_ns, &costs_ns)).unwrap_or_else(|| {
            let ranks_ns = if placement.wants_ranks { ranks(graph, &codes, &costs_ns) } else { Vec::new() };
            Arc::new(Self { board: placement.number, codes, costs_ns, ranks_ns })
        });
        *kept = Some(Arc::clone(&forecast));
        forecast
    }

    /// The function of a node.
    pub(super) fn code(&self, graph: &Graph, node: u32) -> &NodeCode {
        let site = graph.nodes[node as usize].site;
        &self.codes.codes[self.codes.of_site[site as usize] as usize]
    }

    /// How long the longest way from the beginning of a node to the end of the graph is expected to take, in ns.
    pub(super) fn rank_ns(&self, node: u32) -> Option<u64> {
        self.ranks_ns.get(node as usize).copied()
    }
}

fn have_drifted(before: &[u64], now: &[u64]) -> bool {
    before.iter().zip(now).any(|(before, now)| before.abs_diff(*now).saturating_mul(DRIFT_DIVISOR) > *before.max(now))
}

fn ranks(graph: &Graph, codes: &Codes, costs_ns: &[u64]) -> Vec<u64> {
    // The first virtual node follows the last real one, and its successors the last edge.
    let starts: Vec<usize> = graph.nodes[..=graph.node_count()].iter().map(|node| node.successors as usize).collect();
    let edges = &graph.successors[..starts[graph.node_count()]];
    let cost_ns = |node: u32| {
        if graph.site(node).input { 0 } else { costs_ns[codes.of_site[graph.nodes[node as usize].site as usize] as usize] }
    };
    let costs_ns: Vec<u64> = (0..graph.node_count() as u32).map(cost_ns).collect();
    // All of it is in the host's memory.
    match upward_ranks(Successors { starts: &starts, successors: edges }, &costs_ns, &vec![0; edges.len()]) {
        Ok(ranks) => ranks,
        Err(cycle) => unreachable!("the builder has looked: {cycle}"),
    }
}
