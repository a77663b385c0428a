//! Memory spaces and what is under way between them, where transfers share links or memories are limited.
//!
//! A task that a place has taken claims all the memory that it needs at once: for what is missing of its arguments, and for what it returns. Claims of a space are granted in
//! their order, so whatever is granted ends, and the next claim finds all of the rest given up or written back: there is always one that goes on. Data that
//! is sent ahead, to where a task has been placed, takes only memory that nobody claims.

use std::collections::{BTreeSet, VecDeque};

use super::Transfer;
use crate::blocks::{Blocks, NONE};
use crate::network::Network;
use crate::problem::Problem;

/// A copy of a block.
#[derive(Clone, Debug)]
struct Replica {
    block: u32,
    space: u32,
    /// The next one of the block.
    next: u32,
    /// How many tasks and transfers use it.
    pins: u32,
    /// The one that it is copied from, as long as it is on its way.
    source: u32,
    /// When it was used last, as a number that grows.
    used: u64,
    /// Whether it is on its way to where it is written back.
    is_written_back: bool,
    /// Which of the transfers brings it.
    transfer: u32,
    /// Places whose task waits for it.
    waiting: Vec<u32>,
}

impl Replica {
    fn is_there(&self) -> bool {
        self.source == NONE
    }
}

/// A memory space.
#[derive(Debug, Default)]
struct Space {
    limit: Option<u64>,
    used: u64,
    /// Of that, what is being written back.
    leaving: u64,
    /// Replicas that nobody uses, the least recently used first.
    unused: BTreeSet<(u64, u32)>,
    /// Places whose task waits for memory, with the task.
    claims: VecDeque<(u32, u32)>,
}

#[derive(Debug)]
pub(super) struct Spaces {
    blocks: Blocks,
    /// Of each block its replicas.
    heads: Vec<u32>,
    replicas: Vec<Replica>,
    free: Vec<u32>,
    spaces: Vec<Space>,
    /// Those with claims.
    claiming: BTreeSet<usize>,
    /// Where blocks are written back to: a space without a limit.
    home: usize,
    pub(super) network: Network,
    /// Of each pair of spaces the route, once there was a transfer.
    routes: Vec<u32>,
    /// Of each named link its numbers forwards and backwards.
    links: Vec<[u32; 2]>,
    /// Of each place how many replicas its task waits for.
    awaited: Vec<u32>,
    /// Places whose task has all that it needs.
    ready: Vec<u32>,
    uses: u64,
    pub(super) moved_bytes: u64,
    /// All of them, if they are to be kept.
    pub(super) transfers: Vec<Transfer>,
    keeps_transfers: bool,
}

impl Spaces {
    pub(super) fn new(problem: &Problem<'_>, keeps_transfers: bool) -> Self {
        let platform = problem.platform();
        let blocks = Blocks::new(problem.workload(), false);
        let mut network = Network::new(platform.sharing());
        let links = platform.links().iter().map(|named| {
            let forward = network.link(named.link.bytes_per_s);
            [forward, if named.is_full_duplex { network.link(named.link.bytes_per_s) } else { forward }]
        });
        let links = links.collect();
        let spaces: Vec<Space> =
            (0..problem.space_count()).map(|space| Space { limit: platform.memory(space), ..Space::default() }).collect();
        Self {
            heads: vec![NONE; blocks.len()],
            blocks,
            replicas: Vec::new(),
            free: Vec::new(),
            home: spaces.iter().position(|space| space.limit.is_none()).unwrap_or(0),
            spaces,
            claiming: BTreeSet::new(),
            network,
            routes: vec![NONE; problem.space_count() * problem.space_count()],
            links,
            awaited: vec![0; problem.processor_count()],
            ready: Vec::new(),
            uses: 0,
            moved_bytes: 0,
            transfers: Vec::new(),
            keeps_transfers,
        }
    }

    /// Whether the block of an edge is in a space or on its way there.
    pub(super) fn has(&self, edge: usize, space: usize) -> bool {
        let block = self.blocks.of_edge(edge);
        block == NONE || self.find(block, space).is_some()
    }

