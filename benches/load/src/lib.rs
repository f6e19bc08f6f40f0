//! What measures the gateway: a fast upstream, a load generator that believes nothing, a plain proxy to
//! stand beside, and the comparison of them all.
//!
//! In reading order: what the two ends say to each other (`message`), the two ends (`fake`, `http`,
//! `load`), and what sets them up side by side (`process`, `contestant`, `rounds`, `report`).

pub mod contestant;
pub mod fake;
pub mod http;
pub mod load;
pub mod message;
pub mod process;
pub mod report;
pub mod rounds;
