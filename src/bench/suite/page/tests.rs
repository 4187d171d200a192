use super::*;
use crate::bench::suite::file::Suite;
use crate::bench::suite::machine::Program;
use crate::bench::suite::measure::{Point, Score};
use crate::bench::suite::results::{Made, Row, Seconds, Status};
use serde_json::json;

const SUITE: &str = r#"
    title = "<script>alert('title')</script>"
    about = "a \"quoted\" & <b>bold</b> word"
    data = "someone/cifar10"
    hold_back = 100
    seeds = [0, 1]
    snapshots = 3
    [[teacher]]
    name = "T<t>"
    model = "m"
    students = ["wrn-16-1"]
    [[method]]
    recipe = "ssd"
    [[budget]]
    minutes = 12
"#;

pub(in crate::bench::suite) fn row(method: &str, seed: u64, top1: f64, error: Option<&str>) -> Row {
    let score =
        |top1| Score { top1, loss: 1.0, images: 100, data: "d".into(), sha256: String::new(), named: "d".into() };
    let point = |i: u32| Point {
        seconds: 60.0 * f64::from(i),
        updates: 10 * i as usize,
        stage: "distill".into(),
        top1: top1 * f64::from(i) / 4.0,
    };
    let is_done = error.is_none();
    Row {
        id: format!("{method}-{seed}"),
        status: if is_done { Status::Done } else { Status::Failed },
        error: error.map(String::from),
        kind: "data-free".into(),
        method: method.into(),
        teacher: "T<t>".into(),
        student: "wrn-16-1".into(),
        seed,
        budget: Some(crate::bench::suite::Budget::Minutes(12.0)),
        test: is_done.then(|| score(top1)),
        held_back: is_done.then(|| score(top1)),
        best_held_back: is_done.then_some(top1),
        curve: if is_done { (1..4).map(point).collect() } else { Vec::new() },
        seconds: Seconds { inversion: 168.0, distillation: 72.0, total: 240.0, evaluation: 6.0, process: None },
        images_kept: Some(5000),
        images_made: Some(12_345),
        adversary_updates: None,
        student_updates: None,
        peak_memory_mib: Some(800.0),
        resumed: 0,
        alarms: Vec::new(),
        made: None,
        settings: json!({}),
        provenance: json!({ "teacher": { "config": { "architecture": "wrn-40-2" } } }),
    }
}

fn made(rows: &[Row]) -> (String, String) {
    let (summary, peers) = (Summary::of(&Suite::parse(SUITE).unwrap(), rows), Peers::known().unwrap());
    (page(&summary, &peers), crate::bench::suite::table::markdown(&summary, &peers))
}

#[test]
fn nothing_from_outside_leaves_its_place_in_the_page() {
    let hostile = "x\"><img src=x onerror=alert(1)>\u{1}";
    let error = "found <script>alert('e')</script>";
    let (page, table) = made(&[row(hostile, 0, 0.7, None), row(hostile, 1, 0.0, Some(error))]);
    for word in ["<script", "<img", "<b>bold", "T<t>", "onerror=alert(1)>", "\u{1}"] {
        assert!(!page.contains(word), "{word} in the page");
    }
    assert!(!table.contains("<script") && !table.contains("<img"), "{table}");
    assert!(page.contains("&lt;script&gt;alert(&#39;title&#39;)") && page.contains("failed: found &lt;script&gt;"));
}

/// No script, and nothing that a browser would fetch.
#[test]
fn the_page_needs_nothing_but_itself() {
    let (page, _) = made(&[row("ssd", 0, 0.7, None)]);
    for word in ["<script", "src=", "http:", "https:", "@import", "url(", "<link", "<iframe"] {
        assert!(!page.contains(word), "{word}");
    }
    for word in ["name=\"viewport\"", "prefers-color-scheme: dark", "<svg viewBox", "overflow-x: auto"] {
        assert!(page.contains(word), "{word}");
    }
}

#[test]
fn mean_and_spread_time_and_what_others_published_are_there_and_failures_too() {
    let rows = [row("ssd", 0, 0.70, None), row("ssd", 1, 0.80, None), row("other", 0, 0.0, Some("no luck"))];
    let (page, table) = made(&rows);
    for word in ["75.00 ± 7.07", "5,000", "12,345", "4.00", "2.80", "1.20"] {
        assert!(page.contains(word) && table.contains(word), "{word}");
    }
    assert!(table.contains("| other, seed 0 | | failed: no luck |"), "{table}");
    assert!(
        page.contains("not measured here") && page.contains("FastDFKD, 5 steps") && page.contains("synthesis alone")
    );
    assert!(table.contains("Published by others, not measured here") && table.contains("synthesis alone"));
    assert_eq!(page.matches("class=\"band\"").count(), 1, "two seeds have a spread");
}

/// Times beside other work are no times, and the page says so.
#[test]
fn a_busy_machine_is_told() {
    let mut busy = row("ssd", 0, 0.7, None);
    assert!(!made(std::slice::from_ref(&busy)).0.contains("busy machine"));
    busy.made = Some(Made { others: Some(0.4), peak_gflops: Some(300.4), ..Made::default() });
    let (page, table) = made(&[busy]);
    assert!(page.contains("1 runs were made on a busy machine") && table.contains("do not compare their times"));
    assert!(table.contains("before each run: 300 to 300 GFLOP/s"), "{table}");
}

#[test]
fn rows_of_several_programs_say_which_made_them() {
    let by = |git: &str, row: Row| {
        let program = Program { version: "1".into(), git: Some(git.into()), sha256: git.repeat(8) };
        Row { made: Some(Made { program, ..Made::default() }), ..row }
    };
    let rows =
        [by("a1", row("ssd", 0, 0.7, None)), by("b2", row("ssd", 1, 0.7, None)), by("b2", row("x", 0, 0.7, None))];
    let (page, table) = made(&rows);
    let plain = |text: &str| text.replace('\\', "");
    for word in [
        "Program [1]: synth 1, sha256 a1a1a1a1a1a1a1a1, suite at commit a1",
        "Program [2]: synth 1, sha256 b2b2b2b2b2b2b2b2, suite at commit b2",
        "ssd [1] [2]",
        "x [2]",
    ] {
        assert!(page.contains(word) && plain(&table).contains(word), "{word}: {table}");
    }
    let table = made(&rows[1..]).1;
    assert!(
        table.contains("Program: synth 1, sha256 b2b2b2b2b2b2b2b2, suite at commit b2")
            && !plain(&table).contains("[1]"),
        "{table}"
    );
}

#[test]
fn many_methods_have_a_picture_each() {
    let rows: Vec<Row> = (0..TOGETHER + 1).map(|i| row(&format!("m{i}"), 0, 0.5, None)).collect();
    assert_eq!(made(&rows).0.matches("<svg").count(), TOGETHER + 1);
    assert_eq!(made(&rows[1..]).0.matches("<svg").count(), 1);
    assert!(made(&[]).0.contains("Nothing has been measured yet"));
}
