//! The JSON-RPC envelope under arbitrary bytes.
#![no_main]

use proxy::wire;

#[path = "../checks/envelope.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
