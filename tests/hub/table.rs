//! Small labelled tables, as the Hub's datasets have them.

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use std::io::Cursor;
use std::sync::Arc;

/// A parquet file of grey pictures of 3x2 pixels, one per label, whose value is the label.
pub fn table(labels: std::ops::Range<i64>) -> Vec<u8> {
    let png = |label: i64| {
        let mut bytes = Cursor::new(Vec::new());
        let picture = image::GrayImage::from_pixel(3, 2, image::Luma([label as u8]));
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let pictures: Vec<Vec<u8>> = labels.clone().map(png).collect();
    let bytes = BinaryArray::from_iter_values(&pictures);
    let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true)]);
    let image = StructArray::new(fields.clone(), vec![Arc::new(bytes) as ArrayRef], None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("image", DataType::Struct(fields), true),
        Field::new("label", DataType::Int64, true),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(image), Arc::new(Int64Array::from_iter_values(labels))];
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.close().unwrap();
    file
}
