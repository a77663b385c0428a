//! A policy on both sides of the boundary: its stable twin, the plugin's half, which catches panics, and the host's half.
//!
//! A policy is asked several times for each task, about all places. So slices of places and of candidates are not copied: the types of the contract and their twins have one layout, which
//! is checked below.
#![expect(unsafe_code, reason = "slices of the contract's types are looked at as slices of their twins")]

use std::fmt;
use std::mem::offset_of;
use std::panic::resume_unwind;

use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, ROption, RSlice, RStr, RVec};
use abi_stable::type_layout::TypeLayout;

use super::exported::{guard, hush};
use super::imported::value;
use super::objects::Outcome;
use crate::policy::{self, Candidate, Decision, End, Estimate, Key, Offer, Place, Placement, Policy, Random, ReadyTask, View, Why};

#[cfg(test)]
mod tests;

/// Twin of [`Estimate`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableEstimate {
    pub mean_ns: u64,
    pub spread_ns: u64,
    pub count: u32,
}

/// Twin of [`Candidate`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableCandidate {
    pub place: usize,
    pub execution: StableEstimate,
    pub transfer_ns: u64,
    pub missing_bytes: u64,
    pub overhead_ns: u64,
}

/// Twin of [`Place`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StablePlace {
    pub class: u32,
    pub space: u32,
    pub parallel: u32,
    pub prefetches: bool,
    pub active: bool,
    pub queued: usize,
    pub queued_ns: u64,
    pub backlog_ns: u64,
}

/// A type of the contract whose twin has its layout.
trait Twinned: Sized {
    type Twin;

    /// The same slice for the other side.
    fn twins(slice: &[Self]) -> RSlice<'_, Self::Twin>;

    /// The same slice from the other side.
    fn originals(slice: RSlice<'_, Self::Twin>) -> &[Self];
}

/// Says that a type and its twin have one layout, and checks it: the same fields, of the same types, at the same offsets.
macro_rules! twins {
    ($type:ident, $twin:ident: $($field:ident),*) => {
        const _: () = {
            assert!(size_of::<$type>() == size_of::<$twin>() && align_of::<$type>() == align_of::<$twin>());
            $(assert!(offset_of!($type, $field) == offset_of!($twin, $field));)*
        };

        impl From<$type> for $twin {
            fn from($type { $($field),* }: $type) -> Self {
                Self { $($field: $field.into()),* }
            }
        }

        impl From<$twin> for $type {
            fn from($twin { $($field),* }: $twin) -> Self {
                Self { $($field: $field.into()),* }
            }
        }

        impl Twinned for $type {
            type Twin = $twin;

            fn twins(slice: &[Self]) -> RSlice<'_, $twin> {
                // SAFETY: the two types have one layout, which is checked above, and every value of one is a value of the other: the conversions above do not fail.
                // The pointer and the length are those of a slice that is borrowed for as long.
                RSlice::from_slice(unsafe { std::slice::from_raw_parts(slice.as_ptr().cast::<$twin>(), slice.len()) })
            }

            fn originals(slice: RSlice<'_, $twin>) -> &[Self] {
                let slice = slice.as_slice();
                // SAFETY: as above.
                unsafe { std::slice::from_raw_parts(slice.as_ptr().cast::<$type>(), slice.len()) }
            }
        }
    };
}

twins!(Estimate, StableEstimate: mean_ns, spread_ns, count);
twins!(Candidate, StableCandidate: place, execution, transfer_ns, missing_bytes, overhead_ns);
twins!(Place, StablePlace: class, space, parallel, prefetches, active, queued, queued_ns, backlog_ns);

/// Twin of [`ReadyTask`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableReadyTask<'a> {
    pub number: u64,
    pub code: u64,
    pub priority: i32,
    pub rank_ns: ROption<u64>,
    pub bytes: u64,
    pub origin: ROption<usize>,
    pub candidates: RSlice<'a, StableCandidate>,
}

impl<'a> From<ReadyTask<'a>> for StableReadyTask<'a> {
    fn from(ReadyTask { number, code, priority, rank_ns, bytes, origin, candidates }: ReadyTask<'a>) -> Self {
        let candidates = Candidate::twins(candidates);
        Self { number, code, priority, rank_ns: rank_ns.into(), bytes, origin: origin.into(), candidates }
    }
}

