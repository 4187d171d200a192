//! `synth run`: both stages, one report.

use super::options::{Common, Computing, Either, Lasting, SnapshotOptions, TeacherOptions, compare_time, minutes};
use super::recipe::RecipeOptions;
use super::{Global, distill};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use synth::Result;
use synth::jobs::{Init, RunJob, label_embeddings, usual_student};

/// From a teacher to a student in one go
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    teacher: TeacherOptions,
    /// Folder of the result: `set/` and `student/`
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Architecture of the student [default: resnet14, or resnet10 for images with no side up to 84 pixels; if the teacher answers for
    /// pixels, espnet-p2-q3, or deeplabv3_mobilenet_v2_035 for fewer than 5 classes or sides not divisible by 8]
    #[arg(long, value_name = "NET")]
    student: Option<String>,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Time for the whole run in minutes, in place of the recipe's `rounds` and `finish_steps`; where the adversary is the student,
    /// its schedule follows the number of rounds that fit
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<Duration>,
    /// The adversary is the student and leaves the loop trained: no second stage
    #[arg(long)]
    on_the_fly: bool,
    /// Where the student's weights start [default: teacher-blocks if they make up half of the student, else adversary]
    #[arg(long, value_enum)]
    init: Option<Start>,
    #[command(flatten)]
    snapshots: SnapshotOptions,
    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Start {
    /// From the adversary of the same architecture, which has seen every image
    Adversary,
    /// From fresh weights: the fair start in a comparison of methods
    Scratch,
    /// From the adversary, which itself starts with the teacher's tensors where names and shapes agree
    TeacherBlocks,
}

impl Run {
    pub fn run(&self, global: &Global) -> Result<()> {
        let place = self.lasting.open(&self.output, &self.common, &[self.teacher.path()])?;
        let compute = self.computing.open(global.quiet)?;
        let teacher = self.teacher.load(&global.access())?;
        let recipe = self.recipe.resolve(&teacher)?;
        let student = self.student.as_deref().unwrap_or(usual_student(&teacher.config, "resnet14"));
        let on_the_fly = self.on_the_fly || recipe.on_the_fly;
        let init = match self.init {
            None if on_the_fly => Init::Adversary,
            None => Init::fitting(&teacher, student)?,
            Some(Start::Adversary) => Init::Adversary,
            Some(Start::Scratch) => Init::Scratch,
            Some(Start::TeacherBlocks) => Init::TeacherBlocks,
        };
        let embeddings = label_embeddings(&teacher, &recipe, &global.access())?;
        let job = RunJob {
            teacher: &teacher,
            student,
            recipe: &recipe,
            embeddings: embeddings.as_ref(),
            init,
            on_the_fly,
            all_views: self.recipe.views.is_some(),
            limit: self.minutes,
            seed: self.common.seed,
            compute: &compute,
        };
        self.recipe.overrides.have_none_of(&job.making().unread())?;
        let mut session = match self.lasting.session(place, "student", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => {
                return distill::report_again(&self.output.join("student"), &provenance, self.common.json);
            }
        };
        let (stages, updates) = job.updates();
        self.snapshots.begin(&mut session, stages, self.minutes, updates)?;
        let ran = job.run(session.as_mut())?;
        self.recipe.compare(ran.inverted.set.len());
        compare_time(self.minutes, &ran.provenance);
        let staging = session.staging()?;
        ran.inverted.write(&staging.path().join("set"))?;
        let card = synth::report::model_card(student, &ran.student.config, &ran.provenance);
        let folder = staging.path().join("student");
        std::fs::create_dir_all(&folder).map_err(synth::Error::io("create", &folder))?;
        ran.student.save(&folder, &card, &ran.provenance)?;
        session.finish(staging)?;
        distill::report(&self.output.join("student"), &ran.student, &ran.provenance, self.common.json)
    }
}
