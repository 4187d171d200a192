//! The page headers of a parquet file, looked at before the parquet crate allocates what they promise.
//!
//! That crate takes memory for a page's uncompressed size (up to 2 GiB), for a dictionary's number of values, for a
//! statistic's length and for all levels of a row, each as the file says. Here a page must be what its bytes can hold.
//!
//! Format: Thrift's compact protocol, struct `PageHeader` of `parquet.thrift`.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

/// The largest page, or dictionary, uncompressed. Writers begin a new one at some megabytes, but Arrow's only looks after each 1,024 values,
/// or a whole group of fewer rows.
const PAGE_LIMIT: u64 = 256 << 20;
/// Snappy's best case is 64 bytes for 3.
const GROWTH: u64 = 24;
/// Every value of a dictionary takes this much at least: a number, or the length of a text.
const LEAST_VALUE: u64 = 4;
/// Structs within structs of a page header.
const DEPTH: u32 = 6;

const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// What a column chunk holds, by the headers of its pages.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pages {
    /// Values and nulls of all pages, or levels of a list column.
    pub values: u64,
    /// Bytes that one value takes: the average of the page where that is largest, and the whole dictionary.
    pub value_bytes: u64,
}

/// Why a column is not read.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// It is not what a writer leaves, in words.
    Damaged(String),
    /// A page of so many bytes.
    TooLarge(u64),
}

impl From<String> for Refusal {
    fn from(found: String) -> Self {
        Self::Damaged(found)
    }
}

impl From<&str> for Refusal {
    fn from(found: &str) -> Self {
        Self::Damaged(found.into())
    }
}

#[derive(Debug, Default)]
struct Header {
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    values: i64,
}

/// Walks over the pages of a column chunk, which lies within the file.
///
/// # Errors
/// For a header that cannot be read or promises more than its page can hold, and for a page that is too large.
pub(super) fn walk(file: &File, chunk: &ColumnChunkMetaData) -> Result<Pages, Refusal> {
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let start = u64::try_from(start).map_err(|_| "a negative offset")?;
    let end = start.saturating_add(u64::try_from(chunk.compressed_size()).map_err(|_| "a negative size")?);
    let mut input = Input { reader: BufReader::with_capacity(512, file), at: start, end };
    input.reader.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    let mut found = Pages::default();
    let (mut average, mut dictionary) = (0, 0);
    while input.at < end {
        let header = input.page_header()?;
        let (bytes, values) = sizes(&header, input.end - input.at, chunk.compression())?;
        match header.kind {
            DICTIONARY_PAGE if values > bytes / LEAST_VALUE => {
                return Err(format!("a dictionary of {values} values in {bytes} bytes").into());
            }
            DICTIONARY_PAGE => dictionary = bytes,
            DATA_PAGE | DATA_PAGE_V2 => {
                found.values = found.values.saturating_add(values);
                average = average.max(bytes.div_ceil(values.max(1)));
            }
            _ => {} // an index page, which readers pass over
        }
        input.skip(header.compressed.unsigned_abs())?;
    }
    found.value_bytes = average + dictionary;
    Ok(found)
}

/// Uncompressed bytes and values of a page, if `room` bytes and the compression can hold them.
fn sizes(header: &Header, room: u64, compression: Compression) -> Result<(u64, u64), Refusal> {
    let natural = |number: i64, what: &str| u64::try_from(number).map_err(|_| format!("a page with {number} {what}"));
    let (bytes, packed) = (natural(header.uncompressed, "bytes")?, natural(header.compressed, "bytes")?);
    let grown = compression != Compression::UNCOMPRESSED && bytes > packed.saturating_mul(GROWTH).saturating_add(1024);
    if packed > room || grown {
        return Err(format!("a page of {packed} bytes that promises {bytes}").into());
    }
    if bytes > PAGE_LIMIT {
        return Err(Refusal::TooLarge(bytes));
    }
    Ok((bytes, natural(header.values, "values")?))
}

