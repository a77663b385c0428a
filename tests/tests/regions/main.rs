//! Regions: what they mean, that they mean it when they are replayed, what leaves a value's place, and what is found where bodies go wrong.

mod again;
mod consuming;
mod meaning;
mod undeclared;
