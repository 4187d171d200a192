//! `synth distill`: a set becomes a student.

use super::options::{Common, Computing, Either, Lasting, SnapshotOptions, compare_time, minutes, spare};
use super::recipe::Overrides;
use super::{Global, device, print, print_json, table};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use synth::distill::{SignalKind, Stop, StudentRecipe};
use synth::jobs::{Access, AnswerMode, DistillJob, Start, open_again, open_model, teacher_config, usual_student};
use synth::model::{Model, Overrides as ModelOverrides};
use synth::nets::Task;
use synth::report::held_out;
use synth::set::SyntheticSet;
use synth::{Error, Result};

/// Train a student on a set
#[derive(Args)]
#[command(mut_arg("config", |arg| arg.help("TOML file with a recipe, whose values of the student count; what it leaves out keeps its default")))]
#[command(mut_arg("values", |arg| arg.help("One value of the student, such as student.lr=0.05 (`student` in `synth recipes ssd`)")))]
pub struct Distill {
    /// Folder of the set, or its name on the Hugging Face Hub (owner/name, owner/name@revision)
    set: PathBuf,
    /// Folder of the student
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Architecture of the student [default: resnet8, or resnet10 for images with no side up to 84 pixels; if the teacher answers for
    /// pixels, espnet-p2-q3, or deeplabv3_mobilenet_v2_035 for fewer than 5 classes or sides not divisible by 8]
    #[arg(long, value_name = "NET")]
    student: Option<String>,
    /// Side of the images that the student reads, if other than the teacher's: it then sees the set's images resized
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(4..=4096))]
    size: Option<u16>,
    /// Teacher, with batch norms or without [default: the one that the set names, checked by its hash]
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// Whether the teacher answers every batch, or its recorded answers serve: faster, without mixing of images, and with no
    /// teacher needed [default: live if the teacher can be had]
    #[arg(long, value_enum)]
    answers: Option<Answers>,
    /// What the student hears of the teacher [default: answers]: logits adds their centred values, features these and attention
    /// maps and last features (live answers only). For real images that have nothing to do with the task; sets with inverted
    /// images are refused, since it harms there
    #[arg(long, value_enum, value_name = "SIGNAL")]
    signal: Option<SignalName>,
    /// Where the student's weights start
    #[arg(long, value_enum, default_value_t = Init::Scratch)]
    init: Init,
    /// Updates of the student
    #[arg(long, value_name = "N", conflicts_with_all = ["epochs", "minutes"])]
    steps: Option<usize>,
    /// Passes over the set, in place of --steps
    #[arg(long, value_name = "E", conflicts_with = "minutes", value_parser = epochs)]
    epochs: Option<f64>,
    /// Time for the updates in minutes, in place of --steps: as many as fit at the speed of the first few
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<Duration>,
    /// Stop after this many checks on the held-out tenth without improvement (there are 20 in a run; with --minutes as many of
    /// these as take a twentieth of the time)
    #[arg(long, value_name = "CHECKS")]
    early_stop: Option<usize>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    snapshots: SnapshotOptions,
    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    common: Common,
}

