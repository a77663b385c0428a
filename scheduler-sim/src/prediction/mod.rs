//! What a recorded run says of others: with other numbers of workers, under other policies, of other sizes.

mod calibration;
mod program;

pub use calibration::{Calibration, UnknownCode};
pub use program::Program;
