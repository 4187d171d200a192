//! Named arrays and values: what a state consists of.

use super::Resumable;
use super::file::Region;
use crate::ops::mem::{host, view};
use crate::ops::store::Store;
use crate::{Error, Result};
use bytemuck::Pod;
use candle_core::Tensor;
use safetensors::tensor::Dtype;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An element type that arrays of a state have.
pub trait Plain: Pod {
    const DTYPE: Dtype;
}

impl Plain for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
impl Plain for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Plain for u64 {
    const DTYPE: Dtype = Dtype::U64;
}
impl Plain for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Plain for f64 {
    const DTYPE: Dtype = Dtype::F64;
}

/// An array on its way into a state.
pub(super) struct Array<'a> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub values: Values<'a>,
}

/// Its values.
pub(super) enum Values<'a> {
    Bytes(Cow<'a, [u8]>),
    /// `f32` on a card; they come down when they are read.
    Card(Tensor),
}

/// Collects a state.
#[derive(Default)]
pub struct Saver<'a> {
    prefix: String,
    pub(super) arrays: BTreeMap<String, Array<'a>>,
    pub(super) values: Map<String, Value>,
}

/// A state that was kept, or the part of it below a name.
#[derive(Clone)]
pub struct Saved {
    /// Where it lies, for messages.
    pub(super) source: PathBuf,
    pub(super) prefix: String,
    pub(super) arrays: Arc<BTreeMap<String, Kept>>,
    pub(super) values: Arc<Map<String, Value>>,
}

/// An array of a kept state.
pub(super) struct Kept {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub place: Place,
}

pub(super) enum Place {
    Memory(Vec<u8>),
    /// `f32`.
    Card(Tensor),
    File(Region),
}

/// Bytes of an array that are read at a time.
const CHUNK: usize = 1 << 20;

impl<'a> Saver<'a> {
    /// The state of one thing.
    ///
    /// # Errors
    /// As [`Resumable::save`].
    pub fn of(part: &'a (impl Resumable + ?Sized)) -> Result<Self> {
        let mut saver = Self::default();
        part.save(&mut saver)?;
        Ok(saver)
    }

    /// The state of a part, below `name`.
    ///
    /// # Errors
    /// As [`Resumable::save`].
    pub fn part(&mut self, name: &str, part: &'a (impl Resumable + ?Sized)) -> Result<()> {
        self.within(name, |to| part.save(to))
    }

    /// What `save` names, below `name`.
    ///
    /// # Errors
    /// Those of `save`.
    pub fn within(&mut self, name: &str, save: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let outer = self.prefix.len();
        self.prefix += name;
        self.prefix.push('/');
        let saved = save(self);
        self.prefix.truncate(outer);
        saved
    }

    /// A value that survives JSON: whole numbers, texts, flags. Of an `f64` give the bits, which JSON would round.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn value(&mut self, name: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|e| Error::shape("checkpoint", format!("{name}: {e}")))?;
        self.values.insert(self.prefix.clone() + name, value);
        Ok(())
    }

    /// An array that stays where it is until it is written.
    pub fn array<T: Plain>(&mut self, name: &str, values: &'a [T]) {
        let bytes = Cow::Borrowed(bytemuck::cast_slice(values));
        self.put(name, Array { dtype: T::DTYPE, shape: vec![values.len()], values: Values::Bytes(bytes) });
    }

    /// An array that was made for the state.
    pub fn owned<T: Plain>(&mut self, name: &str, values: &[T]) {
        let bytes = Cow::Owned(bytemuck::cast_slice(values).to_vec());
        self.put(name, Array { dtype: T::DTYPE, shape: vec![values.len()], values: Values::Bytes(bytes) });
    }

    /// The present values of a tensor of `f32`, which are kept where it lies.
    ///
    /// # Errors
    /// A device that has no room for them.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let values = match tensor.device().is_cpu() {
            true => Values::Bytes(Cow::Owned(bytemuck::cast_slice(&view(tensor)?).to_vec())),
            false => Values::Card(tensor.copy()?),
        };
        self.put(name, Array { dtype: Dtype::F32, shape: tensor.dims().to_vec(), values });
        Ok(())
    }

    /// A state that is in memory already, below `name`.
    pub fn saved(&mut self, name: &str, state: &'a Saved) {
        let prefix = format!("{}{name}/", self.prefix);
        for (key, kept) in state.arrays.iter() {
            let values = match &kept.place {
                Place::Memory(bytes) => Values::Bytes(Cow::Borrowed(bytes)),
                Place::Card(tensor) => Values::Card(tensor.clone()),
                Place::File(_) => continue,
            };
            let array = Array { dtype: kept.dtype, shape: kept.shape.clone(), values };
            self.arrays.insert(format!("{prefix}{key}"), array);
        }
        self.values.extend(state.values.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
    }

    fn put(&mut self, name: &str, array: Array<'a>) {
        self.arrays.insert(self.prefix.clone() + name, array);
    }

    /// The state in memory.
    pub fn keep(self) -> Saved {
        let keep = |(name, array): (String, Array)| {
            let Array { dtype, shape, values } = array;
            let place = match values {
                Values::Bytes(bytes) => Place::Memory(bytes.into_owned()),
                Values::Card(tensor) => Place::Card(tensor),
            };
            (name, Kept { dtype, shape, place })
        };
        Saved {
            source: "the state in memory".into(),
            prefix: String::new(),
            arrays: Arc::new(self.arrays.into_iter().map(keep).collect()),
            values: Arc::new(self.values),
        }
    }
}

