//! Tasks that end as they were measured, and those that a place runs without having taken them.

use super::{Board, Ended, Event, State, Ticket};

impl<T> Board<T> {
    /// As [`finished`](Self::finished), of a task whose body was measured. On the host that counts, and not how long the task was at its place: it may have waited there for others. It also counts where a
    /// task was over out of turn, as one of those is that a place runs while another one waits.
    pub fn finished_after(&mut self, ticket: Ticket, measured_ns: Option<u64>, now_ns: u64) -> Option<Ended> {
        let item = self.item(ticket)?;
        let (place, begun_ns) = match item.state {
            State::Running { place, begun_ns } => (place, Some(begun_ns)),
            State::Submitted { place } => (place, None),
            State::Free | State::Waiting { .. } => return None,
        };
        let class = self.places[place].class;
        let took_ns = match (begun_ns, measured_ns) {
            (_, Some(measured_ns)) if class == 0 => Some(measured_ns),
            (Some(begun_ns), _) => Some(now_ns.saturating_sub(begun_ns)),
            // Of a device the launch alone is measured.
            (None, Some(measured_ns)) => {
                let moving = item.at(place).map_or(0, |candidate| candidate.transfer_ns.saturating_add(candidate.overhead_ns));
                Some(measured_ns.saturating_add(moving))
            }
            (None, None) => None,
        };
        let number = item.number;
        let ended = Ended { place, expected_ns: item.cost_ns(place), took_ns: took_ns.unwrap_or(0) };
        self.note(|| Event::Ended { at_ns: now_ns, number, measured_ns });
        self.leave(ticket.slot, now_ns);
        self.release(ticket.slot, took_ns.map(|took_ns| (class, took_ns)));
        Some(ended)
    }

    /// A place runs a task that it has not taken: a thread of it waits for that one. It runs beside what the place is in the middle of. Gives back what was pushed, if it still
    /// waited. A place that is no candidate of the task changes nothing here.
    pub fn run_unasked(&mut self, ticket: Ticket, place: usize, now_ns: u64) -> Option<T> {
        let item = self.item(ticket)?;
        item.at(place)?;
        if matches!(item.state, State::Running { place: at, .. } | State::Submitted { place: at } if at == place) {
            return None;
        }
        let number = item.number;
        self.note(|| Event::Unasked { at_ns: now_ns, number, place });
        self.leave(ticket.slot, now_ns);
        let value = self.items[ticket.slot as usize].value.take();
        self.occupy(ticket.slot, place, now_ns);
        value
    }
}
