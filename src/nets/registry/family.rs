//! What the file of an architecture tells the registry.

use super::args::Args;
use crate::Result;
use crate::nets::Architecture;
use crate::weights::Scheme;
use serde_json::{Map, Value};

/// What a network reads and how many logits it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub num_classes: usize,
}

impl Shape {
    pub(in crate::nets) fn sides(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// A kind of network: how it is called, built, configured and named in files.
pub(in crate::nets) struct Family {
    /// What people call it.
    pub title: &'static str,
    /// What errors call it and, in [`Form::Ours`], the `model_type` in `config.json`.
    pub model_type: &'static str,
    pub form: Form,
    /// Names of its networks, with their arguments. In [`Form::Timm`] these are timm's names.
    pub names: &'static [(&'static str, fn() -> Value)],
    /// Other names, with the one of `names` that they stand for.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Networks that timm has a constructor but no name for: ours, timm's whose constructor it is, and its arguments.
    pub variants: &'static [(&'static str, &'static str, fn() -> Value)],
    /// The arguments of a name with numbers in it.
    pub pattern: Option<fn(&str) -> Option<Value>>,
    /// All names in a few words, for messages.
    pub summary: &'static str,
    /// The images that its models are usually trained on: `[channels, height, width]`.
    pub usual_input: [usize; 3],
    /// The smallest image side that leaves a pixel to the last layer.
    pub min_side: usize,
    /// The learning rate of its students where a recipe leaves that open (batches of 128, T = 20, recipe `ssd`): 0.5 where batch
    /// norms bear it, less for networks with depthwise or grouped convolutions and without norms. Those that only answer have no
    /// use for it.
    pub student_rate: f64,
    /// Name of the first convolution in files.
    pub first: &'static str,
    pub head: Head,
    /// Whether it averages over all pixels before the last layer (else it flattens them, or reads a token).
    pub averages: bool,
    /// How other code bases name its tensors.
    pub schemes: &'static [Scheme],
    /// How transformers describes it.
    pub transformers: Option<Transformers>,
    pub build: fn(&mut Args, &Shape, head: &'static str) -> Result<Architecture>,
}

/// What `config.json` of a family's models looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nets) enum Form {
    /// `model_type` and `model_args` say all.
    Ours,
    /// As timm writes it: `architecture` is timm's name, and `model_args`, if any, are keyword arguments of its constructor,
    /// so that timm loads what we save.
    Timm,
}

/// Name of the last layer in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nets) enum Head {
    Is(&'static str),
    /// `linear` or `fc`: as the configuration says, else as the best-known code with the same shortcuts does.
    OfShortcut,
}

impl Head {
    /// The name, given the arguments and what the configuration calls it.
    pub(super) fn name(self, args: &Map<String, Value>, configured: Option<&str>) -> &'static str {
        match (self, configured) {
            (Self::Is(name), _) => name,
            (Self::OfShortcut, Some("linear")) => "linear",
            (Self::OfShortcut, Some("fc")) => "fc",
            _ if args.get("shortcut").and_then(Value::as_str) == Some("A") => "linear",
            _ => "fc",
        }
    }
}

/// A family's `config.json` in transformers.
#[derive(Clone, Copy)]
pub(in crate::nets) struct Transformers {
    /// `model_type` there.
    pub model_type: &'static str,
    /// Its keys that decide the network, to arguments of the family.
    pub args: fn(&mut Args) -> Result<Map<String, Value>>,
}
