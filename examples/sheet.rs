//! A sheet of drawn images, and how fast they are drawn: `cargo run --release --example sheet -- leaves|shaders SIDE COUNT FILE`.

use std::time::Instant;
use synth::collect::{Draw, Generated, Leaves, Shaders, Source, Tally};
use synth::data::Images;
use synth::set::preview::grid;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, side, count, file] = &arguments[..] else {
        anyhow::bail!("usage: sheet leaves|shaders SIDE COUNT FILE");
    };
    let (side, count) = (side.parse()?, count.parse()?);
    match kind.as_str() {
        "leaves" => sheet(Leaves, side, count, file),
        "shaders" => sheet(Shaders, side, count, file),
        other => anyhow::bail!("no drawn images are called {other}"),
    }
}

fn sheet(kind: impl Draw, side: usize, count: usize, file: &str) -> anyhow::Result<()> {
    let mut source = Generated::new(kind, 0);
    let numbers: Vec<usize> = (0..count).collect();
    let mut pixels = Vec::new();
    let start = Instant::now();
    source.visit(&numbers, [side, side, 3], &mut Tally::default(), &mut |passed| {
        pixels.extend_from_slice(passed.pixels);
        Ok(())
    })?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let rows = count.isqrt().clamp(1, 16);
    let labels: Vec<u32> = (0..count).map(|i| (i * rows / count) as u32).collect();
    grid(&Images::new(pixels, 3, side, side)?, &labels, rows, count / rows).save(file)?;
    println!("{count} images of {side}x{side}: {rate:.0} images/s on {} threads", rayon::current_num_threads());
    Ok(())
}
