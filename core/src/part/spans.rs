//! Whether two parts of a value have an element in common: decided exactly, and where their rows are equally far apart, without a look at each row.
//!
//! Positions are counted in elements from the value's first one in memory; elements of one value have one size.

use std::cmp::Ordering;

/// Equally long runs of elements, equally far apart: what a rectangle of a matrix is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Comb {
    start: i64,
    /// Elements of one run, at least 1.
    len: i64,
    /// From one run's start to the next one's: more than `len`; 0 if there is one run.
    pitch: i64,
    /// Number of runs, at least 1.
    count: i64,
}

impl Comb {
    /// Runs that touch are one.
    fn new(start: i64, len: i64, pitch: i64, count: i64) -> Self {
        debug_assert!(len > 0 && count > 0 && (count == 1 || pitch >= len), "elements of a part do not lie upon each other");
        match count {
            1 => Self { start, len, pitch: 0, count: 1 },
            _ if pitch == len => Self { start, len: len * count, pitch: 0, count: 1 },
            _ => Self { start, len, pitch, count },
        }
    }

    /// Behind the last element.
    fn end(&self) -> i64 {
        self.start + (self.count - 1) * self.pitch + self.len
    }

    /// Whether it has an element in `start..end`.
    fn meets_run(&self, start: i64, end: i64) -> bool {
        if self.count == 1 {
            return self.start < end && start < self.start + self.len;
        }
        // The first run that ends behind `start`.
        let run = ((start - self.start - self.len).div_euclid(self.pitch) + 1).max(0);
        run < self.count && self.start + run * self.pitch < end
    }

    fn meets(&self, other: &Self) -> bool {
        if self.start >= other.end() || other.start >= self.end() {
            return false;
        }
        if self.count == 1 {
            return other.meets_run(self.start, self.end());
        }
        if other.count == 1 {
            return self.meets_run(other.start, other.end());
        }
        if self.pitch == other.pitch {
            return self.meets_of_same_pitch(other);
        }
        let (few, many) = if self.count <= other.count { (self, other) } else { (other, self) };
        (0..few.count).map(|run| few.start + run * few.pitch).any(|start| many.meets_run(start, start + few.len))
    }

    /// Run i of this one meets run j of the other exactly if `(i - j) * pitch` is more than `distance - self.len` and less than `distance + other.len`, and
    /// `i - j` may be anything between `1 - other.count` and `self.count - 1`.
    fn meets_of_same_pitch(&self, other: &Self) -> bool {
        let distance = other.start - self.start;
        let least = (distance - self.len).div_euclid(self.pitch) + 1;
        let most = (distance + other.len - 1).div_euclid(self.pitch);
        least.max(1 - other.count) <= most.min(self.count - 1)
    }
}

/// The elements of a part.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    /// In ascending order.
    combs: Box<[Comb]>,
    /// Where the first element lies, and behind the last one.
    bounds: (i64, i64),
}

impl Spans {
    fn of(mut combs: Vec<Comb>) -> Self {
        combs.sort_unstable();
        let start = combs.first().map_or(0, |comb| comb.start);
        let end = combs.iter().map(Comb::end).max().unwrap_or(start);
        Self { combs: combs.into(), bounds: (start, end) }
    }

    /// So many elements from a position on.
    pub(crate) fn run(start: i64, len: usize) -> Self {
        Self::of(if len == 0 { Vec::new() } else { vec![Comb::new(start, len as i64, 0, 1)] })
    }

    /// The elements of a rectangle of any number of dimensions, each with its length and its stride, which may be negative.
    pub(crate) fn of_rectangle(mut start: i64, dimensions: impl IntoIterator<Item = (usize, isize)>) -> Self {
        let mut sides = Vec::new();
        for (len, stride) in dimensions {
            match len {
                0 => return Self::of(Vec::new()),
                1 => {}
                _ => {
                    if stride < 0 {
                        start += (len as i64 - 1) * stride as i64;
                    }
                    sides.push((stride.unsigned_abs() as i64, len as i64));
                }
            }
        }
        sides.sort_unstable();
        // What is dense is one run; what comes above it makes a comb of it; the rest makes many combs.
        let mut sides = sides.into_iter().peekable();
        let mut len = 1;
        while let Some((_, more)) = sides.next_if(|(stride, _)| *stride == len) {
            len *= more;
        }
        let (pitch, mut count) = sides.next().unwrap_or((0, 1));
        while let Some((_, more)) = sides.next_if(|(stride, _)| *stride == pitch * count) {
            count *= more;
        }
        let mut starts = vec![start];
        for (stride, len) in sides {
            starts = (0..len).flat_map(|step| starts.iter().map(move |start| start + step * stride)).collect();
        }
        Self::of(starts.into_iter().map(|start| Comb::new(start, len, pitch, count)).collect())
    }

