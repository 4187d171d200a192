//! Options that several subcommands share.

use clap::Args;
use std::path::PathBuf;
use synth::model::{Model, Overrides};
use synth::{Error, Result};

/// Which model, and what a bare checkpoint file does not say of itself.
#[derive(Args)]
pub struct ModelOptions {
    /// Folder in Hub layout, or a .safetensors, .pth, .pt or .th file together with --arch
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    /// Architecture, such as resnet20 or wrn-16-2 (replaces what config.json says)
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Number of classes
    #[arg(long, value_name = "K")]
    num_classes: Option<usize>,
    /// Images that the model reads: channels, height, width
    #[arg(long, value_name = "C,H,W", value_delimiter = ',')]
    input_size: Option<Vec<usize>>,
    /// Mean per channel that is subtracted, for pixels in 0..1
    #[arg(long, value_name = "M,..", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Option<Vec<f64>>,
    /// Standard deviation per channel that is divided by, for pixels in 0..1
    #[arg(long, value_name = "S,..", value_delimiter = ',')]
    std: Option<Vec<f64>>,
}

impl ModelOptions {
    /// Loads the model.
    pub fn load(&self) -> Result<Model> {
        let triple = |list: &Vec<usize>| {
            <[usize; 3]>::try_from(list.as_slice()).map_err(|_| {
                let found = format!("{} numbers", list.len());
                Error::invalid("--input-size", found, "give channels, height and width, such as 3,32,32")
            })
        };
        let overrides = Overrides {
            num_classes: self.num_classes,
            input_size: self.input_size.as_ref().map(triple).transpose()?,
            mean: self.mean.clone(),
            std: self.std.clone(),
        };
        Model::load(&self.path, self.arch.as_deref(), &overrides)
    }
}
