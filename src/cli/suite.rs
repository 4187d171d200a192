//! `synth bench SUITE.toml`: methods beside each other.

use super::options::Computing;
use super::{Global, print, print_json, tell};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use synth::bench::suite::{Known, Options, Places, Plan, Run, Suite, Wanted, carry_out_suite};
use synth::{Error, Result};

/// Teachers x students x methods x seeds x budgets
#[derive(Args)]
pub struct SuiteRun {
    /// What to compare (see docs/BENCHMARK.md and benches/*.toml)
    #[arg(value_name = "SUITE.toml", required = true)]
    suite: Option<PathBuf>,
    /// Folder of all results: the runs, results.jsonl, table.md and index.html; finished runs in it are not done again
    #[arg(short, long, value_name = "FOLDER", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Only runs with this text in their line of --dry-run; several times: with all of them, as in --filter ssd --filter "seed 0"
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// results.jsonl of the same suite from another folder or machine: what it has done is not done again and stands in the
    /// table; several times for several files
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
    /// List the runs and what stands in their way, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder with models/OWNER/NAME and datasets/OWNER/NAME that is looked in before the Hub
    #[arg(long, value_name = "FOLDER")]
    local: Option<PathBuf>,
    #[command(flatten)]
    computing: Computing,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SuiteRun {
    pub fn run(&self, global: &Global) -> Result<()> {
        let Some(file) = &self.suite else {
            return Err(Error::invalid("bench", "nothing to do", "name a suite, or say step or ops"));
        };
        let suite = Suite::read(file)?;
        let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let places = Places { suite: beside.map_or(".".into(), PathBuf::from), local: self.local.clone() };
        let known = Known::read(&self.known, &Wanted::of(&suite))?;
        let Some(out) = self.output.clone().filter(|_| !self.dry_run) else {
            return self.list(&suite, &places, &known);
        };
        let compute = self.computing.open(global.quiet)?;
        let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
        let more = [self.computing.arguments(), global.arguments()].concat();
        let access = global.access();
        let options = Options { out, places, filter: self.filter.clone(), known, program, more, access };
        let progress = |line: &str| {
            if !global.quiet {
                tell(line);
            }
        };
        let count = carry_out_suite(&suite, &options, &compute, &progress)?;
        let page = options.out.join("index.html");
        let line = format!("{} done, {} failed, {} open", count.done, count.failed, count.open);
        match self.json {
            true => print_json(&json!({
                "done": count.done, "failed": count.failed, "open": count.open,
                "results": options.out.join("results.jsonl"), "page": page,
            }))?,
            false => print(&format!("{line}; see {}\n", page.display()))?,
        }
        match count.failed {
            0 => Ok(()),
            failed => Err(Error::Failed {
                found: format!("{failed} runs of the suite"),
                hint: format!("their rows say why: see {}, and the same call tries them again", page.display()),
            }),
        }
    }

    /// What would be done.
    fn list(&self, suite: &Suite, places: &Places, known: &Known) -> Result<()> {
        let plan = Plan::of(suite, places)?;
        known.check(&plan.runs)?;
        let plan = plan.filtered(&self.filter)?;
        if self.json {
            let row = |run: &Run| json!({ "id": run.id, "line": run.line(), "known": known.has(&run.id) });
            let runs: Vec<_> = plan.runs.iter().map(row).collect();
            return print_json(&json!({ "runs": runs, "problems": plan.problems }));
        }
        let mark = |run: &Run| if known.has(&run.id) { " (known)" } else { "" };
        let lines: String = plan.runs.iter().map(|run| format!("{}{}\n", run.line(), mark(run))).collect();
        let problems: String = plan.problems.iter().map(|problem| format!("problem: {problem}\n")).collect();
        print(&format!("{lines}{} runs\n{problems}", plan.runs.len()))
    }
}
