//! Where a network computes and in which precision.

use super::simd::has_tiles;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// Of what convolutions multiply, and on a card also of the images and maps between layers. Weights, statistics, sums, losses and
/// gradients of weights are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Strictly: products in f32 too, no TF32.
    F32,
    /// bfloat16 values, f32 sums. On CUDA, and on CPUs with tiles (AMX).
    Bf16,
}

impl Precision {
    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A device and a precision. A network lives on one; its inputs follow it.
#[derive(Clone, Debug)]
pub struct Compute {
    pub device: Device,
    pub precision: Precision,
    /// Whether training steps and the passes of a frozen network are recorded as CUDA graphs; on a card they are by default.
    pub graphs: bool,
}

/// The CPU in f32, to be lent.
pub static CPU: Compute = Compute { device: Device::Cpu, precision: Precision::F32, graphs: false };

/// What a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first card if this program knows CUDA and one answers, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The card with this number.
    Cuda(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => number(text).map(Self::Cuda).ok_or_else(|| "give auto, cpu, cuda or cuda:N".into()),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}, {}", self.name(), self.precision.name())
    }
}

impl Default for Compute {
    fn default() -> Self {
        Self::cpu()
    }
}

impl Compute {
    /// The CPU in f32.
    pub fn cpu() -> Self {
        CPU.clone()
    }

    /// What was asked for; without a precision, bf16 where the device has units for it (a card, or a CPU's tiles) and else f32. The
    /// second value says in words what was taken and why.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a card was asked for by name and there is none, or bf16 of a CPU without tiles.
    pub fn choose(choice: DeviceChoice, precision: Option<Precision>) -> Result<(Self, String)> {
        let (device, (place, why)) = match choice {
            DeviceChoice::Cpu => (Device::Cpu, ("the CPU".to_string(), "as asked".to_string())),
            DeviceChoice::Cuda(ordinal) => {
                let (device, name) = open(ordinal)
                    .map_err(|why| Error::invalid(format!("device cuda:{ordinal}"), why, "take --device cpu"))?;
                (device, (format!("cuda:{ordinal}"), name))
            }
            DeviceChoice::Auto => match open(0) {
                Ok((device, name)) => (device, ("cuda:0".to_string(), name)),
                // What to do about it is no part of what was taken.
                Err(why) => {
                    let found = why.split(';').next().unwrap_or_default().to_string();
                    (Device::Cpu, ("the CPU".to_string(), found))
                }
            },
        };
        let has_units = device.is_cuda() || has_tiles();
        let precision = precision.unwrap_or(if has_units { Precision::Bf16 } else { Precision::F32 });
        if precision == Precision::Bf16 && !has_units {
            let found = format!("{place} ({why}) has no tiles for it (AMX) and computes in f32");
            return Err(Error::invalid("precision bf16", found, "take --precision f32, or a CUDA device"));
        }
        let graphs = device.is_cuda();
        let units = if precision == Precision::Bf16 && !graphs { "which has AMX; " } else { "" };
        Ok((Self { device, precision, graphs }, format!("{place} in {} ({units}{why})", precision.name())))
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// Kind of the values of images and maps.
    pub fn dtype(&self) -> DType {
        match self.precision {
            Precision::Bf16 if !self.is_cpu() => DType::BF16,
            _ => DType::F32,
        }
    }

    /// `t` on this device; itself if it is there already.
    pub fn bring(&self, t: &Tensor) -> Result<Tensor> {
        Ok(t.to_device(&self.device)?)
    }

    /// Waits until everything that was asked of the device is done.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }

    /// `cpu`, or `cuda:N` with the name of the card.
    pub fn name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            _ => "cpu".into(),
        }
    }
}

/// Card `ordinal` with its name, or why it cannot be had.
fn open(ordinal: usize) -> std::result::Result<(Device, String), String> {
    #[cfg(feature = "cuda")]
    {
        super::cuda::open(ordinal).map_err(|error| error.to_string())
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = ordinal;
        Err("this program was built without CUDA".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    #[test]
    fn choices_are_read() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert!(["gpu", "cuda:", "cuda:x", "cuda:-1"].iter().all(|text| text.parse::<DeviceChoice>().is_err()));
    }

    #[test]
    fn bf16_is_refused_on_cpus_without_tiles() {
        let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let choose = |precision| Compute::choose(DeviceChoice::Cpu, precision);
        simd::force(Some(simd::Level::Portable));
        let error = choose(Some(Precision::Bf16)).unwrap_err().to_string();
        simd::force(None);
        assert!(error.contains("bf16") && error.contains("--precision f32"), "{error}");
        let usual = if has_tiles() { Precision::Bf16 } else { Precision::F32 };
        assert_eq!(choose(None).unwrap().0.precision, usual);
        let rough = choose(Some(Precision::Bf16));
        assert_eq!(rough.is_ok(), has_tiles());
        assert!(rough.is_ok_and(|(compute, _)| compute.dtype() == DType::F32) || !has_tiles(), "maps are f32 on a CPU");
    }
}
