//! A batch that no memory holds.

use super::process::{Run, finish};
use super::table::Row;
use std::time::{Duration, Instant};
use synth::train::available;

/// More memory than that, and the batch below may fit.
const ENOUGH: u64 = 80 << 30;

#[test]
fn oversized_batches() {
    let mut row = Row::default();
    if available().is_none_or(|free| free > ENOUGH) {
        row.ended = "not tried: this machine may have enough memory, or does not say".into();
        return row.record("a batch that does not fit into memory");
    }
    let folder = tempfile::tempdir().unwrap();
    let of = |key: &str| format!("{key}=65536");
    for (key, command) in [("batch", "run"), ("student.batch", "run"), ("batch", "invert"), ("student.batch", "invert")]
    {
        let teacher = synth::jobs::SHIPPED;
        let net = if command == "run" { "--student" } else { "--adversary" };
        let value = of(key);
        // Narrow and shallow for the other batch, wide for this one.
        let arguments =
            [command, teacher, net, "resnet56", "--set", "batch=8", "--set", "student.batch=8", "--set", &value];
        let run = Run::new(&arguments, &folder.path().join("result"));
        let begin = Instant::now();
        let said =
            finish(&run).expect_refusal(2, &[&format!("{key}: 65536 images of 32x32 need about "), " would fit"]);
        assert!(begin.elapsed() < Duration::from_secs(60), "{said}");
        assert!(!run.output.exists() && !run.unfinished().exists(), "it is left behind");
        row.tried += 1;
    }
    row.ended = "one line before memory is taken, which says how many would fit; exit 2".into();
    row.record("a batch that does not fit into memory");
}