/// Parses a number of passes.
fn epochs(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|epochs| (0.0..1e9).contains(epochs) && *epochs > 0.0);
    number.ok_or_else(|| "give passes above 0, such as 30 or 0.5".into())
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Answers {
    Live,
    Stored,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum SignalName {
    Answers,
    Logits,
    Features,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Init {
    Scratch,
    Adversary,
    TeacherBlocks,
}

impl Distill {
    pub fn run(&self, global: &Global) -> Result<()> {
        let place = self.lasting.open(&self.output, &self.common, &[&self.set])?;
        let compute = self.computing.open(global.quiet)?;
        let (folder, set_name) = global.access().set(&self.set)?;
        let set = SyntheticSet::read(&folder)?;
        let (answers, teacher) = self.answers(&set, &folder, &global.access())?;
        if let Some(teacher) = &teacher {
            spare(self.common.force, Path::new(&teacher.source), &self.output)?;
        }
        let like = match &teacher {
            Some(teacher) => teacher.config.clone(),
            None => teacher_config(&set, &folder)?,
        };
        let student_name = self.student.as_deref().unwrap_or(usual_student(&like, "resnet8"));
        let job = DistillJob {
            set: &set,
            set_name,
            teacher: teacher.as_ref(),
            like: &like,
            student: student_name,
            size: self.size.map(|side| [usize::from(side); 2]),
            answers: if answers == Answers::Live { AnswerMode::Live } else { AnswerMode::Stored },
            start: match self.init {
                Init::Scratch => Start::Scratch,
                Init::Adversary => Start::Adversary(&folder),
                Init::TeacherBlocks => Start::TeacherBlocks,
            },
            recipe: &self.recipe(teacher.as_ref().map_or(set.task(), |teacher| teacher.network.arch.task), answers)?,
            stop: Stop { patience: self.early_stop, limit: self.minutes, epochs: self.epochs, ..Stop::default() },
            seed: self.common.seed,
            compute: &compute,
        };
        let mut session = match self.lasting.session(place, "", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => return report_again(&self.output, &provenance, self.common.json),
        };
        self.snapshots.begin(&mut session, &["distill"], self.minutes, job.updates())?;
        let (student, provenance) = job.run(session.as_mut())?;
        compare_time(self.minutes, &provenance);
        let staging = session.staging()?;
        let card = synth::report::model_card(student_name, &student.config, &provenance);
        student.save(staging.path(), &card, &provenance)?;
        session.finish(staging)?;
        report(&self.output, &student, &provenance, self.common.json)
    }

    /// Where answers come from, and the teacher if it is needed.
    fn answers(&self, set: &SyntheticSet, folder: &Path, access: &Access) -> Result<(Answers, Option<Model>)> {
        let blocks = self.init == Init::TeacherBlocks;
        if self.answers == Some(Answers::Stored) && !blocks {
            return match self.teacher {
                None => Ok((Answers::Stored, None)),
                Some(_) => {
                    let hint = "leave it out, or say --answers live";
                    Err(Error::invalid("--teacher", "the recorded answers serve, and need none", hint))
                }
            };
        }
        let optional = self.answers.is_none() && self.teacher.is_none() && !blocks && set.views.is_some();
        match self.teacher_of(set, folder, access) {
            Ok(teacher) => {
                self.check_known(&teacher, set)?;
                Ok((self.answers.unwrap_or(Answers::Live), Some(teacher)))
            }
            Err(e) if optional && !matches!(e, Error::Interrupted) => {
                tracing::warn!("the recorded answers serve, without mixing of images: {e}");
                Ok((Answers::Stored, None))
            }
            Err(e) => Err(e),
        }
    }

    fn recipe(&self, task: Task, answers: Answers) -> Result<StudentRecipe> {
        if answers == Answers::Stored {
            let keys = ["student.mixup_until", "student.mixup_alpha", "student.augment"];
            let why = "recorded answers are of views that were fixed when the set was made";
            self.overrides.have_none(&keys, why, "leave it out, or take --answers live")?;
        }
        let mut recipe = self.overrides.apply_student(task)?;
        if let Some(steps) = self.steps {
            recipe.steps = steps;
        }
        if let Some(name) = self.signal {
            recipe.signal.kind = match name {
                SignalName::Answers => SignalKind::Answers,
                SignalName::Logits => SignalKind::Logits,
                SignalName::Features => SignalKind::Features,
            };
        }
        Ok(recipe)
    }

    /// The named teacher, or the set's.
    fn teacher_of(&self, set: &SyntheticSet, folder: &Path, access: &Access) -> Result<Model> {
        if let Some(path) = &self.teacher {
            return open_model(path, None, &ModelOverrides::default(), access);
        }
        let known = &set.provenance["teacher"];
        if !known["id"].is_string() || !known["sha256"].is_string() {
            return Err(Error::file(&self.set, "synth.json names no teacher", "name it with --teacher"));
        }
        open_again(known, teacher_config(set, folder)?, access)
    }

    /// # Errors
    /// A teacher that has not the hash that the set knows, unless it was named.
    fn check_known(&self, teacher: &Model, set: &SyntheticSet) -> Result<()> {
        let known = &set.provenance["teacher"];
        if self.teacher.is_some() || known["sha256"] == *teacher.sha256 {
            return Ok(());
        }
        let name = known["id"].as_str().unwrap_or_default();
        let found = format!("the teacher {name} has changed since the set was made (another sha256)");
        let hint = "name the teacher to use with --teacher, or say --answers stored";
        Err(Error::file(&self.set, found, hint))
    }
}

/// The result of a job that made a model, for people or machines.
pub fn report(output: &Path, model: &Model, provenance: &Value, as_json: bool) -> Result<()> {
    let (wall, metrics) = (&provenance["wall_seconds"], &provenance["metrics"]);
    if as_json {
        return print_json(&json!({
            "model": output.display().to_string(),
            "architecture": model.config.architecture,
            "parameters": model.network.arch.parameters(),
            "start": provenance["start"],
            "answers": provenance["answers"],
            "seed": provenance["seed"],
            "wall_seconds": wall,
            "metrics": metrics,
            "alarms": provenance["alarms"],
            "peak_memory_mib": provenance["peak_memory_mib"],
        }));
    }
    let mut rows = vec![
        ("model", output.display().to_string()),
        ("network", format!("{}, {} parameters", model.config.architecture, model.network.arch.parameters())),
        ("start", start(provenance)),
    ];
    // Who learned from labels had none.
    rows.extend(provenance["answers"].as_str().map(|answers| ("answers", answers.to_string())));
    rows.extend([("device", device(provenance)), ("seconds", in_seconds(wall))]);
    if let Some(share) = metrics["held_out_agreement"].as_f64() {
        rows.push((
            "held out",
            format!(
                "agrees with the teacher on {:.1} % of {} that were held back",
                100.0 * share,
                held_out(model.network.arch.task)
            ),
        ));
    }
    print(&table(&rows))
}

/// As [`report`], of a result that was finished before.
pub fn report_again(output: &Path, provenance: &Value, as_json: bool) -> Result<()> {
    report(output, &Model::load(output, None, &ModelOverrides::default())?, provenance, as_json)
}

/// `7.3 (distillation 2.3, inversion 5.0)`: all of it, and the parts where there are several.
fn in_seconds(wall: &Value) -> String {
    let parts: Vec<(&String, f64)> =
        wall.as_object().into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect();
    let total = wall["total"].as_f64().unwrap_or_else(|| parts.iter().map(|(_, seconds)| seconds).sum());
    let named: Vec<String> =
        parts.iter().filter(|(name, _)| *name != "total").map(|(name, s)| format!("{name} {s:.1}")).collect();
    match named.len() {
        0 | 1 => format!("{total:.1}"),
        _ => format!("{total:.1} ({})", named.join(", ")),
    }
}

/// Where the weights came from, in words.
fn start(provenance: &Value) -> String {
    let copied = &provenance["start"]["tensors_copied"];
    match provenance["start"]["from"].as_str() {
        Some("teacher-blocks") => format!("{copied} tensors of the teacher"),
        Some("adversary") => "the adversary, which started from fresh weights".into(),
        _ => "fresh weights".into(),
    }
}
