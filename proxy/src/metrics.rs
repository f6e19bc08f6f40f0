//! What the process counts of itself, and the page on which Prometheus reads it.
//!
//! Nothing here is looked up on the path of a call: calls are metered by the task that writes their records
//! ([`calls`]), requests and lost messages are counted in fixed arrays ([`requests`], [`drops`]), and most of the
//! page is made of what the parts know anyway, when it is asked for. Labels are bounded: words of closed sets, and
//! the names of upstreams, of which there are as many as an admin made. No tool, key, address or URL is one.

pub mod calls;

pub mod drops;

pub mod page;

pub mod process;

pub mod requests;

pub mod listener;
