//! What the host has to do with a process in the middle of a call, besides waiting for it: it runs tasks that the process offers, and gives it others as guests.
//!
//! An offer becomes a task of the host's runtime. A guest is a task of the host that only this process may run, or that it would get next: as long as the body of the call
//! waits for others, the process has nothing to do, and what it waits for may itself wait for such a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poniard_interface::RawBuffer;

use super::call::{self, BROKEN, CANCELLED, Ended, FAILED, LATE, Offer, Parcel, SHUT_DOWN};
use super::code::{CodeRef, Key};
use super::offer::{Arrivals, Lease, Offered, Outcome, Received, run_offered};
use super::processor::{Grants, encode_guest};
use crate::error::{FailureKind, TaskError};
use crate::function::{Args, caller};
use crate::options::{Priority, TaskOptions};
use crate::retry::Retrying;
use crate::runtime::spawn_at_once;
use crate::scope::Scope;
use crate::task::record::{TaskRef, Travel, Unspawned};
use crate::task::{Task, Value};
use crate::wire::{NoBuffers, Reader, WireError, Written};
use crate::worker::context::Context;
use crate::worker::entry::Entry;
use crate::worker::fetch::wait_until;
use crate::worker::main_loop::next_guest;
use crate::worker::shared::Shared;
use crate::worker::waiter::park_for;

/// How long a process that waits is left without an answer. Others of its threads cannot ask meanwhile.
const WAIT: Duration = Duration::from_micros(500);

/// What there is between the host and a process during a call.
#[derive(Debug)]
pub(super) struct Trade {
    arrivals: Arc<Arrivals>,
    offers: BTreeMap<u64, (Task<Outcome>, Arc<Lease>)>,
    guests: BTreeMap<u64, Guest>,
    last_guest: u64,
    /// The call is to stop, and nothing is begun for it any more.
    stopped: bool,
    /// Guests that have ended, and bytes of values that were copied for guests, since somebody asked.
    counts: (u64, u64),
}

#[derive(Debug)]
struct Guest {
    task: TaskRef,
    travel: Travel,
    /// They stay until it is over.
    _blocks: Vec<RawBuffer>,
    told: bool,
    retrying: Option<Retrying<()>>,
    attempt: u32,
}

impl Trade {
    /// Of the thread that waits for the call.
    pub(super) fn new() -> Self {
        let arrivals = Arrivals::for_this_thread();
        Self { arrivals, offers: BTreeMap::new(), guests: BTreeMap::new(), last_guest: 0, stopped: false, counts: (0, 0) }
    }

    /// Takes a parcel for one of its own.
    pub(super) fn exchange(&mut self, context: &Context, grants: &mut Grants, may_invite: bool, parcel: Parcel) -> Parcel {
        let mut back = Parcel::default();
        for ended in parcel.outcomes {
            back.offers.extend(self.end_guest(context, grants, ended));
        }
        for offer in parcel.offers {
            let ticket = offer.ticket;
            if let Err(reason) = self.take(context, offer) {
                let name = &context.shared.identities[context.processor].name;
                back.outcomes.push(Ended { ticket, reply: Outcome::without(FAILED, &[name, reason]).reply, blocks: Vec::new() });
            }
        }
        for (task, _) in parcel.stops.iter().filter_map(|ticket| self.offers.get(ticket)) {
            task.cancel();
        }
        for (ticket, guest) in self.guests.iter_mut().filter(|(_, guest)| !guest.told) {
            guest.told = guest.task.stopped().is_some() || context.shared.is_outdated(guest.task.epoch());
            back.stops.extend(guest.told.then_some(*ticket));
        }
        self.collect(context, grants, &mut back);
        if may_invite && parcel.idle && !self.stopped && back.is_empty() {
            back.offers.extend(self.invite(context));
        }
        if parcel.waits && back.is_empty() {
            park_for(WAIT);
            self.collect(context, grants, &mut back);
        }
        back
    }