    /// Those elements of a matrix whose column less whose row is in `band`.
    pub(crate) fn of_band(start: i64, [rows, columns]: [(usize, isize); 2], band: (i64, i64)) -> Self {
        let (low, high) = band;
        let ((row_count, row_stride), (column_count, column_stride)) = (rows, columns);
        let (row_count, column_count) = (row_count as i64, column_count as i64);
        let (row_stride, column_stride) = (row_stride as i64, column_stride as i64);
        if row_count == 0 || column_count == 0 {
            return Self::of(Vec::new());
        }
        // Row by row where a row is dense, or no column is: else column by column.
        let by_row = column_stride.abs() == 1 || row_stride.abs() != 1;
        let mut combs: Vec<Comb> = Vec::new();
        let mut add = |first: i64, count: i64, stride: i64| {
            if count > 0 {
                let first = if stride < 0 { first + (count - 1) * stride } else { first };
                combs.push(if stride.abs() == 1 { Comb::new(first, count, 0, 1) } else { Comb::new(first, 1, stride.abs(), count) });
            }
        };
        if low == high {
            // A diagonal.
            let (row, column) = ((-low).max(0), low.max(0));
            let count = (row_count - row).min(column_count - column);
            add(start + row * row_stride + column * column_stride, count, row_stride + column_stride);
        } else if by_row {
            for row in 0..row_count {
                let first = row.saturating_add(low).max(0);
                let count = row.saturating_add(high).min(column_count - 1) - first + 1;
                add(start + row * row_stride + first * column_stride, count, column_stride);
            }
        } else {
            for column in 0..column_count {
                let first = column.saturating_sub(high).max(0);
                let count = column.saturating_sub(low).min(row_count - 1) - first + 1;
                add(start + column * column_stride + first * row_stride, count, row_stride);
            }
        }
        Self::of(combs)
    }

    /// Those bytes that they are, if each has so many.
    pub(crate) fn scaled(&self, element_bytes: usize) -> Self {
        let bytes = element_bytes as i64;
        let scaled = |comb: &Comb| Comb { start: comb.start * bytes, len: comb.len * bytes, pitch: comb.pitch * bytes, count: comb.count };
        Self { combs: self.combs.iter().map(scaled).collect(), bounds: (self.bounds.0 * bytes, self.bounds.1 * bytes) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.combs.is_empty()
    }

    /// Where the first element lies, and behind the last one.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        self.bounds
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.combs.iter().map(|comb| (comb.len * comb.count) as usize).sum()
    }

    /// Whether an element is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        if self.bounds.0 >= other.bounds.1 || other.bounds.0 >= self.bounds.1 {
            return false;
        }
        let (one, two) = (&*self.combs, &*other.combs);
        if one.iter().chain(two).all(|comb| comb.count == 1) {
            return runs_meet(one, two);
        }
        one.iter().any(|comb| two.iter().any(|other| comb.meets(other)))
    }

    /// Whether an element is among them.
    pub(crate) fn has(&self, position: i64) -> bool {
        self.combs.iter().any(|comb| comb.meets_run(position, position + 1))
    }

    /// Where the runs begin, in no particular order, with their lengths.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.combs.iter().flat_map(|comb| (0..comb.count).map(|run| (comb.start + run * comb.pitch, comb.len)))
    }
}

/// Whether two ascending lists of single runs, each without overlaps in itself, have an element in common.
fn runs_meet(one: &[Comb], two: &[Comb]) -> bool {
    let (mut one, mut two) = (one.iter().peekable(), two.iter().peekable());
    while let (Some(a), Some(b)) = (one.peek(), two.peek()) {
        if a.start < b.end() && b.start < a.end() {
            return true;
        }
        if a.end() <= b.start {
            one.next()
        } else {
            two.next()
        };
    }
    false
}

// By what is cheap to compare first; any order will do.
impl Ord for Spans {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bounds.cmp(&other.bounds).then_with(|| self.combs.cmp(&other.combs))
    }
}

impl PartialOrd for Spans {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn elements(spans: &Spans) -> BTreeSet<i64> {
        let all: Vec<i64> = spans.runs().flat_map(|(start, len)| start..start + len).collect();
        let set: BTreeSet<i64> = all.iter().copied().collect();
        assert_eq!(set.len(), all.len(), "an element is named twice: {spans:?}");
        set
    }

