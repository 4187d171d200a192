//! The command line: one file per subcommand, each from its arguments through a library call to a report.
//!
//! A new subcommand is a file with a `#[derive(Args)]` struct and a `run(&self, &Global) -> Result<()>`, a variant of
//! [`Command`] and an arm of [`run`]. Results go to stdout through [`print`], everything else to stderr.

mod bench;
mod collect;
mod distill;
mod eval;
mod eval_pixels;
mod export;
mod inspect;
mod invert;
mod networks;
mod options;
mod push;
mod recipe;
mod recipes;
mod run;
mod signals;
mod suite;
mod train;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::Write;
use synth::{Error, Result};

/// Compress a trained vision model when its training data is gone
#[derive(Parser)]
#[command(version, max_term_width = 100, subcommand_required = true, arg_required_else_help = false)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// The arguments of this process. A number with a minus in front is the value of the option before it, so that a value out of
    /// range is refused as one.
    pub fn from_arguments() -> std::result::Result<Self, clap::Error> {
        let mut command = with_negative_numbers(Self::command());
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|option| match option.get_action().takes_values() {
        true => option.allow_negative_numbers(true),
        false => option,
    });
    command.mut_subcommands(with_negative_numbers)
}

/// Options of every subcommand.
#[derive(Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print results, warnings, alarms and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Take models and datasets from the cache and use the network not at all
    #[arg(long, global = true)]
    offline: bool,
    /// Print what happens; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Invert(invert::Invert),
    Collect(collect::Collect),
    Distill(distill::Distill),
    Eval(eval::Eval),
    Export(export::Export),
    Inspect(inspect::Inspect),
    Push(push::Push),
    Train(train::Train),
    Recipes(recipes::Recipes),
    Networks(networks::Networks),
    Bench(bench::Bench),
}

impl Global {
    /// How names on the Hub are looked up.
    fn access(&self) -> synth::jobs::Access {
        synth::jobs::Access { offline: self.offline, quiet: self.quiet }
    }

    /// The options of this kind for a process that this one starts.
    fn arguments(&self) -> Vec<String> {
        let threads = self.threads.into_iter().flat_map(|threads| ["--threads".into(), threads.to_string()]);
        threads.chain(self.offline.then(|| "--offline".into())).collect()
    }
}

/// Sets up logging, threads and Ctrl-C, and runs the subcommand.
pub fn run(cli: Cli) -> Result<()> {
    let global = &cli.global;
    log_to_stderr(global);
    synth::ops::simd::check_variable()?;
    synth::ops::threads::start(global.threads.map(usize::from))?;
    signals::heed();
    match &cli.command {
        Command::Run(command) => command.run(global),
        Command::Invert(command) => command.run(global),
        Command::Collect(command) => command.run(global),
        Command::Distill(command) => command.run(global),
        Command::Train(command) => command.run(global),
        Command::Recipes(command) => command.run(global),
        Command::Networks(command) => command.run(global),
        Command::Bench(command) => command.run(global),
        Command::Eval(command) => command.run(global),
        Command::Export(command) => command.run(global),
        Command::Inspect(command) => command.run(global),
        Command::Push(command) => command.run(global),
    }
}

fn log_to_stderr(global: &Global) {
    use tracing::Level;
    let level = match (global.quiet, global.verbose) {
        (true, _) | (_, 0) => Level::WARN,
        (_, 1) => Level::INFO,
        _ => Level::DEBUG,
    };
    // A reader of stderr that has gone away is no failure either.
    let format =
        tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false).with_max_level(level);
    let _ = format.without_time().with_target(false).try_init();
}

/// Writes a result to stdout; a reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("write", "stdout")(error)),
        _ => Ok(()),
    }
}

/// Writes a line to stderr, if somebody reads it.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A two-column table; whatever comes from outside stays on its line.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    rows.iter().map(|(key, value)| format!("{key:<width$}  {}\n", value.replace(char::is_control, " "))).collect()
}

/// Where a result was computed, from what its `synth.json` says.
pub fn device(about: &serde_json::Value) -> String {
    let word = |key: &str| about[key].as_str().unwrap_or("?");
    format!("{}, {}", word("device"), word("precision"))
}

/// A JSON result on stdout.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// clap's message without its paragraphs: what is wrong, a tip if there is one, where to look.
pub fn one_line_usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let mut line = words(paragraphs.next().unwrap_or("error: wrong usage"));
    for tip in paragraphs.filter(|part| part.trim_start().starts_with("tip:")) {
        line = format!("{line}; {}", words(tip));
    }
    format!("{line}; try --help")
}