impl<'a> From<StableReadyTask<'a>> for ReadyTask<'a> {
    fn from(StableReadyTask { number, code, priority, rank_ns, bytes, origin, candidates }: StableReadyTask<'a>) -> Self {
        let candidates = Candidate::originals(candidates);
        Self { number, code, priority, rank_ns: rank_ns.into(), bytes, origin: origin.into(), candidates }
    }
}

/// Twin of [`View`]; of the random numbers, the seed of those to come.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct StableView<'a> {
    pub now_ns: u64,
    pub places: RSlice<'a, StablePlace>,
    pub seed: &'a mut u64,
}

/// Twin of [`Why`]: a number, so that one that this side does not know is no undefined value, and what it says.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableWhy {
    pub number: u32,
    pub said: [u64; 2],
}

/// The reasons that say nothing more, by their numbers. New ones come at the end.
const PLAIN: [Why; 10] = [
    Why::Rule,
    Why::OnlyCandidate,
    Why::NoPlace,
    Why::FirstFree,
    Why::Chance,
    Why::Origin,
    Why::Data,
    Why::EarliestFinish,
    Why::Guessed,
    Why::Ratio,
];
/// The numbers of those that do.
const EXPLORED: u32 = 100;
const HYSTERESIS: u32 = 101;

impl From<Why> for StableWhy {
    fn from(why: Why) -> Self {
        match why {
            Why::Explored { instead_ns, regret_ns } => Self { number: EXPLORED, said: [instead_ns, regret_ns] },
            Why::Hysteresis { instead } => Self { number: HYSTERESIS, said: [instead as u64, 0] },
            plain => Self { number: PLAIN.iter().position(|known| *known == plain).unwrap_or(0) as u32, said: [0; 2] },
        }
    }
}

impl From<StableWhy> for Why {
    fn from(StableWhy { number, said: [first, second] }: StableWhy) -> Self {
        match number {
            EXPLORED => Self::Explored { instead_ns: first, regret_ns: second },
            HYSTERESIS => Self::Hysteresis { instead: first as usize },
            plain => PLAIN.get(plain as usize).copied().unwrap_or(Self::Rule),
        }
    }
}

/// Twin of [`Decision`]; the place is `RNone` for the queue for all.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableDecision {
    pub place: ROption<usize>,
    pub why: StableWhy,
    pub finish_ns: ROption<u64>,
}

fn place_of(placement: Placement) -> ROption<usize> {
    match placement {
        Placement::Place(place) => ROption::RSome(place),
        Placement::Shared => ROption::RNone,
    }
}

fn placement_at(place: ROption<usize>) -> Placement {
    match place {
        ROption::RSome(place) => Placement::Place(place),
        ROption::RNone => Placement::Shared,
    }
}

impl From<Decision> for StableDecision {
    fn from(Decision { placement, why, finish_ns }: Decision) -> Self {
        Self { place: place_of(placement), why: why.into(), finish_ns: finish_ns.into() }
    }
}

impl From<StableDecision> for Decision {
    fn from(StableDecision { place, why, finish_ns }: StableDecision) -> Self {
        Self { placement: placement_at(place), why: why.into(), finish_ns: finish_ns.into() }
    }
}

/// Twin of [`Key`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableKey {
    pub numbers: [i64; 3],
}

/// Twin of [`Offer`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableOffer {
    pub code: u64,
    pub here: StableCandidate,
    pub there: StableCandidate,
    pub wait_ns: u64,
    pub why: StableWhy,
}

/// Twin of [`policy::Outcome`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableEnded {
    pub code: u64,
    pub placed_class: ROption<u32>,
    pub why: StableWhy,
    pub ran_class: ROption<u32>,
    pub ran_ns: u64,
}