    /// Sides of a value of up to four dimensions without gaps, in any order of its axes, some of them reversed, and a rectangle of it with steps.
    fn rectangles() -> impl Strategy<Value = Vec<(i64, Vec<(usize, isize)>)>> {
        let value = (prop::collection::vec(1usize..7, 1..5), any::<u64>());
        value.prop_flat_map(|(lens, shuffle)| {
            let mut order: Vec<usize> = (0..lens.len()).collect();
            order.sort_by_key(|axis| shuffle.rotate_left(13 * *axis as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut strides = vec![0isize; lens.len()];
            let mut stride = 1isize;
            for axis in order {
                strides[axis] = stride;
                stride *= lens[axis] as isize;
            }
            let side = |(len, stride): (usize, isize)| {
                (0..len, 0..=len, 1usize..4, any::<bool>()).prop_map(move |(first, many, step, reversed)| {
                    let count = many.min(len - first).div_ceil(step);
                    let stride = stride * step as isize;
                    (first, count, if reversed { -stride } else { stride })
                })
            };
            let sides: Vec<_> = lens.into_iter().zip(strides).map(side).collect();
            let rectangle = (sides.clone(),).prop_map(|(sides,)| sides);
            prop::collection::vec(rectangle, 2).prop_map(move |two| two.into_iter().map(placed).collect())
        })
    }

    fn placed(sides: Vec<(usize, usize, isize)>) -> (i64, Vec<(usize, isize)>) {
        let mut start = 0;
        let mut dimensions = Vec::new();
        for (first, count, stride) in sides {
            // Where each side begins only moves the whole; that both are of one value is not needed for an exact answer.
            start += first as i64 * 3 + if stride < 0 { (count.max(1) as i64 - 1) * -stride as i64 } else { 0 };
            dimensions.push((count, stride));
        }
        (start, dimensions)
    }

    fn brute(start: i64, dimensions: &[(usize, isize)]) -> BTreeSet<i64> {
        let mut all = vec![start];
        for (len, stride) in dimensions {
            all = (0..*len as i64).flat_map(|step| all.iter().map(move |at| at + step * *stride as i64)).collect();
        }
        all.into_iter().collect()
    }

    proptest! {
        #[test]
        fn rectangles_have_their_elements_and_meet_where_they_share_one(two in rectangles()) {
            let sets: Vec<_> = two.iter().map(|(start, dimensions)| brute(*start, dimensions)).collect();
            let spans: Vec<_> = two.iter().map(|(start, dimensions)| Spans::of_rectangle(*start, dimensions.iter().copied())).collect();
            for (set, spans) in sets.iter().zip(&spans) {
                prop_assert_eq!(&elements(spans), set);
            }
            let meet = !sets[0].is_disjoint(&sets[1]);
            prop_assert_eq!(spans[0].meets(&spans[1]), meet);
            prop_assert_eq!(spans[1].meets(&spans[0]), meet);
        }

        #[test]
        fn bands_have_their_elements_and_meet_where_they_share_one(
            bands in prop::collection::vec((0usize..7, 0usize..7, -7i64..8, -7i64..8, any::<[bool; 3]>(), 0i64..20), 2)
        ) {
            let mut sets = Vec::new();
            let mut spans = Vec::new();
            for (rows, columns, low, high, [by_columns, down, left], start) in bands {
                let (mut row_stride, mut column_stride) = if by_columns { (1, 8) } else { (8, 1) };
                if down { row_stride = -row_stride };
                if left { column_stride = -column_stride };
                let mut set = BTreeSet::new();
                for row in 0..rows as i64 {
                    for column in 0..columns as i64 {
                        if (low..=high).contains(&(column - row)) {
                            set.insert(start + row * row_stride + column * column_stride);
                        }
                    }
                }
                let sides = [(rows, row_stride as isize), (columns, column_stride as isize)];
                let of_band = Spans::of_band(start, sides, (low, high));
                prop_assert_eq!(&elements(&of_band), &set);
                prop_assert_eq!(of_band.is_empty(), set.is_empty());
                sets.push(set);
                spans.push(of_band);
            }
            let meet = !sets[0].is_disjoint(&sets[1]);
            prop_assert_eq!(spans[0].meets(&spans[1]), meet);
            prop_assert_eq!(spans[1].meets(&spans[0]), meet);
        }

        #[test]
        fn combs_of_any_pitch_meet_where_they_share_an_element(two in prop::collection::vec((0i64..60, 1i64..5, 0i64..9, 1i64..9), 2)) {
            let combs: Vec<Comb> = two.iter().map(|(start, len, gap, count)| Comb::new(*start, *len, len + gap, *count)).collect();
            let sets: Vec<BTreeSet<i64>> = two
                .iter()
                .map(|(start, len, gap, count)| (0..*count).flat_map(|run| (0..*len).map(move |at| start + run * (len + gap) + at)).collect())
                .collect();
            let meet = !sets[0].is_disjoint(&sets[1]);
            prop_assert_eq!(combs[0].meets(&combs[1]), meet);
            prop_assert_eq!(combs[1].meets(&combs[0]), meet);
        }
    }

    #[test]
    fn huge_parts_are_decided_at_once() {
        // Odd and even columns of a matrix of 2^40 elements.
        let columns = |first: i64| Spans::of_rectangle(first, [(1 << 20, 1 << 20), (1 << 19, 2)]);
        let rows = |first: i64| Spans::of_rectangle(first << 20, [(1 << 19, 2 << 20), (1 << 20, 1)]);
        assert!(!rows(0).meets(&rows(1)) && rows(0).meets(&rows(0)));
        assert!(columns(0).meets(&rows(1)) || columns(0).is_empty());
    }
}