/// Bytes of a column chunk in Thrift's compact protocol.
struct Input<'a> {
    reader: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Input<'_> {
    fn page_header(&mut self) -> Result<Header, String> {
        let mut header = Header::default();
        self.fields(DEPTH, &mut |input, id, kind| {
            let whole = matches!(kind, 4..=6);
            match id {
                1 if whole => header.kind = input.integer()?,
                2 if whole => header.uncompressed = input.integer()?,
                3 if whole => header.compressed = input.integer()?,
                // Of the headers of data and dictionary pages the first field is the number of values.
                5 | 7 | 8 if kind == 12 => input.fields(DEPTH, &mut |input, id, kind| match (id, kind) {
                    (1, 4..=6) => input.integer().map(|values| header.values = values),
                    _ => input.value(kind, DEPTH),
                })?,
                _ => input.value(kind, DEPTH)?,
            }
            Ok(())
        })?;
        Ok(header)
    }

    /// Passes each field of a struct, by number and type, to `each`, which reads its value.
    fn fields(
        &mut self,
        depth: u32,
        each: &mut dyn FnMut(&mut Self, i64, u8) -> Result<(), String>,
    ) -> Result<(), String> {
        if depth == 0 {
            return Err("a page header that is nested too deep".into());
        }
        let mut id = 0i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            id = match byte >> 4 {
                0 => self.integer()?,
                step => id.saturating_add(step.into()),
            };
            each(self, id, byte & 0x0f)?;
        }
    }

    /// Passes over a value of a type.
    fn value(&mut self, kind: u8, depth: u32) -> Result<(), String> {
        match kind {
            1 | 2 => Ok(()), // a bool, which the type says
            3 => self.skip(1),
            4..=6 => self.integer().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            12 => self.fields(depth - 1, &mut |input, _, kind| input.value(kind, depth - 1)),
            // Page headers of today have no lists, and nothing that comes after is likely to need one.
            other => Err(format!("a page header with a field of type {other}")),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        if self.at >= self.end {
            return Err("a page header that does not end".into());
        }
        self.reader.read_exact(&mut byte).map_err(|error| error.to_string())?;
        self.at += 1;
        Ok(byte[0])
    }

    /// A number of up to 64 bits, seven in each byte.
    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a page header with too long a number".into())
    }

    fn integer(&mut self) -> Result<i64, String> {
        self.number().map(|number| (number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > self.end - self.at {
            return Err(format!("a page that has {bytes} bytes where {} are left", self.end - self.at));
        }
        let signed = i64::try_from(bytes).map_err(|_| "a page without an end")?;
        self.reader.seek_relative(signed).map_err(|error| error.to_string())?;
        self.at += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;
    use std::io::Write;
    use std::sync::Arc;

    /// A number as a field of type i32: zigzag, seven bits in each byte.
    fn number(value: i64) -> Vec<u8> {
        let mut rest = (value << 1 ^ value >> 63) as u64;
        let mut bytes = Vec::new();
        while rest > 0x7f {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    /// A page of `kind` that says these sizes, with `body` behind its header.
    fn page(kind: i64, uncompressed: i64, compressed: i64, values: i64, body: usize) -> Vec<u8> {
        let field = if kind == DICTIONARY_PAGE { 0x4c } else { 0x2c };
        let parts: [&[u8]; 9] = [
            &[0x15],
            &number(kind),
            &[0x15],
            &number(uncompressed),
            &[0x15],
            &number(compressed),
            &[field, 0x15],
            &number(values),
            &[0, 0],
        ];
        [parts.concat(), vec![0; body]].concat()
    }

    fn walked(compression: Compression, bytes: &[u8]) -> Result<Pages, Refusal> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let schema = parse_message_type("message m { required int64 label; }").unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        let chunk = ColumnChunkMetaData::builder(column).set_compression(compression).set_data_page_offset(0);
        walk(&file, &chunk.set_total_compressed_size(bytes.len() as i64).build().unwrap())
    }

    const SNAPPY: Compression = Compression::SNAPPY;

    #[test]
    fn the_pages_of_a_column_are_counted() {
        let pages =
            [page(DICTIONARY_PAGE, 40, 20, 5, 20), page(DATA_PAGE, 100, 30, 10, 30), page(DATA_PAGE_V2, 8, 8, 4, 8)];
        assert_eq!(walked(SNAPPY, &pages.concat()), Ok(Pages { values: 14, value_bytes: 50 }));
        assert_eq!(walked(SNAPPY, &[]), Ok(Pages::default()));
    }

    /// Arrow puts the first 1,024 pictures of a file into its dictionary.
    #[test]
    fn a_dictionary_may_hold_large_pictures_and_has_an_end() {
        let of = |megabytes: i64| {
            let packed = (megabytes << 20) / 16;
            walked(SNAPPY, &page(DICTIONARY_PAGE, megabytes << 20, packed, 1024, packed as usize))
        };
        assert_eq!(of(120), Ok(Pages { values: 0, value_bytes: 120 << 20 }));
        assert_eq!(of(257), Err(Refusal::TooLarge(257 << 20)));
    }

    #[test]
    fn pages_that_promise_more_than_they_hold_are_refused() {
        for (bytes, part) in [
            (page(DATA_PAGE, i64::from(i32::MAX), 30, 1, 30), "a page of 30 bytes that promises 2147483647"),
            (page(DATA_PAGE, 2000, 30, 1, 30), "promises 2000"),
            (page(DATA_PAGE, 30, 31, 1, 30), "a page of 31 bytes"),
            (page(DATA_PAGE, -1, 30, 1, 30), "a page with -1 bytes"),
            (page(DATA_PAGE, 30, 30, -5, 30), "a page with -5 values"),
            (page(DICTIONARY_PAGE, 30, 30, i64::from(i32::MAX), 30), "a dictionary of 2147483647 values in 30 bytes"),
            (page(DATA_PAGE, 30, 30, 1, 30)[..6].to_vec(), "does not end"),
            (vec![0x18; 40], "a page that has 24 bytes where 12 are left"), // a binary beyond the end
            ([vec![0x9c; 40], vec![0; 40]].concat(), "nested too deep"),
            (vec![0x19; 9], "a field of type 9"),
            (vec![0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "too long a number"),
        ] {
            let found = walked(SNAPPY, &bytes);
            let said = matches!(&found, Err(Refusal::Damaged(found)) if found.contains(part));
            assert!(said, "{part}: {found:?}");
        }
        assert!(walked(Compression::UNCOMPRESSED, &page(DATA_PAGE, 2000, 30, 1, 30)).is_ok()); // not believed by anybody
    }
}