    /// Spawns what a process offers; an error is why not.
    fn take(&mut self, context: &Context, offer: Offer) -> Result<(), &'static str> {
        let shared = &context.shared;
        let function = CodeRef::take(Key::own(), &mut Reader::new(&offer.call, &mut NoBuffers));
        if !function.is_ok_and(|function| function.own_function().is_ok()) {
            return Err("what the process names as its function is none");
        }
        if self.offers.contains_key(&offer.ticket) {
            return Err("the process has offered two tasks as one");
        }
        let mut options = TaskOptions::new().name(offer.name);
        options.priority = Priority::ALL.get(usize::from(offer.level)).copied();
        options.occupancy = Some(offer.occupancy.into());
        options.once = Some(offer.once);
        options.scope = Some(scope_of(shared, &offer.places).ok_or("the process names processors that there are not")?);
        let lease = Lease::new(offer.ticket, &self.arrivals);
        let params = (Offered::new(offer.call, Some(Arc::clone(&lease))),).into_params();
        let (task, _) = spawn_at_once(shared, Some(context), &mut Unspawned::new(run_offered, params), caller(), Some(Box::new(options)));
        if !task.reference().add_waiter(&lease.waker()) {
            self.arrivals.note(offer.ticket);
        }
        if self.stopped {
            task.cancel();
        }
        self.offers.insert(offer.ticket, (task, lease));
        Ok(())
    }

    /// Adds what has come of offers. Those whose arguments somebody may yet look at are not over, whatever has become of them.
    fn collect(&mut self, context: &Context, grants: &mut Grants, back: &mut Parcel) {
        for ticket in self.arrivals.take() {
            let is_over = |(task, lease): &(Task<Outcome>, Arc<Lease>)| task.is_finished() && lease.revoke();
            if !self.offers.get(&ticket).is_some_and(is_over) {
                continue;
            }
            let Some((task, _)) = self.offers.remove(&ticket) else { continue };
            let Outcome { reply, blocks } = outcome_of(task);
            let blocks = blocks.into_iter().filter_map(|block| grants.give(block, context)).collect();
            back.outcomes.push(Ended { ticket, reply, blocks });
        }
    }

    /// A task for the process, if there is one.
    fn invite(&mut self, context: &Context) -> Option<Offer> {
        let task = next_guest(context)?;
        let shared = &context.shared;
        let not_run = |task: &TaskRef, failure: Option<TaskError>| shared.finish(Some(context), task, failure, false);
        if shared.is_outdated(task.epoch()) {
            not_run(&task, Some(task.fail_claimed(shared.outdated(&task))));
        } else if !task.begins() {
            not_run(&task, Some(task.fail_claimed(FailureKind::Cancelled)));
        } else {
            let Some(travel) = task.travel() else {
                // An argument has failed, and the body is not run.
                not_run(&task, task.run_claimed());
                return None;
            };
            let retrying = task.retries(&travel);
            let offer = self.send_guest(Guest { task, travel, _blocks: Vec::new(), told: false, retrying, attempt: 1 });
            return offer.map_err(|task| give_back(context, task)).ok();
        }
        None
    }

    /// What the process is told of a guest, which stays if that cannot be said.
    fn send_guest(&mut self, mut guest: Guest) -> Result<Offer, TaskRef> {
        let Some(Written { bytes: call, blocks, copied_bytes, .. }) = encode_guest(&guest.task, &guest.travel) else {
            return Err(guest.task);
        };
        guest._blocks = blocks;
        guest.task.note_attempts(guest.attempt);
        self.counts.1 += copied_bytes;
        self.last_guest += 1;
        let ticket = self.last_guest;
        self.guests.insert(ticket, guest);
        Ok(Offer { ticket, call, ..Offer::default() })
    }

    /// Takes what came of a guest; what the process is told if it is to be tried again.
    fn end_guest(&mut self, context: &Context, grants: &mut Grants, ended: Ended) -> Option<Offer> {
        let mut guest = self.guests.remove(&ended.ticket)?;
        self.counts.0 += 1;
        let blocks: Result<Vec<_>, _> = ended.blocks.into_iter().map(|place| grants.take(place)).collect();
        let outcome = blocks.and_then(|blocks| end(&guest.task, &guest.travel, &ended.reply, blocks));
        let failure = outcome.unwrap_or_else(|error| {
            let processor = context.shared.identities[context.processor].name.clone();
            Some(FailureKind::Processor { processor, reason: format!("its process sent a reply that cannot be read: {error}") })
        });
        if let Some(pause) = pause_before_next(failure.as_ref(), guest.retrying.as_ref(), guest.attempt)
            && !guest.told
        {
            guest.attempt += 1;
            match self.send_guest(guest) {
                Ok(offer) => return Some(Offer { pause_ns: u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX), ..offer }),
                Err(task) => {
                    give_back(context, task);
                    return None;
                }
            }
        }
        let failure = guest.task.end_claimed(failure);
        context.shared.finish(Some(context), &guest.task, failure, false);
        None
    }

    /// How many guests have ended, and how many bytes of values were copied for guests, since this was asked.
    pub(super) fn take_counts(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.counts)
    }

    /// The call is to stop: so are the tasks that it has spawned.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        for (task, _) in self.offers.values() {
            task.cancel();
        }
    }

    /// Whether everything is over.
    pub(super) fn is_settled(&self) -> bool {
        self.offers.is_empty() && self.guests.is_empty()
    }

    /// The process is gone, or has forgotten about it: lets others run its guests, stops what it has offered, and waits until nobody looks at its memory any more.
    pub(super) fn settle(mut self, context: &Context) {
        self.stop();
        for guest in std::mem::take(&mut self.guests).into_values() {
            give_back(context, guest.task);
        }
        wait_until(context, &|| self.offers.values().all(|(task, lease)| task.is_finished() && lease.revoke()));
    }
}

