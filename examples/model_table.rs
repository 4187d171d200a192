//! Writes docs/MODELS.md: the models of other libraries that load here, and how near their answers are, from
//! `tests/fixtures/libraries`: `cargo run --release --example model_table`.

#[path = "../tests/common/libraries.rs"]
mod libraries;

use libraries::{Row, rows};
use std::fmt::Write;

const HEAD: &str = "\
# Models of other libraries

Every row is a network that the library built, filled with numbers and ran in double precision, of full size where it has a
name (`tests/fixtures/make_libraries.py`). Its files, as the library writes them, load here as they are, and `tests/models/libraries.rs`
holds the logits to 1e-4 of the largest. The error below was measured when this page was written, by
`cargo run --release --example model_table`.

A folder needs no further word: `synth invert path/to/folder`. Bare files of torchvision are loaded with `--arch NAME`, and with
`--mean` and `--std`.

| architecture | library | version | parameters (1,000 classes) | batch norms | largest error |
|---|---|---|---|---|---|
";

/// The first heading behind the table.
const REST: &str = "\n## Segmentation";

fn main() -> anyhow::Result<()> {
    let mut rows = rows();
    rows.sort_by_key(|row| (row.name.replace('_', "-"), row.library.clone()));
    let mut page = HEAD.to_string();
    for row in rows {
        let model = row.load(&row.tensors())?;
        let (norms, error) = (model.network.arch.norm_layers(), row.error(&model));
        let Row { name, library, version, .. } = &row;
        let parameters = grouped(row.full_size(&model));
        writeln!(page, "| `{name}` | {library} | {version} | {parameters} | {norms} | {error:.0e} |")?;
        eprintln!("{}: {error:.1e}", row.title());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MODELS.md");
    // What follows the table is not measured here.
    let before = std::fs::read_to_string(path)?;
    page.push_str(before.find(REST).map_or("", |at| &before[at..]));
    synth::files::write_atomic(path, page.as_bytes())?;
    Ok(())
}

/// `1,234,567`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, rest) = digits.split_at(first);
    let groups = rest.as_bytes().chunks(3).map(|group| format!(",{}", String::from_utf8_lossy(group)));
    std::iter::once(head.to_string()).chain(groups).collect()
}
