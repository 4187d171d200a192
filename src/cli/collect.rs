//! `synth collect`: images from anywhere become a set.

use super::options::{Common, Computing, Either, Lasting, ModelOptions};
use super::{Global, device, print, print_json, table};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use synth::collect::{Balance, Wish};
use synth::jobs::{CollectJob, Collected, open_sources, pool_size, usual_samples};
use synth::nets::Task;
use synth::set::SyntheticSet;
use synth::teacher::Teacher;
use synth::{Error, Result};

/// Make a set without inversion: noise, drawn shapes, or any pile of images, chosen by what the teacher says to them
#[derive(Args)]
pub struct Collect {
    #[command(flatten)]
    teacher: ModelOptions,
    /// Folder of the set
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Where images come from: noise, noise:uniform, leaves, shaders, a folder of pictures, a dataset (path or name on the Hub,
    /// :SPLIT for another split than train), a tar file or a folder of them, or a set; several share the pool by weight
    #[arg(long, required = true, value_name = "SOURCE[=WEIGHT]", num_args = 1)]
    from: Vec<Wish>,
    /// Images of the set; fewer if the sources have fewer [default: max(10000, 50 per class)]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    samples: Option<u32>,
    /// Images that the teacher looks at, of which the set is chosen: as many as it has or more, or any number with --balance nayak
    /// [default: as many as the set has, 4 times as many with --balance nayak]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pool: Option<u32>,
    /// How the classes that the teacher sees are balanced: by weights for the sampler of `distill`, with nothing thrown away; by a
    /// quota per class that is filled up with varied copies; or not [default: soft, or none if the teacher answers for pixels]
    #[arg(long, value_enum)]
    balance: Option<Method>,
    /// With --balance soft: an image weighs n^-RHO where n are of its class; 1 makes all classes equally frequent [default: 0.5]
    #[arg(long, value_name = "RHO")]
    rho: Option<f64>,
    /// With --balance nayak: the least probability of the teacher's decision, in varied copies too; not in images from --boundary
    /// [default: 0]
    #[arg(long, value_name = "P")]
    min_confidence: Option<f64>,
    /// Prefer images that look related to the teacher's task: where not all can be taken, and in the weights for the sampler of
    /// `distill`. Every image goes through the teacher once more
    #[arg(long)]
    related: bool,
    /// Take only the first of images that show the same, as when sets are mixed
    #[arg(long)]
    distinct: bool,
    /// Add images on both sides of the teacher's borders, found from the others; four per way, towards the rarest classes
    #[arg(long, value_name = "N", default_value_t = 0)]
    boundary: u32,
    /// Record the teacher's answers for this many crops and mirror images of every image (at most 162), for `distill --answers stored`
    #[arg(long, value_name = "N", default_value_t = 0)]
    views: u16,
    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    common: Common,
}

/// More classes than this are not listed one by one.
const LISTED: usize = 20;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Method {
    Soft,
    Nayak,
    None,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Nayak => "nayak",
            Self::None => "none",
        }
    }
}

impl Collect {
    pub fn run(&self, global: &Global) -> Result<()> {
        // What is wrong with the options is said before the teacher is fetched.
        self.balance(Method::Soft)?;
        let sources: Vec<PathBuf> = self.from.iter().map(|wish| wish.path_and_split().0).collect();
        let inputs: Vec<&Path> = sources.iter().chain([&self.teacher.path]).map(PathBuf::as_path).collect();
        let place = self.lasting.open(&self.output, &self.common, &inputs)?;
        let compute = self.computing.open(global.quiet)?;
        let access = global.access();
        let teacher = self.teacher.load(&access)?;
        let balance = self.balance(match teacher.network.arch.task {
            Task::Classification => Method::Soft,
            Task::Segmentation => Method::None,
        })?;
        let samples = self.samples.map_or(usual_samples(teacher.config.num_classes), |n| n as usize);
        let pool = pool_size(self.pool.map(|n| n as usize), samples, balance);
        if pool < samples && !matches!(balance, Balance::Nayak { .. }) {
            let hint = "take a larger one, fewer --samples, or --balance nayak, which makes copies";
            return Err(Error::invalid("--pool", format!("{pool} images for a set of {samples}"), hint));
        }
        let sources = open_sources(&self.from, &Teacher::of(&teacher), self.common.seed, pool, &access)?;
        let job = CollectJob {
            teacher: &teacher,
            sources,
            samples,
            pool: Some(pool),
            balance,
            related: self.related,
            distinct: self.distinct,
            boundary: self.boundary as usize,
            views: usize::from(self.views),
            license: self.teacher.license(),
            seed: self.common.seed,
            compute: &compute,
        };
        let mut session = match self.lasting.session(place, "", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => {
                let set = SyntheticSet::read(&self.output)?;
                let unfilled = serde_json::from_value(provenance["metrics"]["unfilled"].clone()).unwrap_or_default();
                return self.report(&Collected { set, unfilled });
            }
        };
        let collected = job.run(session.as_mut())?;
        let staging = session.staging()?;
        collected.set.write(staging.path())?;
        session.finish(staging)?;
        self.report(&collected)
    }