impl Array<'_> {
    /// Its length in a file.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Bytes(bytes) => bytes.len(),
            Values::Card(tensor) => tensor.elem_count() * size_of::<f32>(),
        }
    }

    /// Its values as a file has them.
    ///
    /// # Errors
    /// A card that does not give them.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match &self.values {
            Values::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Values::Card(tensor) => Ok(Cow::Owned(brought_down(tensor)?)),
        }
    }
}

fn brought_down(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(bytemuck::cast_slice(&view(&host(tensor)?)?).to_vec())
}

impl Saved {
    /// The part below `name`.
    pub fn part(&self, name: &str) -> Self {
        Self { prefix: format!("{}{name}/", self.prefix), ..self.clone() }
    }

    /// Whether there is anything called `name`, or below it.
    pub fn has(&self, name: &str) -> bool {
        let (own, below) = (format!("{}{name}", self.prefix), format!("{}{name}/", self.prefix));
        let first = self.arrays.range(below.clone()..).next().is_some_and(|(key, _)| key.starts_with(&below));
        first || self.arrays.contains_key(&own) || self.values.keys().any(|k| *k == own || k.starts_with(&below))
    }

    /// The part as a state of its own, in memory.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn in_memory(&self) -> Result<Self> {
        let below = |key: &String| key.strip_prefix(&self.prefix).map(String::from);
        let mut arrays = BTreeMap::new();
        for (key, kept) in self.arrays.iter() {
            let Some(name) = below(key) else { continue };
            let place = match &kept.place {
                Place::Memory(own) => Place::Memory(own.clone()),
                Place::Card(tensor) => Place::Card(tensor.clone()),
                Place::File(region) => {
                    let mut bytes = Vec::new();
                    region.read(&self.source, CHUNK, |part| {
                        bytes.extend_from_slice(part);
                        Ok(())
                    })?;
                    Place::Memory(bytes)
                }
            };
            arrays.insert(name, Kept { dtype: kept.dtype, shape: kept.shape.clone(), place });
        }
        let values = self.values.iter().filter_map(|(key, value)| Some((below(key)?, value.clone()))).collect();
        Ok(Self { source: self.source.clone(), prefix: String::new(), arrays: arrays.into(), values: Arc::new(values) })
    }

    /// Lets `part` take over what is below `name`.
    ///
    /// # Errors
    /// As [`Resumable::restore`].
    pub fn restore(&self, name: &str, part: &mut (impl Resumable + ?Sized)) -> Result<()> {
        part.restore(&self.part(name))
    }

    /// A value.
    ///
    /// # Errors
    /// It is missing, or of another kind.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.values.get(&(self.prefix.clone() + name)).cloned().unwrap_or_default();
        serde_json::from_value(value).map_err(|_| self.fault(name, "it is missing or of another kind"))
    }

    /// All elements of an array.
    ///
    /// # Errors
    /// It is missing, of another type, or cannot be read.
    pub fn array<T: Plain>(&self, name: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.each_part(name, |part| {
            all.extend_from_slice(part);
            Ok(())
        })?;
        Ok(all)
    }

    /// All elements of an array, in memory or on disk as [`Store`] decides.
    ///
    /// # Errors
    /// As [`Saved::array`] and [`Store::extend`].
    pub fn store<T: Plain>(&self, name: &str) -> Result<Store<T>> {
        let mut all = Store::new();
        self.each_part(name, |part| Ok(all.extend(part)?))?;
        Ok(all)
    }

    /// A tensor of `f32` on the CPU.
    ///
    /// # Errors
    /// As [`Saved::array`].
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let shape = self.kept(name)?.shape.clone();
        Ok(crate::ops::mem::tensor(self.array(name)?, shape)?)
    }

    /// Values are copied to where they are aligned, a piece at a time.
    fn each_part<T: Plain>(&self, name: &str, mut take: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
        let kept = self.kept(name)?;
        if kept.dtype != T::DTYPE {
            return Err(self.fault(name, &format!("it holds {:?}, expected {:?}", kept.dtype, T::DTYPE)));
        }
        let size = size_of::<T>();
        let mut part = Vec::new();
        let mut feed = |bytes: &[u8]| {
            part.resize(bytes.len() / size, T::zeroed());
            bytemuck::cast_slice_mut(&mut part).copy_from_slice(bytes);
            take(&part)
        };
        match &kept.place {
            Place::Memory(bytes) => bytes.chunks(CHUNK).try_for_each(&mut feed),
            Place::Card(tensor) => feed(&brought_down(tensor)?),
            Place::File(region) => region.read(&self.source, CHUNK, feed),
        }
    }

    fn kept(&self, name: &str) -> Result<&Kept> {
        self.arrays.get(&(self.prefix.clone() + name)).ok_or_else(|| self.fault(name, "it is missing"))
    }

    /// What is wrong with the entry `name`.
    pub fn fault(&self, name: &str, found: &str) -> Error {
        Error::file(&self.source, format!("{}{name}: {found}", self.prefix), "start anew with --force")
    }

    /// The file that it came from.
    pub fn source(&self) -> &Path {
        &self.source
    }
}
