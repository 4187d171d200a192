//! `synth export`: a model or a set for other programs.

use super::options::{ModelOptions, spare};
use super::{Global, print, print_json, table};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use synth::export::{onnx, write_pictures};
use synth::files::{Staging, prepare_file};
use synth::hub::{HubName, Kind};
use synth::nets::Task;
use synth::set::SyntheticSet;
use synth::{Error, Result};

/// Write a model as ONNX, or the images of a set as PNG files
#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    source: ModelOptions,
    /// onnx: a model as one file; png: a set (in place of MODEL) as PATH/CLASS/INDEX.png
    #[arg(long, value_enum)]
    to: Format,
    /// File or folder to write [default for onnx: the model's name with .onnx]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[arg(long, value_name = "N", help = opset_help())]
    opset: Option<u32>,
    /// ONNX: put (x - mean) / std into the graph, whose input is then pixels in 0..1
    #[arg(long, visible_alias = "normalize")]
    normalise: bool,
    /// Replace an existing result: a file that ends in .onnx, a folder of pictures from here (its synth.json says so)
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is written.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Onnx,
    Png,
}

impl Export {
    pub fn run(&self, global: &Global) -> Result<()> {
        match self.to {
            Format::Onnx => self.onnx(global),
            Format::Png => self.png(global),
        }
    }

    fn onnx(&self, global: &Global) -> Result<()> {
        if super::inspect::is_set(&self.source.path) {
            let what = self.source.path.display().to_string();
            return Err(Error::invalid(what, "it is a set of images, not a model", "write its images with --to png"));
        }
        let path = match &self.output {
            Some(path) => path.clone(),
            None => default_file(&self.source.path)?,
        };
        prepare_file(&path, "onnx", self.force)?;
        let model = self.source.load(&global.access())?;
        let defaults = onnx::Options::default();
        let options = onnx::Options { opset: self.opset.unwrap_or(defaults.opset), normalise: self.normalise };
        let file = onnx::export(&model, &options)?;
        file.write(&path)?;
        let parameters = model.network.arch.parameters();
        if self.json {
            return print_json(&json!({
                "path": path, "format": "onnx", "opset": file.opset, "normalise": self.normalise,
                "nodes": file.nodes, "bytes": file.bytes.len(), "parameters": parameters,
            }));
        }
        let [channels, height, width] = model.config.pretrained_cfg.input_size;
        let pixels = if self.normalise { "pixels in 0..1" } else { "(pixel - mean) / std of pixels in 0..1" };
        let sides = match model.network.arch.task {
            Task::Classification => String::new(),
            Task::Segmentation => format!(", {height}, {width}"),
        };
        print(&table(&[
            ("file", format!("{} ({} bytes)", path.display(), file.bytes.len())),
            ("opset", file.opset.to_string()),
            ("nodes", file.nodes.to_string()),
            ("parameters", parameters.to_string()),
            ("input", format!("{} [batch, {channels}, {height}, {width}]: {pixels}", onnx::INPUT)),
            ("output", format!("{} [batch, {}{sides}]", onnx::OUTPUT, model.config.num_classes)),
        ]))
    }

    fn png(&self, global: &Global) -> Result<()> {
        if self.opset.is_some() || self.normalise || self.source.is_described() {
            let found = "--opset, --normalise and what describes a model have no meaning for pictures";
            return Err(Error::invalid("--to png", found, "leave them out"));
        }
        let Some(output) = &self.output else {
            return Err(Error::invalid("--to png", "there is no --output", "name the folder for the pictures with -o"));
        };
        spare(self.force, &self.source.path, output)?;
        let staging = Staging::create(output, self.force)?;
        let set = SyntheticSet::read(global.access().set(&self.source.path)?.0)?;
        let written = write_pictures(&set, staging.path())?;
        staging.finish()?;
        if self.json {
            return print_json(&json!({
                "path": output, "format": "png", "images": written.count, "bytes": written.bytes,
                "folders": written.folders,
            }));
        }
        print(&table(&[
            ("folder", output.display().to_string()),
            ("images", format!("{} in {} classes ({} bytes)", written.count, written.folders.len(), written.bytes)),
        ]))
    }
}

fn opset_help() -> String {
    let (oldest, newest) = (onnx::OPSETS.start(), onnx::OPSETS.end());
    format!("ONNX: version of the operators, {oldest} to {newest} [default: {}]", onnx::DEFAULT_OPSET)
}

/// `NAME.onnx` in the current folder for a model folder or file called NAME, or a repository of that name on the Hub.
fn default_file(model: &Path) -> Result<PathBuf> {
    let mut file = match HubName::of_path(model, Kind::Model)? {
        Some(hub) => hub.repo.name.into(),
        None => {
            let full = std::fs::canonicalize(model).unwrap_or_else(|_| model.to_path_buf());
            let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
            name.unwrap_or("model".as_ref()).to_os_string()
        }
    };
    file.push(".onnx");
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_models() {
        let of = |text: &str| default_file(Path::new(text)).unwrap();
        assert_eq!(of("google/mobilenet_v2_1.0_224"), Path::new("mobilenet_v2_1.0_224.onnx"));
        assert_eq!(of("hf://owner/net@v1.0"), Path::new("net.onnx"));
        assert_eq!(of("there/is/none.safetensors"), Path::new("none.onnx"));
    }
}
