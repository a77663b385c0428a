//! When data is where, as long as nothing else has to do with that: transfers do not share links, and memories have no end.

use crate::blocks::{Blocks, NONE};
use crate::problem::Problem;

/// A copy of a block.
#[derive(Clone, Copy, Debug)]
struct Replica {
    space: u32,
    /// The next one of the block, or the next free one.
    next: u32,
    at_ns: u64,
}

/// When the blocks that several tasks need are in other spaces than where they were made. Those of one task are not kept: nobody else asks.
#[derive(Debug)]
pub(super) struct Arrivals {
    blocks: Blocks,
    heads: Vec<u32>,
    replicas: Vec<Replica>,
    free: u32,
}

impl Arrivals {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let blocks = Blocks::new(problem.workload(), true);
        Self { heads: vec![NONE; blocks.len()], blocks, replicas: Vec::new(), free: NONE }
    }

    /// Whether several tasks need any block at all.
    pub(super) fn has_blocks(&self) -> bool {
        !self.heads.is_empty()
    }

    /// The block of an edge, if several tasks need it.
    pub(super) fn block(&self, edge: usize) -> Option<u32> {
        Some(self.blocks.of_edge(edge)).filter(|block| *block != NONE)
    }

    /// When a block is, or is going to be, in a space.
    pub(super) fn at_ns(&self, block: u32, space: usize) -> Option<u64> {
        let mut next = self.heads[block as usize];
        while next != NONE {
            let replica = self.replicas[next as usize];
            if replica.space as usize == space {
                return Some(replica.at_ns);
            }
            next = replica.next;
        }
        None
    }

    /// A block is in a space from then on.
    pub(super) fn set(&mut self, block: u32, space: usize, at_ns: u64) {
        let head = &mut self.heads[block as usize];
        let replica = Replica { space: space as u32, next: *head, at_ns };
        if self.free == NONE {
            *head = self.replicas.len() as u32;
            self.replicas.push(replica);
        } else {
            *head = self.free;
            let free = &mut self.replicas[*head as usize];
            self.free = std::mem::replace(free, replica).next;
        }
    }

    /// The task at the end of an edge has ended.
    pub(super) fn release(&mut self, edge: usize) {
        let block = self.blocks.of_edge(edge);
        if block == NONE || !self.blocks.is_over(block) {
            return;
        }
        let mut next = std::mem::replace(&mut self.heads[block as usize], NONE);
        while next != NONE {
            let replica = &mut self.replicas[next as usize];
            let free = std::mem::replace(&mut self.free, next);
            next = std::mem::replace(&mut replica.next, free);
        }
    }
}
