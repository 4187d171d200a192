//! `synth invert`: a teacher becomes a set.

use super::options::{Common, Computing, Either, Lasting, ModelOptions, compare_time, minutes};
use super::recipe::RecipeOptions;
use super::{Global, device, print, print_json, table};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use synth::Result;
use synth::invert::Recipe;
use synth::jobs::{InvertJob, label_embeddings, usual_student};
use synth::nets::Task;

/// Make a small set of synthetic images from a teacher alone
#[derive(Args)]
pub struct Invert {
    #[command(flatten)]
    teacher: ModelOptions,
    /// Folder of the set
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Time for the inversion in minutes, in place of the recipe's number of rounds
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<Duration>,
    /// Network that disagrees with the teacher while images are made [default: resnet8, or resnet10 for images with no side up to
    /// 84 pixels; if the teacher answers for pixels, espnet-p2-q3, or deeplabv3_mobilenet_v2_035 for fewer than 5 classes or sides
    /// not divisible by 8]
    #[arg(long, value_name = "NET")]
    adversary: Option<String>,
    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    common: Common,
}

impl Invert {
    pub fn run(&self, global: &Global) -> Result<()> {
        let place = self.lasting.open(&self.output, &self.common, &[&self.teacher.path])?;
        let compute = self.computing.open(global.quiet)?;
        let teacher = self.teacher.load(&global.access())?;
        let recipe = self.recipe.resolve(&teacher)?;
        self.check_values(&recipe)?;
        let embeddings = label_embeddings(&teacher, &recipe, &global.access())?;
        let job = InvertJob {
            teacher: &teacher,
            recipe: &recipe,
            embeddings: embeddings.as_ref(),
            adversary: self.adversary.as_deref().unwrap_or(usual_student(&teacher.config, "resnet8")),
            teacher_blocks: false,
            on_the_fly: recipe.on_the_fly,
            all_views: true,
            limit: self.minutes,
            seed: self.common.seed,
            compute: &compute,
        };
        let mut session = match self.lasting.session(place, "", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => return self.report(&provenance),
        };
        let inverted = job.run(session.as_mut())?;
        self.recipe.compare(inverted.set.len());
        compare_time(self.minutes, &inverted.set.provenance);
        let staging = session.staging()?;
        inverted.write(staging.path())?;
        session.finish(staging)?;
        self.report(&inverted.set.provenance)
    }

    /// Refuses values that are for a student, not for an adversary.
    fn check_values(&self, recipe: &Recipe) -> Result<()> {
        let overrides = &self.recipe.overrides;
        let why = "the adversary of an inversion does without";
        overrides.have_none(&["finish_steps"], why, "leave it out, or say it to `synth run`")?;
        let hint = "leave it out, or say it to `synth distill` or `synth run`";
        overrides.have_none(&["student.steps", "student.signal", "student.rand_augment"], why, hint)?;
        if recipe.on_the_fly {
            return Ok(());
        }
        let keys = ["student.schedule", "student.mixup_until", "student.mixup_alpha"];
        overrides.have_none(&keys, "the adversary learns at a constant rate from images that are not mixed", hint)
    }

    fn report(&self, provenance: &Value) -> Result<()> {
        let (wall, health) = (&provenance["wall_seconds"], &provenance["health"]);
        // The label of an image of which every pixel has an answer is the teacher's.
        let pixels = provenance["task"] == Task::Segmentation.name();
        let agreement = health["answers"]["on_label"].as_f64().filter(|_| !pixels);
        if self.common.json {
            return print_json(&json!({
                "set": self.output.display().to_string(), "count": health["images"], "agreement": agreement, "wall_seconds": wall,
                "alarms": provenance["alarms"],
            }));
        }
        let mut rows = vec![("set", self.output.display().to_string()), ("images", health["images"].to_string())];
        rows.extend(
            agreement.map(|share| ("on label", format!("{:.1} % of labels are the teacher's answer", 100.0 * share))),
        );
        rows.push(("device", device(provenance)));
        rows.push(("seconds", wall["total"].to_string()));
        print(&table(&rows))
    }
}
