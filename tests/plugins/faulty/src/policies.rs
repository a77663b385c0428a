//! Policies that panic, or decide what cannot be, at the place that their names say. The file is copied as `libponiard_policy_faulty-<place>.so`.

use poniard_interface::policy::{Decision, End, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, View, Why};

/// Exports a policy that panics in the entry of its name, or does something else that is wrong.
macro_rules! export {
    ($($entry:literal),* $(,)?) => {
        $(poniard_interface::export_policy!($entry, "faulty on purpose", Faulty::new($entry));)*
    };
}

export!(
    "faulty-make",
    "faulty-name",
    "faulty-place",
    "faulty-key",
    "faulty-end",
    "faulty-accepts",
    "faulty-busy",
    "faulty-victims",
    "faulty-last",
    "faulty-offers",
    "faulty-steal",
    "faulty-share",
    "faulty-ended",
    "faulty-foreign-place",
    "faulty-no-place",
    "faulty-instead",
    "faulty-foreign-victim",
    "faulty-accepts-none",
    "faulty-numbers",
    // Not faulty, but called as one that comes with the runtime.
    "fifo",
);

/// Places all at one place and steals, so that every entry is called, and is faulty in one way.
#[derive(Debug)]
struct Faulty(&'static str);

impl Faulty {
    fn new(name: &'static str) -> Self {
        let faulty = Self(name);
        faulty.strike("faulty-make");
        faulty
    }

    fn is(&self, entry: &str) -> bool {
        self.0 == entry
    }

    fn strike(&self, entry: &str) {
        assert!(!self.is(entry), "this policy was told to panic in {entry}");
    }
}

impl Policy for Faulty {
    fn name(&self) -> &'static str {
        if self.is("faulty-name") { "another" } else { self.0 }
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        self.strike("faulty-place");
        if self.is("faulty-accepts") || self.is("faulty-accepts-none") {
            return Decision::shared(Why::Rule);
        }
        let (placement, why) = match self.0 {
            "faulty-foreign-place" => (Placement::Place(usize::MAX), Why::Rule),
            "faulty-no-place" => (Placement::Shared, Why::NoPlace),
            "faulty-instead" => (Placement::Place(task.candidates[0].place), Why::Hysteresis { instead: view.places.len() }),
            // All at one place, so that the others steal.
            _ => (Placement::Place(task.candidates[0].place), Why::Rule),
        };
        Decision { placement, why, finish_ns: Some(u64::MAX) }
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        self.strike("faulty-key");
        let extreme = if task.number.is_multiple_of(2) { i64::MIN } else { i64::MAX };
        if self.is("faulty-numbers") { Key([extreme; 3]) } else { Key::default() }
    }

    fn end(&self, _place: usize, _places: &[Place]) -> End {
        self.strike("faulty-end");
        End::default()
    }

    fn accepts(&self, _place: usize, _key: Key, _waiting: usize, _places: &[Place]) -> bool {
        self.strike("faulty-accepts");
        !self.is("faulty-accepts-none")
    }

    fn keeps_all_busy(&self) -> bool {
        self.strike("faulty-busy");
        true
    }

    fn victims(&mut self, _thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        self.strike("faulty-victims");
        order.extend(0..view.places.len());
        if self.is("faulty-foreign-victim") {
            order.push(view.places.len());
        }
    }

    fn steals_last(&self) -> bool {
        self.strike("faulty-last");
        false
    }

    fn offers(&self) -> usize {
        self.strike("faulty-offers");
        if self.is("faulty-numbers") { usize::MAX } else { 1 }
    }

    fn steal(&self, _offer: &Offer<'_>, _places: &[Place]) -> Option<u64> {
        self.strike("faulty-steal");
        Some(if self.is("faulty-numbers") { u64::MAX } else { 0 })
    }

    fn share(&self, waiting: usize) -> usize {
        self.strike("faulty-share");
        if self.is("faulty-numbers") { usize::MAX } else { waiting }
    }

    fn ended(&mut self, _outcome: &Outcome) {
        self.strike("faulty-ended");
    }
}
