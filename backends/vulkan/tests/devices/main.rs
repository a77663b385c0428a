//! The backend on whatever device there is, software devices included, through the contract alone.
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

mod failures;
mod lanes;
mod launches;
mod stand;
