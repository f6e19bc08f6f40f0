//! The event stream under arbitrary bytes in arbitrary chunks.
#![no_main]

use proxy::wire;

#[path = "../checks/sse.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
