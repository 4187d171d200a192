//! `synth recipes`: every recipe, one line each, or one of them as TOML.

use super::{Global, print};
use clap::Args;
use synth::invert::Recipe;
use synth::nets::Task;
use synth::{Error, Result};

/// List the recipes, or print one as TOML
#[derive(Args)]
pub struct Recipes {
    /// Recipe to print
    name: Option<String>,
    /// What its teachers answer for: image-classification (images) or image-segmentation (pixels)
    #[arg(long, requires = "name", value_parser = task, default_value = Task::Classification.name())]
    task: Task,
}

fn task(name: &str) -> std::result::Result<Task, String> {
    Task::of(name).ok_or_else(|| {
        let known = [Task::Classification, Task::Segmentation].map(Task::name);
        format!("expected one of: {}", known.join(", "))
    })
}

impl Recipes {
    pub fn run(&self, _: &Global) -> Result<()> {
        match &self.name {
            None => {
                let width = Recipe::ALL.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
                print(
                    &Recipe::ALL.iter().map(|(name, what, _)| format!("{name:<width$}  {what}\n")).collect::<String>(),
                )
            }
            Some(name) => {
                let text = toml::to_string(&Recipe::named(name)?.of_task(self.task));
                print(&text.map_err(|error| Error::invalid("recipe", error.to_string(), "report this"))?)
            }
        }
    }
}
