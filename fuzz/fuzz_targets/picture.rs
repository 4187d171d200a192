#![no_main]

// The decoders below panic on some damaged files, which is caught where they are called; libFuzzer's hook would end here.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| synth::fuzzing::picture(bytes));
