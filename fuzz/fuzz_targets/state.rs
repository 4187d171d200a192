#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synth::fuzzing::state(bytes));
