//! What tasks return, as far as others need it.

use crate::workload::Workload;

/// No block.
pub(crate) const NONE: u32 = u32::MAX;

/// The blocks that go along edges. Edges out of one task with the same number of bytes carry the same block: it is brought to a memory space once.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    /// Of each edge; [`NONE`] without bytes, and where no other edge has the same block if only shared ones were asked for. Empty as long as all are that.
    of_edge: Vec<u32>,
    bytes: Vec<u64>,
    /// How many tasks that need it have not ended.
    left: Vec<u32>,
    /// Of each task where its blocks begin; nothing if only shared ones were asked for.
    starts: Vec<u32>,
}

impl Blocks {
    pub(crate) fn new(workload: &Workload, only_shared: bool) -> Self {
        let starts = Vec::with_capacity(if only_shared { 0 } else { workload.len() + 1 });
        let mut blocks = Self { of_edge: Vec::new(), bytes: Vec::new(), left: Vec::new(), starts };
        let mut edges: Vec<usize> = Vec::new();
        for task in 0..workload.len() {
            let out = workload.edges_out(task);
            if only_shared {
                if !may_share(workload, out.clone()) {
                    continue;
                }
            } else {
                blocks.starts.push(blocks.bytes.len() as u32);
            }
            edges.clear();
            edges.extend(out.filter(|edge| workload.bytes(*edge) > 0));
            edges.sort_unstable_by_key(|edge| (workload.bytes(*edge), *edge));
            for same in edges.chunk_by(|one, other| workload.bytes(*one) == workload.bytes(*other)) {
                if only_shared && same.len() < 2 {
                    continue;
                }
                if blocks.of_edge.is_empty() {
                    blocks.of_edge = vec![NONE; workload.edge_count()];
                }
                same.iter().for_each(|edge| blocks.of_edge[*edge] = blocks.bytes.len() as u32);
                blocks.bytes.push(workload.bytes(same[0]));
                blocks.left.push(same.len() as u32);
            }
        }
        if !only_shared {
            blocks.starts.push(blocks.bytes.len() as u32);
        }
        blocks
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn of_edge(&self, edge: usize) -> u32 {
        self.of_edge.get(edge).copied().unwrap_or(NONE)
    }

    pub(crate) fn bytes(&self, block: u32) -> u64 {
        self.bytes[block as usize]
    }

    /// Those that a task returns.
    pub(crate) fn of_task(&self, task: usize) -> std::ops::Range<u32> {
        self.starts[task]..self.starts[task + 1]
    }

    /// The task that returns a block.
    pub(crate) fn task_of(&self, block: u32) -> u32 {
        self.starts.partition_point(|start| *start <= block) as u32 - 1
    }

    /// A task that needs it has ended. Whether that was the last one.
    pub(crate) fn is_over(&mut self, block: u32) -> bool {
        let left = &mut self.left[block as usize];
        *left -= 1;
        *left == 0
    }

    /// Whether a task needs it still.
    pub(crate) fn is_needed(&self, block: u32) -> bool {
        self.left[block as usize] > 0
    }

    /// How many bytes a task holds while it runs: what it takes, and what it returns.
    pub(crate) fn held_by(&self, workload: &Workload, task: usize) -> u64 {
        let taken = workload.edges_in(task).map(|(_, edge)| workload.bytes(edge));
        taken.chain(self.of_task(task).map(|block| self.bytes(block))).fold(0, u64::saturating_add)
    }
}

/// Whether some of these edges may carry the same block. Of a few it is looked, as most tasks have few and those no two alike.
fn may_share(workload: &Workload, mut edges: std::ops::Range<usize>) -> bool {
    const FEW: usize = 8;
    if edges.len() > FEW {
        return true;
    }
    while let Some(edge) = edges.next() {
        let bytes = workload.bytes(edge);
        if bytes > 0 && edges.clone().any(|other| workload.bytes(other) == bytes) {
            return true;
        }
    }
    false
}