/// How long to wait before a task is tried again that has failed so, if it is to be.
pub(super) fn pause_before_next(failure: Option<&FailureKind>, retrying: Option<&Retrying<()>>, attempt: u32) -> Option<Duration> {
    let retrying = retrying.filter(|retrying| matches!(failure, Some(FailureKind::Returned(_))) && attempt <= retrying.retries)?;
    Some(retrying.pause_after(attempt))
}

/// Lets others claim a task that this thread has claimed and not run.
pub(super) fn give_back(context: &Context, task: TaskRef) {
    if task.unclaim() {
        context.shared.enqueue(Some(context), Entry::task(task));
    } else {
        let failure = task.end_claimed(Some(FailureKind::Cancelled));
        context.shared.finish(Some(context), &task, failure, false);
    }
}

/// A scope that comes to the processors at these places; nothing if there are not.
fn scope_of(shared: &Shared, places: &[u64]) -> Option<Scope> {
    let scopes = places.iter().map(|place| {
        let identity = shared.identities.get(usize::try_from(*place).ok()?)?;
        Some(match identity.worker {
            Some(worker) => Scope::worker(worker.0),
            None => Scope::processor(&identity.name).and(Scope::backend(&identity.backend)),
        })
    });
    Scope::union(scopes.collect::<Option<Vec<_>>>()?).ok()
}

/// Takes what came of a task that this thread has claimed, with the blocks that lie in it.
pub(super) fn end(task: &TaskRef, travel: &Travel, reply: &[u8], blocks: Vec<RawBuffer>) -> Result<Option<FailureKind>, WireError> {
    let mut received = Received(blocks);
    let mut reader = Reader::new(reply, &mut received);
    let tag = reader.take_u8()?;
    call::accept(task, travel, tag, &mut reader)
}

/// What came of a task that has finished, with this handle as its only one.
pub(super) fn outcome_of(task: Task<Outcome>) -> Outcome {
    let finished = task.fetch();
    drop(task);
    let error = match finished.map(Value::try_unwrap) {
        Ok(Ok(outcome)) => return outcome,
        Ok(Err(_)) => unreachable!("nobody else has had a handle"),
        Err(error) => error,
    };
    match error.root().kind() {
        FailureKind::Cancelled | FailureKind::Unneeded => Outcome::without(CANCELLED, &[""]),
        FailureKind::DeadlineExceeded => Outcome::without(LATE, &[""]),
        FailureKind::Shutdown => Outcome::without(SHUT_DOWN, &[""]),
        FailureKind::Panicked(message) => Outcome::without(BROKEN, &[message]),
        FailureKind::Processor { processor, reason } => Outcome::without(FAILED, &[processor, reason]),
        _ => Outcome::without(FAILED, &["host", &error.reason()]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::{CallFailure, VALUE};
    use super::*;
    use crate::Runtime;
    use crate::wire::Writer;

    fn answers(_: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
        writer.put_u8(7);
        Ok(())
    }

    #[test]
    fn offers_that_cannot_be_are_told_so_and_others_are_run() {
        let runtime = Runtime::builder().threads(1).build().expect("a thread");
        let context = Context::new(Arc::clone(&runtime.shared), 0);
        let mut none = NoBuffers;
        let mut writer = Writer::new(&mut none);
        CodeRef::of(answers).expect("it is part of the program").put(Key::own(), &mut writer);
        let good = Offer { ticket: 1, call: writer.finish().bytes, places: vec![0], occupancy: 1.0, ..Offer::default() };
        let mut damaged = good.call.clone();
        damaged[9] ^= 1;
        let offers = vec![
            Offer { ticket: 2, call: damaged, ..good.clone() },
            Offer { ticket: 3, call: good.call[..7].to_vec(), ..good.clone() },
            Offer { ticket: 4, places: vec![0, 1], ..good.clone() },
            Offer { ticket: 5, places: Vec::new(), ..good.clone() },
            good.clone(),
            good,
        ];
        let (mut trade, mut grants) = (Trade::new(), Grants::default());
        let mut outcomes = trade.exchange(&context, &mut grants, true, Parcel { offers, ..Parcel::default() }).outcomes;
        while !trade.is_settled() {
            outcomes.extend(trade.exchange(&context, &mut grants, true, Parcel { waits: true, ..Parcel::default() }).outcomes);
        }
        let mut failed: Vec<_> = outcomes.iter().filter(|ended| ended.reply[0] == FAILED).map(|ended| ended.ticket).collect();
        failed.sort_unstable();
        assert_eq!(failed, [1, 2, 3, 4, 5]);
        let run: Vec<_> = outcomes.into_iter().filter(|ended| ended.reply[0] == VALUE).map(|ended| (ended.ticket, ended.reply)).collect();
        assert_eq!(run, [(1, vec![VALUE, 7])]);
    }
}
