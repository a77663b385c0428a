//! The least of many times that change one at a time.

/// A tree of winners: each node has the index of the earlier of its two halves, of equal ones the first.
#[derive(Debug, Default)]
pub(super) struct First {
    times: Vec<u64>,
    /// From 1 on; the children of `n` are `2n` and `2n + 1`.
    winners: Vec<u32>,
    leaves: usize,
}

impl First {
    /// One more, which is never.
    pub(super) fn push(&mut self) {
        self.times.push(u64::MAX);
        if self.times.len() > self.leaves {
            self.leaves = self.times.len().next_power_of_two();
            self.winners = vec![0; self.leaves];
            for node in (1..self.leaves).rev() {
                self.winners[node] = self.winner(node);
            }
        }
    }

    fn time(&self, index: u32) -> u64 {
        self.times.get(index as usize).copied().unwrap_or(u64::MAX)
    }

    /// Of a node's children.
    fn child(&self, node: usize) -> u32 {
        if node < self.leaves { self.winners[node] } else { (node - self.leaves) as u32 }
    }

    fn winner(&self, node: usize) -> u32 {
        let (left, right) = (self.child(2 * node), self.child(2 * node + 1));
        if self.time(right) < self.time(left) { right } else { left }
    }

    pub(super) fn set(&mut self, index: u32, at_ns: u64) {
        if std::mem::replace(&mut self.times[index as usize], at_ns) == at_ns {
            return;
        }
        let mut node = (self.leaves + index as usize) / 2;
        while node > 0 {
            let winner = self.winner(node);
            // Above a node that another one has won and wins still, nothing is other than it was.
            if std::mem::replace(&mut self.winners[node], winner) == winner && winner != index {
                return;
            }
            node /= 2;
        }
    }

    /// The same for many: where that is less, the whole tree is made anew.
    pub(super) fn set_all(&mut self, times: &[(u32, u64)]) {
        // A change goes up two levels in the mean.
        if times.len() * 3 <= self.leaves {
            times.iter().for_each(|(index, at_ns)| self.set(*index, *at_ns));
            return;
        }
        times.iter().for_each(|(index, at_ns)| self.times[*index as usize] = *at_ns);
        for node in (1..self.leaves).rev() {
            self.winners[node] = self.winner(node);
        }
    }

    /// Which is first.
    pub(super) fn index(&self) -> u32 {
        self.winners.get(1).copied().unwrap_or(0)
    }

    /// When; `u64::MAX` is never.
    pub(super) fn at_ns(&self) -> u64 {
        self.time(self.index())
    }
}
