//! Whether a batch fits into memory, said before any of it is taken.
//!
//! Passes over two images and over four tell what a tape holds ([`Tape::counting`]) and how that grows with the batch. On the way back there are
//! the gradient of the largest map and that of the one before it, too. Where answers are of pixels, those of the teacher, gradients
//! with respect to answers and the tape's copies of these count as well ([`Need::beside`]). What a step takes beside that is small:
//! weights and their moments, a convolution's work space, 8-bit images.

use crate::nets::{Forward, Mode, Network, Task};
use crate::ops::mem::tensor;
use crate::tape::{Held, Tape, Var};
use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// Images of the passes that are compared: batch norms need two.
const TRIED: [usize; 2] = [2, 4];
/// Gradients of maps that are there at a time.
const GRADIENTS: f64 = 2.0;
/// A batch is refused only if it needs this many times what is free: estimates are not exact, and nothing that would run is
/// to be refused.
const MARGIN: f64 = 1.25;

/// What a pass of a network needs per image, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// Held from the way there to the way back.
    pub kept: f64,
    /// In use for a moment.
    pub passing: f64,
}

impl Need {
    /// Of a pass of `network` in `mode` over inputs of `dims` (without the batch), and back, if `back`: to its weights where they
    /// train, else to its input.
    ///
    /// On a card nothing is known of it: 0.
    ///
    /// # Errors
    /// An input that the network cannot take.
    pub fn of(network: &Network, dims: &[usize], mode: Mode, back: bool) -> Result<Self> {
        if !network.compute().is_cpu() {
            return Ok(Self::default());
        }
        // Training moves running statistics.
        let copy = matches!(mode, Mode::Train { .. }).then(|| network.duplicate()).transpose()?;
        let network = copy.as_ref().unwrap_or(network);
        let [few, more] = TRIED.map(|images| held(network, &[&[images], dims].concat(), mode, back));
        let (few, more) = (few?.values, more?.values);
        // Weights are there once, however large the batch is.
        let each = few.iter().zip(&more).map(|(few, more)| {
            let bytes = more.0.saturating_sub(few.0) as f64 / (TRIED[1] - TRIED[0]) as f64;
            (bytes, few.1)
        });
        let input = size_of::<f32>() * dims.iter().product::<usize>();
        let kept = each.clone().filter(|(_, kept)| *kept).map(|(bytes, _)| bytes).sum::<f64>() + input as f64;
        Ok(Self { kept, passing: GRADIENTS * each.map(|(bytes, _)| bytes).fold(0.0, f64::max) })
    }

    /// With `lists` lists as large as the answers of `bytes`, held while this is; where nothing is known of it, nothing is of these.
    pub fn beside(self, lists: usize, bytes: f64) -> Self {
        if self == Self::default() {
            return self;
        }
        Self { kept: self.kept + lists as f64 * bytes, ..self }
    }

    /// Of both, one after the other, with what each holds kept until both are over.
    pub fn with(self, other: Self) -> Self {
        Self { kept: self.kept + other.kept, passing: self.passing.max(other.passing) }
    }

    /// Of one and, when all of it is gone, the other.
    pub fn then(self, other: Self) -> Self {
        if self.total() > other.total() { self } else { other }
    }

    /// Bytes per image.
    pub fn total(self) -> f64 {
        self.kept + self.passing
    }

    /// # Errors
    /// [`Error::Invalid`] if `batch` images, called `key` in the recipe, of `size` (height, width) need clearly more than there is.
    /// Where the system does not say how much that is, every batch is taken.
    pub fn check(self, key: &str, batch: usize, size: [usize; 2]) -> Result<()> {
        match available() {
            Some(free) => self.check_against(free, key, batch, size),
            None => Ok(()),
        }
    }

    fn check_against(self, free: u64, key: &str, batch: usize, [h, w]: [usize; 2]) -> Result<()> {
        let need = self.total() * batch as f64;
        if need <= MARGIN * free as f64 {
            return Ok(());
        }
        let gib = |bytes: f64| significant(bytes / f64::from(1 << 30));
        let fits = free as f64 / self.total();
        let hint = match fits >= 2.0 {
            true => format!("about {} would fit", round_down(fits)),
            false => "take a smaller network or smaller images".into(),
        };
        let found =
            format!("{batch} images of {h}x{w} need about {} GiB, {} GiB are free", gib(need), gib(free as f64));
        Err(Error::invalid(key, found, hint))
    }
}