    /// A task was placed: what it needs is sent ahead, as far as there is room that nobody else claims.
    pub(super) fn send_ahead(&mut self, problem: &Problem<'_>, task: usize, space: usize, now_ns: u64) {
        for (_, edge) in problem.workload().edges_in(task) {
            self.send_block_ahead(problem, edge, space, now_ns);
        }
    }

    /// The same for one edge.
    pub(super) fn send_block_ahead(&mut self, problem: &Problem<'_>, edge: usize, space: usize, now_ns: u64) {
        let block = self.blocks.of_edge(edge);
        if block == NONE || self.find(block, space).is_some() {
            return;
        }
        let Space { limit, used, ref claims, .. } = self.spaces[space];
        let fits = limit.is_none_or(|limit| claims.is_empty() && used.saturating_add(self.blocks.bytes(block)) <= limit);
        if fits {
            self.copy(problem, block, space, now_ns);
        }
    }

    /// A place has taken a task.
    pub(super) fn claim(&mut self, problem: &Problem<'_>, task: usize, place: usize, now_ns: u64) {
        let space = problem.space(place);
        self.spaces[space].claims.push_back((place as u32, task as u32));
        self.claiming.insert(space);
        self.grant(problem, now_ns);
    }

    /// Places whose task has all that it needs: the next one.
    pub(super) fn ready(&mut self) -> Option<usize> {
        self.ready.pop().map(|place| place as usize)
    }

    /// What a place runs is over: what it took may be given up, and what it returns is there.
    pub(super) fn ended(&mut self, problem: &Problem<'_>, task: usize, place: usize, now_ns: u64) {
        let space = problem.space(place);
        for (_, edge) in problem.workload().edges_in(task) {
            let block = self.blocks.of_edge(edge);
            if block == NONE {
                continue;
            }
            let Some(replica) = self.find(block, space) else { unreachable!("a task has what it needs until it ends") };
            let is_over = self.blocks.is_over(block);
            self.unpin(replica);
            if is_over {
                self.give_up_all(block);
            }
        }
        for block in self.blocks.of_task(task) {
            let replica = self.add(block, space, NONE);
            self.unpin(replica);
        }
        self.grant(problem, now_ns);
    }

    /// A task is not going to run: nobody needs what it alone needed.
    pub(super) fn dropped(&mut self, problem: &Problem<'_>, task: usize) {
        for (_, edge) in problem.workload().edges_in(task) {
            let block = self.blocks.of_edge(edge);
            if block != NONE && self.blocks.is_over(block) {
                self.give_up_all(block);
            }
        }
    }

    /// A transfer is over.
    pub(super) fn arrived(&mut self, problem: &Problem<'_>, replica: u32, now_ns: u64) {
        let here = &mut self.replicas[replica as usize];
        if let Some(transfer) = self.transfers.get_mut(here.transfer as usize) {
            transfer.end_ns = now_ns;
        }
        let source = std::mem::replace(&mut here.source, NONE);
        let waiting = std::mem::take(&mut here.waiting);
        if std::mem::take(&mut here.is_written_back) {
            let Replica { block, space, .. } = self.replicas[source as usize];
            self.spaces[space as usize].leaving -= self.blocks.bytes(block);
        }
        self.unpin(source);
        for place in waiting {
            self.awaited[place as usize] -= 1;
            if self.awaited[place as usize] == 0 {
                self.ready.push(place);
            }
        }
        self.unpin(replica);
        self.grant(problem, now_ns);
    }

    /// No space holds more than it can.
    pub(super) fn check(&self) {
        for (number, space) in self.spaces.iter().enumerate() {
            assert!(
                space.limit.is_none_or(|limit| space.used <= limit),
                "space {number} holds {} bytes, and can {:?}",
                space.used,
                space.limit
            );
        }
    }