/// Twin of [`Policy`]. An end of a queue is `last_level` and `last_within`.
#[sabi_trait]
pub trait StablePolicy: Send {
    fn name(&self) -> Outcome<RStr<'static>>;
    fn summary(&self) -> Outcome<RStr<'static>>;
    fn place(&mut self, task: StableReadyTask<'_>, view: StableView<'_>) -> Outcome<StableDecision>;
    fn key(&self, task: StableReadyTask<'_>, place: ROption<usize>, places: RSlice<'_, StablePlace>) -> Outcome<StableKey>;
    fn end(&self, place: usize, places: RSlice<'_, StablePlace>) -> Outcome<[bool; 2]>;
    fn accepts(&self, place: usize, key: StableKey, waiting: usize, places: RSlice<'_, StablePlace>) -> Outcome<bool>;
    fn keeps_all_busy(&self) -> Outcome<bool>;
    fn victims(&mut self, thief: usize, view: StableView<'_>) -> Outcome<RVec<usize>>;
    fn steals_last(&self) -> Outcome<bool>;
    fn offers(&self) -> Outcome<usize>;
    fn steal(&self, offer: StableOffer, places: RSlice<'_, StablePlace>) -> Outcome<ROption<u64>>;
    fn share(&self, waiting: usize) -> Outcome<usize>;
    fn wants_ranks(&self) -> Outcome<bool>;
    #[sabi(last_prefix_field)]
    fn ended(&mut self, ended: StableEnded) -> Outcome<()>;
}

/// A policy of the other side.
pub type PolicyObject = StablePolicy_TO<'static, RBox<()>>;

/// What [`CreatePolicy`] returns.
pub type CreatedPolicy = Outcome<PolicyObject>;

/// Makes the policy of a plugin.
pub type CreatePolicy = extern "C" fn() -> CreatedPolicy;

/// The layout of everything of a policy that crosses the boundary: [`PolicyObject`] reaches all of it.
pub extern "C" fn policy_layout() -> &'static TypeLayout {
    <PolicyObject as StableAbi>::LAYOUT
}

/// Makes a stable policy of what `make` returns; a panic in it is an error. Used by [`export_policy!`](crate::export_policy).
pub fn create_policy<P: Policy + 'static>(summary: &'static str, make: fn() -> P) -> CreatedPolicy {
    hush();
    guard(|| Ok(PolicyObject::from_value(ExportedPolicy { policy: Box::new(make()), summary }, TD_Opaque)))
}

/// The plugin's half.
struct ExportedPolicy {
    policy: Box<dyn Policy>,
    summary: &'static str,
}

/// Has `ask` see a view of the other side's.
fn viewed<T>(view: StableView<'_>, ask: impl FnOnce(&mut View<'_>) -> T) -> T {
    let mut random = Random::new(*view.seed);
    let answer = ask(&mut View { now_ns: view.now_ns, places: Place::originals(view.places), random: &mut random });
    *view.seed = random.seed();
    answer
}

impl StablePolicy for ExportedPolicy {
    fn name(&self) -> Outcome<RStr<'static>> {
        guard(|| Ok(RStr::from_str(self.policy.name())))
    }

    fn summary(&self) -> Outcome<RStr<'static>> {
        guard(|| Ok(RStr::from_str(self.summary)))
    }

    fn place(&mut self, task: StableReadyTask<'_>, view: StableView<'_>) -> Outcome<StableDecision> {
        guard(|| Ok(viewed(view, |view| self.policy.place(&task.into(), view)).into()))
    }

    fn key(&self, task: StableReadyTask<'_>, place: ROption<usize>, places: RSlice<'_, StablePlace>) -> Outcome<StableKey> {
        guard(|| Ok(StableKey { numbers: self.policy.key(&task.into(), placement_at(place), Place::originals(places)).0 }))
    }

    fn end(&self, place: usize, places: RSlice<'_, StablePlace>) -> Outcome<[bool; 2]> {
        guard(|| {
            let End { last_level, last_within } = self.policy.end(place, Place::originals(places));
            Ok([last_level, last_within])
        })
    }

    fn accepts(&self, place: usize, key: StableKey, waiting: usize, places: RSlice<'_, StablePlace>) -> Outcome<bool> {
        guard(|| Ok(self.policy.accepts(place, Key(key.numbers), waiting, Place::originals(places))))
    }

    fn keeps_all_busy(&self) -> Outcome<bool> {
        guard(|| Ok(self.policy.keeps_all_busy()))
    }

    fn victims(&mut self, thief: usize, view: StableView<'_>) -> Outcome<RVec<usize>> {
        guard(|| {
            let mut order = Vec::new();
            viewed(view, |view| self.policy.victims(thief, view, &mut order));
            Ok(order.into())
        })
    }

    fn steals_last(&self) -> Outcome<bool> {
        guard(|| Ok(self.policy.steals_last()))
    }

    fn offers(&self) -> Outcome<usize> {
        guard(|| Ok(self.policy.offers()))
    }

    fn steal(&self, offer: StableOffer, places: RSlice<'_, StablePlace>) -> Outcome<ROption<u64>> {
        guard(|| {
            let StableOffer { code, here, there, wait_ns, why } = offer;
            let offer = Offer { code, here: &here.into(), there: &there.into(), wait_ns, why: why.into() };
            Ok(self.policy.steal(&offer, Place::originals(places)).into())
        })
    }

    fn share(&self, waiting: usize) -> Outcome<usize> {
        guard(|| Ok(self.policy.share(waiting)))
    }

    fn wants_ranks(&self) -> Outcome<bool> {
        guard(|| Ok(self.policy.wants_ranks()))
    }

    fn ended(&mut self, ended: StableEnded) -> Outcome<()> {
        guard(|| {
            let StableEnded { code, placed_class, why, ran_class, ran_ns } = ended;
            let ran = ran_class.into_option().map(|class| (class, ran_ns));
            self.policy.ended(&policy::Outcome { code, placed_class: placed_class.into(), why: why.into(), ran });
            Ok(())
        })
    }
}

