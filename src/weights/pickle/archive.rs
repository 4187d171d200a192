//! The zip container: `NAME/data.pkl`, `NAME/byteorder`, storages in `NAME/data/KEY`.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::super::Contents;
use super::super::fault::{Fault, Parse, quote};
use super::machine;
use super::state_dict::StateDict;

/// torch stores members as they are. A compressed member may grow by this much and no more.
const GROWTH: u64 = 16;

/// Reads a checkpoint in a zip archive.
pub(in super::super) fn read(bytes: &[u8]) -> Parse<Contents> {
    let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged("zip archive", &error))?;
    if archive.has_duplicate_names() {
        return Err(Fault::damaged("a zip archive with two members of one name"));
    }
    let mut archive = Archive { budget: (bytes.len() as u64).saturating_mul(GROWTH), zip: archive };
    let folder = archive.folder()?;
    let big_endian = archive.big_endian(&folder)?;
    let data = archive.member(&format!("{folder}data.pkl"))?;
    let pickle = machine::run(&data)?;
    let state_dict = StateDict::find(&pickle)?;
    state_dict.read(super::element_limit(bytes.len()), big_endian, |view| {
        let member = archive.member(&format!("{folder}data/{}", view.storage.key))?;
        let expected = view.storage.byte_len()?;
        if member.len() != expected {
            let found = format!("storage {} has {} bytes, not {expected}", quote(view.storage.key), member.len());
            return Err(Fault::damaged(found));
        }
        Ok(member)
    })
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    budget: u64,
}

impl Archive<'_> {
    /// The folder that holds `data.pkl`, with its slash; empty if that lies at the top.
    fn folder(&self) -> Parse<String> {
        let names = self.zip.file_names().filter_map(Result::ok);
        let mut folders = names.filter_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            let top = folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
            top.then(|| folder.to_string())
        });
        let hint = "expected a file written by torch.save";
        match (folders.next(), folders.next()) {
            (Some(folder), None) => Ok(folder),
            (None, _) => Err(Fault::new("a zip archive without data.pkl", hint)),
            _ => Err(Fault::new("a zip archive with several data.pkl", hint)),
        }
    }

    fn big_endian(&mut self, folder: &str) -> Parse<bool> {
        let name = format!("{folder}byteorder");
        if self.zip.index_for_name(&name).is_none() {
            return Ok(false); // older files, always little-endian
        }
        match self.member(&name)?.as_slice() {
            b"little" => Ok(false),
            b"big" => Ok(true),
            _ => Err(Fault::damaged("a byte order that is neither `little` nor `big`")),
        }
    }

    /// The bytes of a member, its checksum verified.
    fn member(&mut self, name: &str) -> Parse<Vec<u8>> {
        let file = self.zip.by_name(name).map_err(|error| damaged(&quote(name), &error))?;
        let size = file.size();
        self.budget = self.budget.checked_sub(size).ok_or_else(|| {
            Fault::damaged(format!("{} declares {size} bytes, far more than the archive can hold", quote(name)))
        })?;
        // Grows as bytes arrive: the declared size is not trusted with an allocation.
        let mut bytes = Vec::new();
        // One byte beyond the end: only there is the checksum compared.
        file.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| damaged(&quote(name), &error))?;
        if bytes.len() as u64 != size {
            return Err(Fault::damaged(format!("{} has {} bytes of {size}", quote(name), bytes.len())));
        }
        Ok(bytes)
    }
}

fn damaged(what: &str, error: &dyn std::fmt::Display) -> Fault {
    let message: String = error.to_string().chars().flat_map(char::escape_debug).collect();
    Fault::damaged(format!("{what}: {message}"))
}
