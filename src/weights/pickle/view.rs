//! Tensors out of storages: bounds checked first, then gathered by stride.

use super::super::RawTensor;
use super::super::fault::{Fault, Parse, quote};
use super::value::{Storage, View};

impl View<'_> {
    /// Number of elements.
    ///
    /// # Errors
    /// If the product of the dimensions overflows.
    pub(super) fn count(&self) -> Parse<usize> {
        let product = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        product.ok_or_else(|| Fault::damaged(format!("a tensor of shape {:?}", self.shape)))
    }

    /// Checks that every element lies inside the storage.
    pub(super) fn check(&self) -> Parse<()> {
        if self.shape.len() != self.strides.len() {
            return Err(Fault::damaged(format!("shape {:?} with strides {:?}", self.shape, self.strides)));
        }
        if self.count()? == 0 {
            return Ok(());
        }
        let mut steps = self.shape.iter().zip(&self.strides);
        let last =
            steps.try_fold(self.offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
        if last.is_none_or(|last| last >= self.storage.window.1) {
            let found = format!(
                "a tensor of shape {:?}, strides {:?}, offset {} in storage {} of {} elements",
                self.shape,
                self.strides,
                self.offset,
                quote(self.storage.key),
                self.storage.window.1
            );
            return Err(Fault::damaged(found));
        }
        Ok(())
    }

    /// Whether the elements lie one after the other, row-major.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }

    /// Copies the tensor out of the bytes of its storage (the whole storage, exactly).
    pub(super) fn gather(&self, bytes: &[u8], big_endian: bool) -> Parse<RawTensor> {
        let bytes = self.storage.visible(bytes)?;
        self.check()?;
        let element = self.storage.element;
        let (size, count) = (element.size(), self.count()?);
        let outside = || Fault::damaged(format!("a tensor beyond storage {}", quote(self.storage.key)));
        let data = if count == 0 {
            element.decode(&[], big_endian)?
        } else if self.is_contiguous() {
            let start = self.offset * size;
            element.decode(bytes.get(start..start + count * size).ok_or_else(outside)?, big_endian)?
        } else {
            let mut packed = Vec::with_capacity(count * size);
            for index in self.indices() {
                packed.extend_from_slice(bytes.get(index * size..(index + 1) * size).ok_or_else(outside)?);
            }
            element.decode(&packed, big_endian)?
        };
        Ok(RawTensor { shape: self.shape.clone(), data })
    }

    /// Storage indices of all elements in row-major order; the tensor is not empty.
    fn indices(&self) -> impl Iterator<Item = usize> {
        let mut position = vec![0usize; self.shape.len()];
        let mut next = Some(self.offset);
        std::iter::from_fn(move || {
            let current = next?;
            let mut index = current;
            next = None;
            for axis in (0..position.len()).rev() {
                if position[axis] + 1 < self.shape[axis] {
                    position[axis] += 1;
                    next = Some(index + self.strides[axis]);
                    break;
                }
                index -= position[axis] * self.strides[axis];
                position[axis] = 0;
            }
            Some(current)
        })
    }
}

impl Storage<'_> {
    /// Bytes of the whole storage.
    pub(super) fn byte_len(&self) -> Parse<usize> {
        let bytes = self.count.checked_mul(self.element.size());
        bytes.ok_or_else(|| Fault::damaged(format!("storage {} of {} elements", quote(self.key), self.count)))
    }

    /// The part of the storage's bytes that is seen.
    fn visible<'b>(&self, bytes: &'b [u8]) -> Parse<&'b [u8]> {
        let size = self.element.size();
        let (start, count) = self.window;
        if bytes.len() / size < self.count {
            let found = format!("storage {}: {} elements in {} bytes", quote(self.key), self.count, bytes.len());
            return Err(Fault::damaged(found));
        }
        let part = bytes.get(start * size..(start + count) * size);
        part.ok_or_else(|| Fault::damaged(format!("storage {} is too short", quote(self.key))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::element::Element;
    use super::super::super::{RawData, fault::Fault};
    use super::*;

    fn view(offset: usize, shape: &[usize], strides: &[usize]) -> View<'static> {
        let storage = Storage { key: "0", element: Element::U8, count: 12, window: (0, 12) };
        View { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    fn gathered(offset: usize, shape: &[usize], strides: &[usize]) -> Result<Vec<i64>, Fault> {
        let bytes: Vec<u8> = (0..12).collect();
        match view(offset, shape, strides).gather(&bytes, false)?.data {
            RawData::I64(values) => Ok(values),
            RawData::F32(_) => Ok(vec![]),
        }
    }

    #[test]
    fn views_are_gathered_by_stride() {
        assert_eq!(gathered(2, &[2, 3], &[3, 1]), Ok(vec![2, 3, 4, 5, 6, 7]));
        assert_eq!(gathered(0, &[3, 4], &[1, 3]), Ok(vec![0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]));
        assert_eq!(gathered(1, &[2, 1, 2], &[6, 99, 2]), Ok(vec![1, 3, 7, 9]));
        assert_eq!(gathered(5, &[3], &[0]), Ok(vec![5, 5, 5]));
        assert_eq!(gathered(11, &[], &[]), Ok(vec![11]));
        assert_eq!(gathered(99, &[3, 0], &[1, 1]), Ok(vec![]));
    }

    #[test]
    fn views_beyond_the_storage_are_refused() {
        for (offset, shape, strides) in [
            (12, vec![], vec![]),
            (0, vec![13], vec![1]),
            (1, vec![3, 4], vec![4, 1]),
            (0, vec![2, 2], vec![usize::MAX, 1]),
            (usize::MAX, vec![2], vec![1]),
            (0, vec![usize::MAX, 2], vec![0, 0]),
            (0, vec![2, 2], vec![1]),
        ] {
            assert!(gathered(offset, &shape, &strides).is_err(), "{offset} {shape:?} {strides:?}");
        }
    }
}
