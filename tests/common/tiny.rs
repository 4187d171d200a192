//! Options of a run that ends within seconds.

pub const TINY: [&str; 16] = [
    "--student",
    "resnet8",
    "--samples",
    "40",
    "--set",
    "batch=20",
    "--set",
    "practice=1",
    "--set",
    "rounds=1",
    "--set",
    "adversary_steps=2",
    "--set",
    "finish_steps=2",
    "--set",
    "generator.width=8",
];
