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

    /// When the block of an edge is, or is going to be, in a space.
    pub(super) fn at_ns(&self, edge: usize, space: usize) -> Option<u64> {
        if self.heads.is_empty() {
            return None;
        }
        let mut next = *self.heads.get(self.blocks.of_edge(edge) as usize)?;
        while next != NONE {
            let replica = self.replicas[next as usize];
            if replica.space as usize == space {
                return Some(replica.at_ns);
            }
            next = replica.next;
        }
        None
    }

    /// Whether the block of an edge is anywhere but where it was made.
    pub(super) fn has_copies(&self, edge: usize) -> bool {
        !self.heads.is_empty() && self.heads.get(self.blocks.of_edge(edge) as usize).is_some_and(|head| *head != NONE)
    }

    /// The block of an edge is in a space from then on.
    pub(super) fn set(&mut self, edge: usize, space: usize, at_ns: u64) {
        if self.heads.is_empty() {
            return;
        }
        let Some(head) = self.heads.get_mut(self.blocks.of_edge(edge) as usize) else { return };
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
        if self.heads.is_empty() {
            return;
        }
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
