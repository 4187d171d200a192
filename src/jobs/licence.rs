//! Under which licence a teacher stands, as far as its folder says.

use std::io::Read;
use std::path::Path;

/// What is read of a README: the description in front is short.
const READ_LIMIT: u64 = 64 << 10;
/// The longest name of a licence.
const NAME_LIMIT: usize = 80;

/// The entry `license` of the description in front of a model's README; `None` if there is none that could be one.
pub(super) fn licence_of(folder: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(folder.join("README.md")).ok()?.take(READ_LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let name = value.trim().trim_matches(['"', '\'']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-.+_ ".contains(c);
    (!name.is_empty() && name.len() <= NAME_LIMIT && name.chars().all(is_name)).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_read_from_the_front_of_the_readme() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(licence_of(folder.path()), None);
        for (text, expected) in [
            ("---\ntags:\n- timm\nlicense: apache-2.0\n---\n# x\n", Some("apache-2.0")),
            ("---\r\nlicense: \"cc-by-nc-4.0\"\r\n---\r\n", Some("cc-by-nc-4.0")),
            ("# x\nlicense: mit\n", None),
            ("---\ntags: x\n---\nlicense: mit\n", None),
            ("---\nlicense:\n- mit\n---\n", None),
            ("---\nlicense: <script>\n---\n", None),
            ("", None),
        ] {
            std::fs::write(folder.path().join("README.md"), text).unwrap();
            assert_eq!(licence_of(folder.path()).as_deref(), expected, "{text}");
        }
    }
}