/// Bytes of the logits of an image of `size` (height, width).
pub fn answer_bytes(task: Task, [height, width]: [usize; 2], classes: usize) -> f64 {
    let rows = match task {
        Task::Classification => 1.0,
        Task::Segmentation => height as f64 * width as f64,
    };
    rows * (classes * size_of::<f32>()) as f64
}

/// What the tape of a pass over a batch of `dims` holds.
fn held(network: &Network, dims: &[usize], mode: Mode, back: bool) -> Result<Held> {
    let tape = Tape::counting();
    let mut f = Forward::new(&tape, &network.weights, mode);
    let x = tensor(vec![0.5; dims.iter().product()], dims)?;
    let x = if back && !matches!(mode, Mode::Train { .. }) { tape.leaf(x) } else { Var::constant(x) };
    network.forward(&mut f, x)?.tensor()?;
    Ok(tape.held())
}

/// Two digits: `0.35`, `9.6`, `96`, `350`.
fn significant(value: f64) -> String {
    match value {
        10.0.. => format!("{value:.0}"),
        1.0..10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Two digits and zeros, never more than it is.
fn round_down(value: f64) -> usize {
    let unit = 10f64.powi(value.log10().floor() as i32 - 1).max(1.0);
    ((value / unit).floor() * unit) as usize
}

/// Bytes that this process may still take: what the system has left, with swap, and what its control groups allow. `None` where
/// the system does not say.
pub fn available() -> Option<u64> {
    let about = fs::read_to_string("/proc/meminfo").ok()?;
    let line = |key: &str| -> Option<u64> {
        let line = about.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    };
    let system = line("MemAvailable:")? + line("SwapFree:").unwrap_or(0);
    Some(groups().into_iter().fold(system, u64::min))
}

/// What each control group above this process has left.
fn groups() -> Vec<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut left = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let [root, limit, usage] = match controllers {
            "" => ["/sys/fs/cgroup", "memory.max", "memory.current"],
            _ if controllers.split(',').any(|c| c == "memory") => {
                ["/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"]
            }
            _ => continue,
        };
        // The path may be that outside of a container, in which case the root is the container's own.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = Path::new(root).join(group);
            let read = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(usage)) = (read(limit), read(usage)) {
                // Cached files are given up when memory runs short.
                let cached = inactive_files(&folder);
                left.push(limit.saturating_sub(usage.saturating_sub(cached)));
            }
        }
    }
    left
}

fn inactive_files(group: &Path) -> u64 {
    let about = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let lines = about.lines().filter_map(|line| line.split_once(' '));
    let of = |key: &str| lines.clone().find(|(name, _)| *name == key).and_then(|(_, value)| value.parse().ok());
    of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let need = Need { kept: 1.5e6, passing: 0.1e6 };
        let gib = 1u64 << 30;
        need.check_against(20 * gib, "batch", 12_000, [32, 32]).unwrap();
        need.check_against(20 * gib, "batch", 16_000, [32, 32]).unwrap(); // it may just run
        let text = need.check_against(20 * gib, "batch", 60_000, [32, 32]).unwrap_err().to_string();
        let expected = "batch: 60000 images of 32x32 need about 89 GiB, 20 GiB are free; about 13000 would fit";
        assert_eq!(text, expected);
        let text = need.check_against(1 << 20, "student.batch", 2, [8, 8]).unwrap_err().to_string();
        assert!(text.contains("0.00 GiB are free; take a smaller network"), "{text}");
        assert_eq!([9.0, 99.0, 123.0, 13_999.0].map(round_down), [9, 99, 120, 13_000]);
    }

    /// An image of 512x512 with 150 classes has 157 MB of logits.
    #[test]
    fn answers_of_pixels_count() {
        let bytes = answer_bytes(Task::Segmentation, [512, 512], 150);
        assert_eq!((bytes, answer_bytes(Task::Classification, [512, 512], 150)), (157_286_400.0, 600.0));
        let need = Need { kept: 1e6, passing: 2e6 }.beside(3, bytes);
        assert_eq!((need.kept, need.passing), (1e6 + 3.0 * bytes, 2e6));
        let text = need.check_against(10 << 30, "student.batch", 32, [512, 512]).unwrap_err().to_string();
        assert!(
            text.ends_with("32 images of 512x512 need about 14 GiB, 10 GiB are free; about 22 would fit"),
            "{text}"
        );
    }

    #[test]
    fn this_machine_has_some_memory_left() {
        if cfg!(target_os = "linux") {
            let free = available().unwrap();
            assert!((1 << 20..1 << 50).contains(&free), "{free}");
        }
    }
}