/// The policy behind a plugin's `create`, and what it does in one line. An entry that fails unwinds with [`EntryFailed`], and nothing is printed: a policy has no other way to
/// say so, and whoever uses one of a stranger's catches it.
///
/// # Errors
/// In words, that making it or asking for its name panicked.
pub fn import_policy(created: CreatedPolicy) -> Result<(Box<dyn Policy>, &'static str), String> {
    let object = value(created)?;
    // The plugin is never unloaded, so its text stays.
    let (name, summary) = (value(object.name())?.as_str(), value(object.summary())?.as_str());
    Ok((Box::new(ImportedPolicy { object, name }), summary))
}

/// What an entry of a policy that failed unwinds with: what it said.
#[derive(Clone, Debug)]
pub struct EntryFailed(pub String);

/// The host's half.
struct ImportedPolicy {
    object: PolicyObject,
    name: &'static str,
}

impl fmt::Debug for ImportedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportedPolicy").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an entry answers; unwinds if it failed.
fn answer<T>(outcome: Outcome<T>) -> T {
    value(outcome).unwrap_or_else(|said| resume_unwind(Box::new(EntryFailed(said))))
}

/// Has `ask` ask the other side with a view.
fn shown<T>(view: &mut View<'_>, ask: impl FnOnce(StableView<'_>) -> T) -> T {
    let mut seed = view.random.seed();
    let answer = ask(StableView { now_ns: view.now_ns, places: Place::twins(view.places), seed: &mut seed });
    *view.random = Random::new(seed);
    answer
}

impl Policy for ImportedPolicy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        answer(shown(view, |view| self.object.place((*task).into(), view))).into()
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, places: &[Place]) -> Key {
        Key(answer(self.object.key((*task).into(), place_of(placement), Place::twins(places))).numbers)
    }

    fn end(&self, place: usize, places: &[Place]) -> End {
        let [last_level, last_within] = answer(self.object.end(place, Place::twins(places)));
        End { last_level, last_within }
    }

    fn accepts(&self, place: usize, key: Key, waiting: usize, places: &[Place]) -> bool {
        answer(self.object.accepts(place, StableKey { numbers: key.0 }, waiting, Place::twins(places)))
    }

    fn keeps_all_busy(&self) -> bool {
        answer(self.object.keeps_all_busy())
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        order.extend(answer(shown(view, |view| self.object.victims(thief, view))));
    }

    fn steals_last(&self) -> bool {
        answer(self.object.steals_last())
    }

    fn offers(&self) -> usize {
        answer(self.object.offers())
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        let Offer { code, here, there, wait_ns, why } = *offer;
        let offer = StableOffer { code, here: (*here).into(), there: (*there).into(), wait_ns, why: why.into() };
        answer(self.object.steal(offer, Place::twins(places))).into()
    }

    fn share(&self, waiting: usize) -> usize {
        answer(self.object.share(waiting))
    }

    fn wants_ranks(&self) -> bool {
        answer(self.object.wants_ranks())
    }

    fn ended(&mut self, outcome: &policy::Outcome) {
        let policy::Outcome { code, placed_class, why, ran } = *outcome;
        let (ran_class, ran_ns) = ran.map_or((ROption::RNone, 0), |(class, ns)| (ROption::RSome(class), ns));
        answer(self.object.ended(StableEnded { code, placed_class: placed_class.into(), why: why.into(), ran_class, ran_ns }));
    }
}
