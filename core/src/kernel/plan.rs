//! What a launch is made of, without its types.

use std::sync::Arc;

use poniard_interface::{Access, RawBuffer};

use super::Body;
use crate::arena;
use crate::data::Data;
use crate::residency::Use;

/// A launch, as it is prepared for a device. Made when all its arguments are there.
#[derive(Debug)]
pub struct Plan {
    pub(crate) body: Arc<Body>,
    pub(crate) uses: Vec<Use>,
    /// Memory for the results, the last ones of `uses`.
    pub(crate) outputs: Vec<RawBuffer>,
    pub(crate) scalars: Vec<u8>,
    pub(crate) invocations: [u64; 3],
}

/// How much a task works on, and what.
#[derive(Debug, Default)]
pub struct Survey {
    pub(crate) uses: Vec<Use>,
    /// What its time depends on. Of a launch the bytes of all buffers, with those of the results, and one for each invocation; of a function the bytes of its arguments.
    pub(crate) size: u64,
}

impl Survey {
    /// Takes an argument of a function, with what that may do with it.
    pub(crate) fn argument<T: Data>(&mut self, value: &T, access: Access) {
        self.size = self.size.saturating_add((T::BYTES)(value));
        if let Some(form) = T::DEVICE.filter(|form| form.has_blocks) {
            // What is in no arena is the host's.
            (form.visit)(value, &mut |raw| {
                self.uses.extend(arena::place_of(raw).map(|place| Use { place, access, is_fresh: false }));
            });
        }
    }
}

impl Plan {
    /// As [`Survey::size`].
    pub(crate) fn size(&self) -> u64 {
        size(&self.uses, 0, self.invocations)
    }
}

/// The bytes of `uses`, and so many more, and one for each invocation.
fn size(uses: &[Use], more_bytes: u64, invocations: [u64; 3]) -> u64 {
    let invocations = invocations.iter().fold(1u64, |product, axis| product.saturating_mul(*axis));
    uses.iter().fold(invocations.saturating_add(more_bytes), |sum, one| sum.saturating_add(one.place.len_bytes))
}

/// Takes the arguments of a launch, in their order.
#[derive(Debug)]
pub struct Planner {
    body: Arc<Body>,
    uses: Vec<Use>,
    scalars: Vec<u8>,
    scalar_count: usize,
    /// Why it is no launch, once that is known.
    refusal: Option<String>,
}

impl Planner {
    pub(super) fn new(body: &Arc<Body>) -> Self {
        let scalars = vec![0; body.interface().map_or(0, |interface| interface.scalars_bytes as usize)];
        Self { body: Arc::clone(body), uses: Vec::new(), scalars, scalar_count: 0, refusal: None }
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.refusal.get_or_insert_with(reason);
    }

    /// Takes a buffer, with what the task may do with it.
    pub(crate) fn block(&mut self, raw: &RawBuffer, given: Access) {
        let Some(binding) = self.body.interface().and_then(|interface| interface.bindings.get(self.uses.len())).cloned() else {
            return self.refuse(|| "it has more buffers than its source".into());
        };
        let Some(place) = arena::place_of(raw) else {
            return self.refuse(|| format!("the memory of its buffer `{}` is of no arena of this process", binding.name));
        };
        if let Err(reason) = binding_fits(&binding, place.len_bytes) {
            return self.refuse(|| reason);
        }
        // Where the source only writes, in an argument that is to be changed in place, what it does not write stays.
        let access = if given == Access::Write && binding.access != Access::Read { Access::Write } else { binding.access };
        self.uses.push(Use { place, access, is_fresh: false });
        raw.note_replicas();
    }

    /// Takes a scalar's bytes.
    pub(crate) fn scalar(&mut self, bytes: &[u8]) {
        let member = self.body.interface().and_then(|interface| interface.scalars.get(self.scalar_count));
        let range = member.map(|member| member.offset_bytes as usize..member.offset_bytes as usize + bytes.len());
        self.scalar_count += 1;
        match range.and_then(|range| self.scalars.get_mut(range)) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.refuse(|| "it has more scalars than its source".into()),
        }
    }

    /// What it works on besides results of so many bytes. No memory is made for those.
    pub(super) fn survey(self, invocations: [u64; 3], output_bytes: u64) -> Survey {
        let size = size(&self.uses, output_bytes, invocations);
        Survey { uses: self.uses, size }
    }

    /// The plan, with memory for results of so many bytes.
    pub(super) fn finish(mut self, invocations: [u64; 3], output_bytes: &[u64]) -> Result<Plan, String> {
        let mut outputs = Vec::new();
        for len_bytes in output_bytes {
            let Some(binding) = self.body.interface().and_then(|interface| interface.bindings.get(self.uses.len())) else {
                return Err("it has more buffers than its source".into());
            };
            binding_fits(binding, *len_bytes)?;
            // Results that the source reads, too, begin at zero.
            let is_read = binding.access != Access::Overwrite;
            let raw = arena::allocate_as(*len_bytes, is_read).map_err(|error| error.to_string())?;
            let Some(place) = arena::place_of(&raw) else { return Err("in a worker process kernels run on the host".into()) };
            let access = if is_read { Access::Write } else { Access::Overwrite };
            self.uses.push(Use { place, access, is_fresh: true });
            raw.note_replicas();
            outputs.push(raw);
        }
        match self.refusal {
            Some(reason) => Err(reason),
            None => Ok(Plan { body: self.body, uses: self.uses, outputs, scalars: self.scalars, invocations }),
        }
    }
}

/// Whether a buffer of so many bytes can be bound.
fn binding_fits(binding: &poniard_interface::Binding, len_bytes: u64) -> Result<(), String> {
    let poniard_interface::Binding { name, element_bytes, len_bytes_min, is_sized, .. } = binding;
    if *is_sized && len_bytes != *len_bytes_min {
        return Err(format!("its buffer `{name}` has {len_bytes_min} bytes in the source, and {len_bytes} were given"));
    }
    // A runtime array may be empty, but for what comes before it in a structure.
    let head_bytes = len_bytes_min.saturating_sub(u64::from(*element_bytes));
    if len_bytes < head_bytes || !(len_bytes - head_bytes).is_multiple_of(u64::from(*element_bytes).max(1)) {
        return Err(format!(
            "its buffer `{name}` has elements of {element_bytes} bytes, and {len_bytes} bytes are no whole number of them"
        ));
    }
    Ok(())
}
