//! What the runs start from, made by the program itself: a teacher, labelled pictures, a set.

use super::process::{Run, finish};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Classes, pictures per class, and their side.
const PICTURES: (usize, u32, u32) = (3, 16, 8);

/// A folder of this process; what dead ones left is removed.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let above = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(above).unwrap();
        for entry in std::fs::read_dir(above).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix("faults-")
                && !Path::new("/proc").join(pid).exists()
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let own = above.join(format!("faults-{}", std::process::id()));
        std::fs::create_dir(&own).unwrap();
        own
    })
}

/// The teacher: a ResNet-8 for pictures of 8x8 pixels.
pub fn teacher() -> PathBuf {
    made("teacher", || train("teacher", 0))
}

/// Another one.
pub fn other_teacher() -> PathBuf {
    made("other-teacher", || train("other-teacher", 1))
}

fn train(name: &str, seed: u64) {
    let (data, seed) = (pictures().display().to_string(), seed.to_string());
    let more = ["--epochs", "4", "--set", "batch=8", "--seed", &seed];
    let arguments = [&["train", "resnet8", "--data", &data], &more[..]].concat();
    finish(&Run::new(&arguments, &scratch().join(name))).expect_success();
}

/// Noise of three colours, one per class.
pub fn pictures() -> PathBuf {
    made("pictures", || {
        let (classes, count, side) = PICTURES;
        for class in 0..classes {
            let folder = scratch().join("pictures").join(format!("class-{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let value = |x: u32, y: u32, c: u32| {
                    let noise = (x * 37 + y * 101 + c * 59 + i * 83).wrapping_mul(2_654_435_761) >> 26;
                    (40 + 60 * class as u32 + noise) as u8
                };
                let picture =
                    image::RgbImage::from_fn(side, side, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c))));
                picture.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    })
}

/// A set of the teacher's, with recorded answers.
pub fn set() -> PathBuf {
    made("set", || {
        let teacher = teacher().display().to_string();
        let arguments = [&["invert", &teacher, "--views", "2"], &super::work::INVERSION[..]].concat();
        finish(&Run::new(&arguments, &scratch().join("set"))).expect_success();
    })
}

/// Makes what is called `name`, once.
fn made(name: &'static str, make: impl FnOnce()) -> PathBuf {
    static MADE: std::sync::Mutex<Vec<&'static str>> = std::sync::Mutex::new(Vec::new());
    static TURN: [std::sync::Mutex<()>; 4] = [const { std::sync::Mutex::new(()) }; 4];
    let at = ["pictures", "teacher", "other-teacher", "set"].iter().position(|known| *known == name).unwrap();
    let _turn = TURN[at].lock().unwrap_or_else(|e| e.into_inner());
    if !MADE.lock().unwrap().contains(&name) {
        make();
        MADE.lock().unwrap().push(name);
    }
    scratch().join(name)
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