    /// The balance that is asked for, or the usual one.
    fn balance(&self, usual: Method) -> Result<Balance> {
        let asked = self.balance.unwrap_or(usual);
        for (option, given, method) in [
            ("--rho", self.rho.is_some(), Method::Soft),
            ("--min-confidence", self.min_confidence.is_some(), Method::Nayak),
        ] {
            if given && asked != method {
                let hint = format!("leave it out, or take --balance {}", method.name());
                return Err(Error::invalid(option, "another balance has no use for it", hint));
            }
        }
        let share = |what: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(value),
            false => Err(Error::invalid(what, value.to_string(), "give a number within 0 to 1")),
        };
        Ok(match asked {
            Method::Soft => Balance::Soft { rho: share("--rho", self.rho.unwrap_or(0.5))? },
            Method::Nayak => {
                let least = self.min_confidence.unwrap_or(0.0);
                Balance::Nayak { min_confidence: share("--min-confidence", least)? }
            }
            Method::None => Balance::None,
        })
    }

    fn report(&self, collected: &Collected) -> Result<()> {
        let Collected { set, unfilled } = collected;
        let (about, health) = (&set.provenance, &set.provenance["health"]);
        let wall = &about["wall_seconds"];
        if self.common.json {
            return print_json(&json!({
                "set": self.output.display().to_string(), "count": set.len(), "images_per_class": set.histogram(),
                "sources": about["sources"], "unfilled": unfilled, "metrics": about["metrics"], "wall_seconds": wall,
                "balance_entropy": health["balance"]["entropy"], "confidence": health["answers"]["confidence"],
                "peak_memory_mib": about["peak_memory_mib"],
            }));
        }
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let mut rows = vec![
            ("set", self.output.display().to_string()),
            ("images", format!("{} of a pool of {}", set.len(), about["metrics"]["pool"])),
        ];
        for source in about["sources"].as_array().into_iter().flatten() {
            rows.push(("source", in_words(source)));
        }
        rows.push((
            "classes",
            format!(
                "entropy {:.3} of the teacher's decisions (1: all equally frequent)",
                number(&health["balance"]["entropy"])
            ),
        ));
        rows.push(("confidence", format!("{:.3} on average", number(&health["answers"]["confidence"]))));
        let made = [
            ("varied_copies", "varied copies"),
            ("boundary", "on both sides of borders"),
            ("repeated", "repeated, left out"),
        ];
        for (key, what) in made {
            if about["metrics"][key].as_u64().is_some_and(|n| n > 0) {
                rows.push(("images", format!("{} {what}", about["metrics"][key])));
            }
        }
        for class in unfilled.iter().take(LISTED) {
            rows.push(("unfilled", format!("{}: {} of {} images", class.class, class.have, class.wanted)));
        }
        if unfilled.len() > LISTED {
            rows.push(("unfilled", format!("and {} more", unfilled.len() - LISTED)));
        }
        let unseen: Vec<&str> =
            about["metrics"]["unseen"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !unseen.is_empty() {
            let more = if unseen.len() > LISTED { ", ..." } else { "" };
            let listed = unseen[..unseen.len().min(LISTED)].join(", ");
            let (count, classes) = (unseen.len(), set.class_names.len());
            rows.push(("unseen", format!("{count} of {classes} classes: {listed}{more}")));
        }
        rows.push(("device", device(about)));
        rows.push(("seconds", format!("{} ({} for the teacher's pass)", wall["total"], wall["pool"])));
        print(&table(&rows))
    }
}

/// A source with what became of its items.
fn in_words(source: &Value) -> String {
    let mut line = format!(
        "{}: {} looked at, {} used",
        source["name"].as_str().unwrap_or("?"),
        source["looked_at"],
        source["used"]
    );
    for (what, verb) in [("skipped", "skipped"), ("converted", "converted")] {
        for (reason, count) in source[what].as_object().into_iter().flatten() {
            line += &format!("; {count} {verb} ({reason})");
        }
    }
    line
}
