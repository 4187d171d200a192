//! Element types of checkpoint files and their conversion to the two that we keep.

use half::{bf16, f16};

use super::RawData;
use super::fault::{Fault, Parse};

/// The element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// A type that no network of ours uses: its name, and its size where it must be skipped.
    Foreign(&'static str, usize),
}

impl Element {
    /// Bytes per element, at least 1.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Foreign(_, size) => size,
        }
    }

    /// Converts packed elements. `big_endian` says how they are stored; a partial element at the end is left out.
    pub(super) fn decode(self, bytes: &[u8], big_endian: bool) -> Parse<RawData> {
        let order = big_endian;
        Ok(match self {
            Self::F64 => RawData::F32(each(bytes, order, |b| f64::from_le_bytes(b) as f32)),
            Self::F32 => RawData::F32(each(bytes, order, f32::from_le_bytes)),
            Self::F16 => RawData::F32(each(bytes, order, |b| f16::from_le_bytes(b).to_f32())),
            Self::Bf16 => RawData::F32(each(bytes, order, |b| bf16::from_le_bytes(b).to_f32())),
            Self::I64 => RawData::I64(each(bytes, order, i64::from_le_bytes)),
            Self::I32 => RawData::I64(each(bytes, order, |b| i64::from(i32::from_le_bytes(b)))),
            Self::I16 => RawData::I64(each(bytes, order, |b| i64::from(i16::from_le_bytes(b)))),
            Self::I8 => RawData::I64(each(bytes, order, |b| i64::from(i8::from_le_bytes(b)))),
            Self::U32 => RawData::I64(each(bytes, order, |b| i64::from(u32::from_le_bytes(b)))),
            Self::U16 => RawData::I64(each(bytes, order, |b| i64::from(u16::from_le_bytes(b)))),
            Self::U8 => RawData::I64(each(bytes, order, |b| i64::from(u8::from_le_bytes(b)))),
            Self::Bool => RawData::I64(each(bytes, order, |[b]: [u8; 1]| i64::from(b != 0))),
            Self::U64 => {
                let wide = each(bytes, order, u64::from_le_bytes);
                let narrow: Result<_, _> = wide.into_iter().map(i64::try_from).collect();
                RawData::I64(narrow.map_err(|_| Fault::new("a 64-bit unsigned integer above 2^63", UNSUPPORTED))?)
            }
            Self::Foreign(name, _) => return Err(Fault::new(format!("elements of type {name}"), UNSUPPORTED)),
        })
    }
}

const UNSUPPORTED: &str = "store it as a float or integer tensor";

fn each<T, const N: usize>(bytes: &[u8], big_endian: bool, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    let ordered = |mut element: [u8; N]| {
        if big_endian {
            element.reverse();
        }
        convert(element)
    };
    elements.iter().copied().map(ordered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_converted() {
        let f32s = |element: Element, bytes: &[u8]| element.decode(bytes, false);
        assert_eq!(f32s(Element::F64, &1.5f64.to_le_bytes()), Ok(RawData::F32(vec![1.5])));
        assert_eq!(f32s(Element::F32, &(-2.5f32).to_le_bytes()), Ok(RawData::F32(vec![-2.5])));
        assert_eq!(f32s(Element::F16, &[0x00, 0x3e]), Ok(RawData::F32(vec![1.5])));
        assert_eq!(f32s(Element::Bf16, &[0xc0, 0x3f]), Ok(RawData::F32(vec![1.5])));
        assert_eq!(f32s(Element::I64, &(-7i64).to_le_bytes()), Ok(RawData::I64(vec![-7])));
        assert_eq!(f32s(Element::I32, &(-7i32).to_le_bytes()), Ok(RawData::I64(vec![-7])));
        assert_eq!(f32s(Element::I16, &(-7i16).to_le_bytes()), Ok(RawData::I64(vec![-7])));
        assert_eq!(f32s(Element::I8, &[0xf9]), Ok(RawData::I64(vec![-7])));
        assert_eq!(f32s(Element::U64, &9u64.to_le_bytes()), Ok(RawData::I64(vec![9])));
        assert_eq!(f32s(Element::U32, &u32::MAX.to_le_bytes()), Ok(RawData::I64(vec![0xffff_ffff])));
        assert_eq!(f32s(Element::U16, &[0xff, 0xff]), Ok(RawData::I64(vec![0xffff])));
        assert_eq!(f32s(Element::U8, &[200]), Ok(RawData::I64(vec![200])));
        assert_eq!(f32s(Element::Bool, &[0, 1, 2]), Ok(RawData::I64(vec![0, 1, 1])));
        assert!(f32s(Element::U64, &u64::MAX.to_le_bytes()).is_err());
        assert!(f32s(Element::Foreign("complex64", 8), &[0; 8]).is_err());
    }

    #[test]
    fn big_endian_elements_are_turned() {
        assert_eq!(Element::F32.decode(&1.25f32.to_be_bytes(), true), Ok(RawData::F32(vec![1.25])));
        assert_eq!(Element::I64.decode(&(-3i64).to_be_bytes(), true), Ok(RawData::I64(vec![-3])));
    }
}
