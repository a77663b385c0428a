//! What a launch is made of, without its types.

use std::sync::Arc;

use poniard_interface::{Access, RawBuffer};

use super::Body;
use crate::arena;
use crate::data::Data;
use crate::residency::{Bytes, Extent, Use};

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
                self.uses.extend(arena::place_of(raw).map(|place| Use::of_block(place, access, false)));
            });
        }
    }

    /// Takes a part, with what the function may do with it.
    pub(crate) fn part(&mut self, raw: Option<&RawBuffer>, bytes: Option<Bytes>, len_bytes: u64, access: Access) {
        self.size = self.size.saturating_add(len_bytes);
        if let (Some(block), Some(bytes)) = (raw.and_then(arena::place_of), bytes) {
            self.uses.push(Use { extent: Extent::within(block, bytes), block, access, is_fresh: false });
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
    uses.iter().fold(invocations.saturating_add(more_bytes), |sum, one| sum.saturating_add(one.extent.len_bytes()))
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
    /// Whether it may be one for a body of the host.
    is_for_host: bool,
}

/// Why a launch has no plan.
#[derive(Debug)]
pub struct Unplanned {
    pub(crate) reason: String,
    /// Whether a body of the host may do what it is to do.
    pub(crate) is_for_host: bool,
}

impl From<String> for Unplanned {
    fn from(reason: String) -> Self {
        Self { reason, is_for_host: false }
    }
}

impl Planner {
    pub(super) fn new(body: &Arc<Body>) -> Self {
        let scalars = vec![0; body.interface().map_or(0, |interface| interface.scalars_bytes as usize)];
        Self { body: Arc::clone(body), uses: Vec::new(), scalars, scalar_count: 0, refusal: None, is_for_host: false }
    }

    pub(crate) fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.refusal.get_or_insert_with(reason);
    }

    /// Takes a buffer, with what the task may do with it.
    pub(crate) fn block(&mut self, raw: &RawBuffer, given: Access) {
        self.bytes(raw, Bytes::Run(0..raw.len_bytes()), given);
    }

    /// Takes a part, with what the task may do with it: these bytes of a buffer. Where it is of no buffer, or is no array, the host may be able to do it.
    pub(crate) fn part(&mut self, raw: Option<&RawBuffer>, bytes: Result<Bytes, &'static str>, given: Access) {
        match (raw, bytes) {
            (Some(raw), Ok(bytes)) => self.bytes(raw, bytes, given),
            (None, _) => self.leave_to_host("it is given a part of a value that is no buffer"),
            (_, Err(reason)) => self.leave_to_host(reason),
        }
    }

    fn leave_to_host(&mut self, reason: &str) {
        self.is_for_host = true;
        self.refuse(|| reason.into());
    }

    fn bytes(&mut self, raw: &RawBuffer, bytes: Bytes, given: Access) {
        let Some(binding) = self.body.interface().and_then(|interface| interface.bindings.get(self.uses.len())).cloned() else {
            return self.refuse(|| "it has more buffers than its source".into());
        };
        let Some(block) = arena::place_of(raw) else {
            return self.refuse(|| format!("the memory of its buffer `{}` is of no arena of this process", binding.name));
        };
        let extent = Extent::within(block, bytes);
        if let Err(reason) = binding_fits(&binding, extent.len_bytes()) {
            return self.refuse(|| reason);
        }
        if given == Access::Read && binding.access != Access::Read {
            return self.refuse(|| format!("its source writes to `{}`, which is a part that is read: give `write` of it", binding.name));
        }
        // Where the source only writes, in an argument that is to be changed in place, what it does not write stays.
        let access = if given == Access::Write && binding.access != Access::Read { Access::Write } else { binding.access };
        self.uses.push(Use { extent, block, access, is_fresh: false });
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
    pub(super) fn finish(mut self, invocations: [u64; 3], output_bytes: &[u64]) -> Result<Plan, Unplanned> {
        if let Some(reason) = self.refusal.take() {
            return Err(Unplanned { reason, is_for_host: self.is_for_host });
        }
        let mut outputs = Vec::new();
        for len_bytes in output_bytes {
            let Some(binding) = self.body.interface().and_then(|interface| interface.bindings.get(self.uses.len())) else {
                return Err("it has more buffers than its source".to_owned().into());
            };
            binding_fits(binding, *len_bytes)?;
            // Results that the source reads, too, begin at zero.
            let is_read = binding.access != Access::Overwrite;
            let raw = arena::allocate_as(*len_bytes, is_read).map_err(|error| error.to_string())?;
            let Some(place) = arena::place_of(&raw) else {
                return Err("in a worker process kernels run on the host".to_owned().into());
            };
            let access = if is_read { Access::Write } else { Access::Overwrite };
            self.uses.push(Use::of_block(place, access, true));
            raw.note_replicas();
            outputs.push(raw);
        }
        Ok(Plan { body: self.body, uses: self.uses, outputs, scalars: self.scalars, invocations })
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
