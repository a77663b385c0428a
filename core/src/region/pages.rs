//! Which pages of a value the body of a task has nothing to do with.

use super::shadow::{Declared, Lying};
use crate::mutable::Mode;

/// Whole pages, by where they begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) begin: usize,
    pub(super) end: usize,
    /// The body may look at what lies there.
    pub(super) may_read: bool,
}

/// Where a body was that had no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) address: usize,
    pub(super) was_written: bool,
}

/// What a task may do with a page, by the elements that lie on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum May {
    Nothing,
    Read,
    All,
}

impl May {
    fn of(mode: Mode) -> Self {
        // A task that reduces has a copy, or in a plan the value itself.
        if mode == Mode::Read { Self::Read } else { Self::All }
    }
}

/// The whole pages between the first of a value's elements and the last that a task may not touch, or only read, with these accesses to the value.
pub(super) fn closed(lying: &Lying, declared: &[&Declared], page_bytes: usize, into: &mut Vec<Stretch>) {
    let (first, behind) = (lying.begin().div_ceil(page_bytes), lying.end() / page_bytes);
    if first >= behind {
        return;
    }
    let mut add = |pages: std::ops::Range<usize>, may: May| {
        if may != May::All && !pages.is_empty() {
            into.push(Stretch { begin: pages.start * page_bytes, end: pages.end * page_bytes, may_read: may == May::Read });
        }
    };
    let whole = declared.iter().filter(|access| access.spans.is_none()).map(|access| May::of(access.mode)).max().unwrap_or(May::Nothing);
    if declared.iter().all(|access| access.spans.is_none()) {
        return add(first..behind, whole);
    }
    let mut pages = vec![whole; behind - first];
    for (spans, mode) in declared.iter().filter_map(|access| Some((access.spans.as_deref()?, access.mode))) {
        for (start, len) in spans.runs() {
            let touched = lying.address_of(start) / page_bytes..lying.address_of(start + len).div_ceil(page_bytes);
            let inside = touched.start.clamp(first, behind) - first..touched.end.clamp(first, behind) - first;
            pages[inside].iter_mut().for_each(|may| *may = May::of(mode).max(*may));
        }
    }
    let mut begin = first;
    for alike in pages.chunk_by(|one, next| one == next) {
        add(begin..begin + alike.len(), alike[0]);
        begin += alike.len();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::error::TaskError;
    use crate::mutable::{CopyKind, Historic, HistoryLock, Line};
    use crate::part::{Form, Spans};
    use crate::region::shadow::Shown;

    /// Has a name and nothing else.
    #[derive(Default)]
    struct Nobody(HistoryLock, Mutex<Line>);

    impl Historic for Nobody {
        fn history(&self) -> &HistoryLock {
            &self.0
        }
        fn line(&self) -> &Mutex<Line> {
            &self.1
        }
        fn settle_but(&self, _: Option<CopyKind>) {}
        fn location(&self) -> &'static Location<'static> {
            Location::caller()
        }
        fn lying(&self) -> Option<Lying> {
            None
        }
        fn show(&self) -> Option<Shown> {
            None
        }
        fn consumed(&self) -> Option<TaskError> {
            None
        }
        fn make_ready(&self, _: poniard_interface::Access) -> Result<(), String> {
            Ok(())
        }
    }

    /// Pages of 64 bytes of a matrix of ten rows of 16 elements with 8 bytes each, which begins 8 bytes before a page, by rows or by columns.
    fn closed_of(strides: [isize; 2], accesses: &[(Option<Spans>, Mode)]) -> Vec<(usize, usize, bool)> {
        let form = Form::new(&[10, 16], &strides).unwrap_or_else(|error| panic!("{error}"));
        let lying = Lying { address: (64 * 100 - 8 - form.spans().bounds().0 * 8) as usize, form, element_bytes: 8 };
        let owner = Arc::new(Nobody::default());
        let declared: Vec<_> = accesses
            .iter()
            .map(|(spans, mode)| Declared { owner: Arc::clone(&owner) as _, spans: spans.clone().map(Arc::new), mode: *mode })
            .collect();
        let mut found = Vec::new();
        closed(&lying, &declared.iter().collect::<Vec<_>>(), 64, &mut found);
        found.into_iter().map(|stretch| (stretch.begin / 64 - 100, stretch.end / 64 - 100, stretch.may_read)).collect()
    }

    #[test]
    fn whole_pages_without_an_element_that_is_declared_are_closed() {
        let rows = [16, 1];
        assert_eq!(closed_of(rows, &[]), [(0, 19, false)]);
        assert_eq!(closed_of(rows, &[(None, Mode::Read)]), [(0, 19, true)]);
        assert_eq!(closed_of(rows, &[(None, Mode::Commute)]), []);
        // Element 1 is the first one of the first page; 9 the first one of the next.
        assert_eq!(closed_of(rows, &[(Some(Spans::run(1, 8)), Mode::Write)]), [(1, 19, false)]);
        assert_eq!(closed_of(rows, &[(Some(Spans::run(8, 2)), Mode::Write)]), [(2, 19, false)]);
        assert_eq!(closed_of(rows, &[(Some(Spans::run(20, 1)), Mode::Read)]), [(0, 2, false), (2, 3, true), (3, 19, false)]);
        let two = [(Some(Spans::run(20, 1)), Mode::Read), (Some(Spans::run(21, 1)), Mode::Overwrite)];
        assert_eq!(closed_of(rows, &two), [(0, 2, false), (3, 19, false)]);
        assert_eq!(closed_of(rows, &[(Some(Spans::run(159, 1)), Mode::Write)]), [(0, 19, false)], "on no whole page");
    }

    #[test]
    fn strides_may_be_negative() {
        // The last row lies first.
        assert_eq!(closed_of([-16, 1], &[(Some(Spans::run(0, 16)), Mode::Write)]), [(0, 17, false)]);
        assert_eq!(closed_of([-16, 1], &[]), [(0, 19, false)]);
    }
}
