//! Regions: what they mean, that they mean it when they are replayed, accesses to parts and in any order, what leaves a value's place, and what is found where bodies go wrong.

mod again;
mod commuting;
mod consuming;
mod guarded;
mod meaning;
mod parts;
mod undeclared;
