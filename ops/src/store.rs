//! A growing array that moves to disk when it is large: images and answers of a set for ImageNet take gigabytes.
//!
//! On disk it is a temporary file without a name, mapped into memory: the system keeps of it what there is room for, and the
//! file is gone with the process, however that ends.

use crate::{Error, Result};
use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Bytes up to which an array stays in memory.
const IN_MEMORY: usize = 1 << 30;

/// Bytes that are written to the file at a time.
const CHUNK: usize = 1 << 20;

/// A growing array of plain values, in memory up to a size, then on disk.
///
/// Reads and writes of what is there are those of a slice. Growing can fail, as a disk can be full.
pub struct Store<T: Pod> {
    place: Place<T>,
    /// Bytes from which on it lives on disk.
    limit: usize,
}

enum Place<T: Pod> {
    Memory(Vec<T>),
    Disk(Mapped<T>),
}

struct Mapped<T> {
    file: File,
    map: MmapMut,
    /// Values written; the map may have room for more.
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> Store<T> {
    /// An empty array.
    pub fn new() -> Self {
        Self::spilling_at(IN_MEMORY)
    }

    /// An empty array that moves to disk when it would take more than `limit` bytes.
    pub fn spilling_at(limit: usize) -> Self {
        Self { place: Place::Memory(Vec::new()), limit }
    }

    /// Whether it lives on disk.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    /// Lets the system take back the memory of what lives on disk; it is read from there again when it is asked for. For those who
    /// go through all of a large array once.
    pub fn rest(&self) {
        #[cfg(unix)]
        if let Place::Disk(mapped) = &self.place {
            // SAFETY: the map is shared with its file, which keeps what was written; only the pages are dropped.
            let _ = unsafe { mapped.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Appends `values`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the folder for temporary files if it cannot be written, for example because its disk is full.
    /// What was there before stays as it was.
    pub fn extend(&mut self, values: &[T]) -> Result<()> {
        self.make_room(values.len())?;
        match &mut self.place {
            Place::Memory(all) => all.extend_from_slice(values),
            Place::Disk(mapped) => mapped.append(values)?,
        }
        Ok(())
    }

    /// Writes `row` in place of the one at `slot` of rows as long, which may be the first one behind the end.
    ///
    /// # Errors
    /// As [`Store::extend`].
    pub fn place(&mut self, slot: usize, row: &[T]) -> Result<()> {
        let start = slot * row.len();
        if start == self.len() {
            return self.extend(row);
        }
        self[start..start + row.len()].copy_from_slice(row);
        Ok(())
    }

    /// Appends `count` zeros, to be written by the caller.
    ///
    /// # Errors
    /// As [`Store::extend`].
    pub fn grow(&mut self, count: usize) -> Result<&mut [T]> {
        self.make_room(count)?;
        let start = self.len();
        match &mut self.place {
            Place::Memory(all) => all.resize(start + count, T::zeroed()),
            Place::Disk(mapped) => {
                let zeros = vec![T::zeroed(); count.min(CHUNK / size_of::<T>().max(1))];
                let mut left = count;
                while left > 0 {
                    let part = left.min(zeros.len());
                    mapped.append(&zeros[..part])?;
                    left -= part;
                }
            }
        }
        Ok(&mut self[start..])
    }

    /// Moves to disk if `more` values would pass the limit.
    fn make_room(&mut self, more: usize) -> Result<()> {
        let Place::Memory(all) = &self.place else { return Ok(()) };
        if (all.len().saturating_add(more)).saturating_mul(size_of::<T>()) > self.limit {
            let mut mapped = Mapped::new()?;
            mapped.append(all)?;
            self.place = Place::Disk(mapped);
        }
        Ok(())
    }
}

impl<T: Pod> Mapped<T> {
    fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed("create a temporary file in"))?;
        let map = map(&file, CHUNK)?;
        Ok(Self { file, map, len: 0, kind: PhantomData })
    }

    /// Writes behind the end, through the file: a full disk is an error there, in the map it would be a signal.
    fn append(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let end = self.len * size_of::<T>() + bytes.len();
        if end > self.map.len() {
            self.map = map(&self.file, end.saturating_add(end / 2))?;
        }
        let start = SeekFrom::Start((self.len * size_of::<T>()) as u64);
        let written = self.file.seek(start).and_then(|_| self.file.write_all(bytes));
        written.map_err(failed("write a temporary file in"))?;
        self.len += values.len();
        Ok(())
    }
}

/// The first `bytes` of the file, which is made as long; what was never written takes no place on disk.
fn map(file: &File, bytes: usize) -> Result<MmapMut> {
    file.set_len(bytes as u64).map_err(failed("enlarge a temporary file in"))?;
    // SAFETY: the file has no name, so no other process can shorten or change it while it is mapped; this one only appends
    // behind what has been handed out.
    unsafe { MmapOptions::new().len(bytes).map_mut(file) }.map_err(failed("map a temporary file in"))
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(action, std::env::temp_dir())
}

impl<T: Pod> Deref for Store<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.place {
            Place::Memory(all) => all,
            Place::Disk(mapped) => bytemuck::cast_slice(&mapped.map[..mapped.len * size_of::<T>()]),
        }
    }
}

impl<T: Pod> DerefMut for Store<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.place {
            Place::Memory(all) => all,
            Place::Disk(mapped) => bytemuck::cast_slice_mut(&mut mapped.map[..mapped.len * size_of::<T>()]),
        }
    }
}

impl<T: Pod> Default for Store<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod> From<Vec<T>> for Store<T> {
    /// What is in memory already stays there until it grows.
    fn from(values: Vec<T>) -> Self {
        Self { place: Place::Memory(values), limit: IN_MEMORY }
    }
}

impl<T: Pod> FromIterator<T> for Store<T> {
    /// Gathered in memory.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

impl<T: Pod + PartialEq> PartialEq for Store<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Pod> std::fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values {}", self.len(), if self.is_on_disk() { "on disk" } else { "in memory" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_array_is_the_same_on_disk() {
        let (mut disk, mut plain) = (Store::<f32>::spilling_at(1000), Vec::new());
        for round in 0..2000u32 {
            let values: Vec<f32> = (0..round % 37).map(|i| (round * i) as f32).collect();
            disk.extend(&values).unwrap();
            plain.extend_from_slice(&values);
            if round == 5 {
                assert!(!disk.is_on_disk());
            }
            if let Some(value) = disk.get_mut(round as usize) {
                *value = -1.0;
                plain[round as usize] = -1.0;
            }
        }
        assert!(disk.is_on_disk());
        assert_eq!(disk[..], plain[..]);
        disk.rest();
        assert_eq!(disk[..], plain[..], "nothing is forgotten");
        disk.grow(CHUNK).unwrap().fill(2.5);
        disk.rest();
        assert_eq!(disk.len(), plain.len() + CHUNK);
        assert_eq!((disk[plain.len() - 1], disk[plain.len()]), (plain[plain.len() - 1], 2.5));
    }

    #[test]
    fn a_vector_moves_only_when_it_grows_past_the_limit() {
        let mut store = Store::<u8>::from(vec![7; 10]);
        store.limit = 10;
        assert!(!store.is_on_disk());
        store.extend(&[8]).unwrap();
        assert!(store.is_on_disk());
        assert_eq!(store[9..], [7, 8]);
    }
}
