#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| courier::fuzzing::binary_event(bytes));
