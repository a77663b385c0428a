//! Loops and reductions: a range is halved by joins until there are enough pieces.

use std::ops::Range;

use super::join_in;
use crate::worker::context::Context;
use crate::worker::shared::Shared;

/// Pieces for each worker, as long as nobody steals any: some workers come late.
const PIECES_PER_WORKER: usize = 4;

/// How often a piece may still be halved, and where it was made.
#[derive(Clone, Copy)]
struct Splitter {
    /// Halved each time; a piece is whole when there are none left.
    pieces: usize,
    /// The context of the thread that made it.
    maker: usize,
    pieces_max: usize,
}

impl Splitter {
    /// For a call that runs on this thread: no pieces when it is no worker, or the only one.
    fn new(shared: &Shared) -> Self {
        let maker = Context::with_of(shared, |context| context.filter(|context| context.jobs().is_some()).map(Context::identity));
        match maker {
            Some(maker) if shared.slots.len() > 1 => {
                let pieces_max = shared.slots.len() * PIECES_PER_WORKER;
                Self { pieces: pieces_max, maker, pieces_max }
            }
            _ => Self { pieces: 0, maker: 0, pieces_max: 0 },
        }
    }

    /// Whether a piece of this length is to be halved.
    fn splits(&mut self, len: usize) -> bool {
        if len < 2 || self.pieces_max == 0 {
            return false;
        }
        let here = Context::with(|context| context.map_or(0, Context::identity));
        if here != self.maker {
            // Another worker has taken it, so there are some with nothing to do.
            self.maker = here;
            self.pieces = self.pieces_max.max(self.pieces);
        }
        self.pieces /= 2;
        self.pieces > 0
    }
}

pub(super) fn chunks(shared: &Shared, range: Range<usize>, body: &(impl Fn(Range<usize>) + Sync)) {
    fn go(shared: &Shared, range: Range<usize>, mut splitter: Splitter, body: &(impl Fn(Range<usize>) + Sync)) {
        if !splitter.splits(range.len()) {
            return body(range);
        }
        let middle = range.start + range.len() / 2;
        join_in(shared, || go(shared, range.start..middle, splitter, body), || go(shared, middle..range.end, splitter, body));
    }
    if !range.is_empty() {
        go(shared, range, Splitter::new(shared), body);
    }
}

/// Gives parts of `values` to `body`, each with the index of its first element; all but the last are a multiple of `unit` long.
pub(super) fn slices<T: Send>(shared: &Shared, values: &mut [T], unit: usize, body: &(impl Fn(usize, &mut [T]) + Sync)) {
    fn go<T: Send>(
        shared: &Shared,
        first: usize,
        values: &mut [T],
        unit: usize,
        mut splitter: Splitter,
        body: &(impl Fn(usize, &mut [T]) + Sync),
    ) {
        let units = values.len().div_ceil(unit);
        if !splitter.splits(units) {
            return body(first, values);
        }
        let middle = units / 2 * unit;
        let (left, right) = values.split_at_mut(middle);
        join_in(shared, || go(shared, first, left, unit, splitter, body), || go(shared, first + middle, right, unit, splitter, body));
    }
    if !values.is_empty() {
        go(shared, 0, values, unit, Splitter::new(shared), body);
    }
}

pub(super) fn map_reduce<T: Send>(
    shared: &Shared,
    range: Range<usize>,
    identity: &(impl Fn() -> T + Sync),
    map: &(impl Fn(usize) -> T + Sync),
    reduce: &(impl Fn(T, T) -> T + Sync),
) -> T {
    fn go<T: Send>(
        shared: &Shared,
        range: Range<usize>,
        mut splitter: Splitter,
        identity: &(impl Fn() -> T + Sync),
        map: &(impl Fn(usize) -> T + Sync),
        reduce: &(impl Fn(T, T) -> T + Sync),
    ) -> T {
        if !splitter.splits(range.len()) {
            return range.map(map).fold(identity(), reduce);
        }
        let middle = range.start + range.len() / 2;
        let (left, right) = join_in(
            shared,
            || go(shared, range.start..middle, splitter, identity, map, reduce),
            || go(shared, middle..range.end, splitter, identity, map, reduce),
        );
        reduce(left, right)
    }
    go(shared, range, Splitter::new(shared), identity, map, reduce)
}