    fn find(&self, block: u32, space: usize) -> Option<u32> {
        let mut next = self.heads[block as usize];
        while next != NONE {
            let replica = &self.replicas[next as usize];
            if replica.space as usize == space {
                return Some(next);
            }
            next = replica.next;
        }
        None
    }

    /// A replica of a block that is there, but for one.
    fn find_there(&self, block: u32, but: u32) -> Option<u32> {
        let mut next = self.heads[block as usize];
        let mut last = None;
        while next != NONE {
            let replica = &self.replicas[next as usize];
            if replica.is_there() && next != but {
                // The one that is at the end is the oldest: where the block was made.
                last = Some(next);
            }
            next = replica.next;
        }
        last
    }

    /// A new replica, which is pinned once. What a task returns has its memory already.
    fn add(&mut self, block: u32, space: usize, source: u32) -> u32 {
        let replica = Replica {
            block,
            space: space as u32,
            next: self.heads[block as usize],
            pins: 1,
            source,
            used: 0,
            is_written_back: false,
            transfer: NONE,
            waiting: Vec::new(),
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.replicas[number as usize] = replica;
                number
            }
            None => {
                self.replicas.push(replica);
                self.replicas.len() as u32 - 1
            }
        };
        self.heads[block as usize] = number;
        number
    }

    /// Copies a block to a space in which there is room.
    fn copy(&mut self, problem: &Problem<'_>, block: u32, space: usize, now_ns: u64) -> u32 {
        let Some(source) = self.find_there(block, NONE) else { unreachable!("what somebody needs is somewhere") };
        self.pin(source);
        let from = self.replicas[source as usize].space as usize;
        let bytes = self.blocks.bytes(block);
        let replica = self.add(block, space, source);
        self.spaces[space].used += bytes;
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        if self.keeps_transfers {
            let (task, from, to) = (self.blocks.task_of(block), from as u32, space as u32);
            self.replicas[replica as usize].transfer = self.transfers.len() as u32;
            self.transfers.push(Transfer { task, from, to, bytes, start_ns: now_ns, end_ns: now_ns });
        }
        let route = self.route(problem, from, space);
        self.network.start(route, bytes, now_ns, replica);
        replica
    }

    fn route(&mut self, problem: &Problem<'_>, from: usize, to: usize) -> u32 {
        let at = from * problem.space_count() + to;
        if self.routes[at] == NONE {
            let platform = problem.platform();
            let alone = platform.link(from, to);
            let hops = platform.route(from, to);
            let mut links: Vec<u32> = hops.iter().map(|hop| self.links[hop.link][usize::from(hop.is_back)]).collect();
            if links.is_empty() {
                links.push(self.network.link(alone.bytes_per_s));
            }
            self.routes[at] = self.network.route(&links, alone.latency_ns);
        }
        self.routes[at]
    }

    fn pin(&mut self, replica: u32) {
        let Replica { space, used, ref mut pins, .. } = self.replicas[replica as usize];
        *pins += 1;
        self.spaces[space as usize].unused.remove(&(used, replica));
    }

    fn unpin(&mut self, number: u32) {
        let replica = &mut self.replicas[number as usize];
        replica.pins -= 1;
        if replica.pins > 0 || !replica.is_there() {
            return;
        }
        self.uses += 1;
        replica.used = self.uses;
        let space = &mut self.spaces[replica.space as usize];
        if space.limit.is_some() {
            space.unused.insert((replica.used, number));
        }
        if !self.blocks.is_needed(self.replicas[number as usize].block) {
            self.give_up(number);
        }
    }

    /// Gives up a replica that nobody uses.
    fn give_up(&mut self, number: u32) {
        let Replica { block, space, next, used, .. } = self.replicas[number as usize];
        let space = &mut self.spaces[space as usize];
        space.unused.remove(&(used, number));
        space.used -= self.blocks.bytes(block);
        let head = &mut self.heads[block as usize];
        if *head == number {
            *head = next;
        } else {
            let mut before = *head;
            while self.replicas[before as usize].next != number {
                before = self.replicas[before as usize].next;
            }
            self.replicas[before as usize].next = next;
        }
        self.free.push(number);
    }

    /// Nobody needs a block: all replicas go, those in use later.
    fn give_up_all(&mut self, block: u32) {
        let mut next = self.heads[block as usize];
        while next != NONE {
            let replica = &self.replicas[next as usize];
            let (number, is_used) = (next, replica.pins > 0 || !replica.is_there());
            next = replica.next;
            if !is_used {
                self.give_up(number);
            }
        }
    }

    /// Grants claims, of each space in their order, as far as there is memory.
    pub(super) fn grant(&mut self, problem: &Problem<'_>, now_ns: u64) {
        let mut from = 0;
        while let Some(space) = self.claiming.range(from..).next().copied() {
            from = space + 1;
            while let Some(&(place, task)) = self.spaces[space].claims.front() {
                if !self.grant_one(problem, space, task as usize, place, now_ns) {
                    break;
                }
                self.spaces[space].claims.pop_front();
            }
            if self.spaces[space].claims.is_empty() {
                self.claiming.remove(&space);
            }
        }
    }

    fn grant_one(&mut self, problem: &Problem<'_>, space: usize, task: usize, place: u32, now_ns: u64) -> bool {
        let workload = problem.workload();
        let blocks = || workload.edges_in(task).map(|(_, edge)| edge);
        let mut bytes: u64 = self.blocks.of_task(task).map(|block| self.blocks.bytes(block)).sum();
        let returned = bytes;
        // What is there stays while room is made for the rest.
        for edge in blocks() {
            let block = self.blocks.of_edge(edge);
            if block == NONE {
                continue;
            }
            match self.find(block, space) {
                Some(replica) => self.pin(replica),
                None => bytes += self.blocks.bytes(block),
            }
        }
        if !self.make_room(problem, space, bytes, now_ns) {
            for edge in blocks() {
                let block = self.blocks.of_edge(edge);
                if block != NONE
                    && let Some(replica) = self.find(block, space)
                {
                    self.unpin(replica);
                }
            }
            return false;
        }
        self.spaces[space].used += returned;
        let mut awaited = 0;
        for edge in blocks() {
            let block = self.blocks.of_edge(edge);
            if block == NONE {
                continue;
            }
            let replica = match self.find(block, space) {
                Some(replica) => replica,
                None => {
                    let replica = self.copy(problem, block, space, now_ns);
                    // Once for the transfer, once for the task.
                    self.pin(replica);
                    replica
                }
            };
            let replica = &mut self.replicas[replica as usize];
            if !replica.is_there() {
                replica.waiting.push(place);
                awaited += 1;
            }
        }
        self.awaited[place as usize] = awaited;
        if awaited == 0 {
            self.ready.push(place);
        }
        true
    }

    /// Sees to it that a space has room. If there is none yet, what is in the way is written back, and gone later.
    fn make_room(&mut self, problem: &Problem<'_>, space: usize, bytes: u64, now_ns: u64) -> bool {
        let Some(limit) = self.spaces[space].limit else { return true };
        let lacks = |here: &Space| here.used.saturating_add(bytes).saturating_sub(limit);
        while lacks(&self.spaces[space]) > 0 {
            let unused = self.spaces[space].unused.iter().map(|(_, replica)| *replica);
            let mut clean = unused.filter(|replica| self.find_there(self.replicas[*replica as usize].block, *replica).is_some());
            let Some(replica) = clean.next() else { break };
            self.give_up(replica);
        }
        let lacking = lacks(&self.spaces[space]);
        if lacking == 0 {
            return true;
        }
        while self.spaces[space].leaving < lacking {
            let mut unused = self.spaces[space].unused.iter().map(|(_, replica)| self.replicas[*replica as usize].block);
            let Some(block) = unused.find(|block| self.find(*block, self.home).is_none()) else { break };
            let copy = self.copy(problem, block, self.home, now_ns);
            self.replicas[copy as usize].is_written_back = true;
            self.spaces[space].leaving += self.blocks.bytes(block);
        }
        false
    }
}
