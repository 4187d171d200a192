//! What RandAugment does to an image, on its 8 bits and to the last bit as torchvision's operations on tensors do it (version 0.29,
//! `_apply_op` of `transforms/autoaugment.py`), nearest pixels and black borders included.

/// One operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Identity,
    /// Rows move to the left by this times their distance from the upper border.
    ShearX(f32),
    /// Columns move up by this times their distance from the left border.
    ShearY(f32),
    /// To the right, in pixels.
    TranslateX(i32),
    /// Down, in pixels.
    TranslateY(i32),
    /// Anticlockwise, in degrees.
    Rotate(f32),
    /// 0 is black, 1 the image.
    Brightness(f64),
    /// 0 is grey, 1 the image.
    Colour(f64),
    /// 0 is the mean grey, 1 the image.
    Contrast(f64),
    /// 0 is smoothed, 1 the image.
    Sharpness(f64),
    /// The highest bits that stay, 1 to 8.
    Posterize(u32),
    /// From this value on, values are inverted.
    Solarize(f32),
    /// Every channel from 0 to 255.
    AutoContrast,
    /// Every channel with all values about equally frequent.
    Equalize,
}

impl Operation {
    /// The image `[height, width, channels]` after it.
    pub fn apply(self, image: &[u8], dims: [usize; 3]) -> Vec<u8> {
        match self {
            Self::Identity => image.to_vec(),
            Self::ShearX(by) => shear(image, dims, [by, 0.0]),
            Self::ShearY(by) => shear(image, dims, [0.0, by]),
            Self::TranslateX(by) => translate(image, dims, [0, by]),
            Self::TranslateY(by) => translate(image, dims, [by, 0]),
            Self::Rotate(degrees) => rotate(image, dims, degrees),
            Self::Brightness(factor) => image.iter().map(|&v| blend(v, 0.0, factor)).collect(),
            Self::Colour(factor) => colour(image, dims[2], factor),
            Self::Contrast(factor) => contrast(image, dims[2], factor),
            Self::Sharpness(factor) => sharpness(image, dims, factor),
            Self::Posterize(bits) => {
                let mask = !(0xffu32 >> bits.min(8)) as u8;
                image.iter().map(|v| v & mask).collect()
            }
            Self::Solarize(from) => image.iter().map(|&v| if f32::from(v) >= from { 255 - v } else { v }).collect(),
            Self::AutoContrast => by_channel(image, dims[2], auto_contrast),
            Self::Equalize => by_channel(image, dims[2], equalize),
        }
    }
}

/// `factor` of a value and the rest of another one, cut off to 8 bits and down.
fn blend(value: u8, other: f32, factor: f64) -> u8 {
    (factor as f32 * f32::from(value) + (1.0 - factor) as f32 * other).clamp(0.0, 255.0) as u8
}

/// Every pixel from where `source` says: row and column, or black.
fn moved(
    image: &[u8],
    [height, width, channels]: [usize; 3],
    source: impl Fn(usize, usize) -> (isize, isize),
) -> Vec<u8> {
    let mut out = vec![0; image.len()];
    for (at, pixel) in out.chunks_exact_mut(channels).enumerate() {
        let (row, column) = source(at / width, at % width);
        if (0..height as isize).contains(&row) && (0..width as isize).contains(&column) {
            let from = (row as usize * width + column as usize) * channels;
            pixel.copy_from_slice(&image[from..from + channels]);
        }
    }
    out
}

fn translate(image: &[u8], dims: [usize; 3], [down, right]: [i32; 2]) -> Vec<u8> {
    moved(image, dims, |y, x| (y as isize - down as isize, x as isize - right as isize))
}

/// About the upper left corner.
fn shear(image: &[u8], dims: [usize; 3], [x_by, y_by]: [f32; 2]) -> Vec<u8> {
    moved(image, dims, |y, x| {
        let (v, u) = (y as f32 + 0.5, x as f32 + 0.5);
        (nearest(v + y_by * u - 0.5), nearest(u + x_by * v - 0.5))
    })
}

/// About the middle.
fn rotate(image: &[u8], dims: [usize; 3], degrees: f32) -> Vec<u8> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let [middle_y, middle_x] = [dims[0], dims[1]].map(|side| (side as f32 - 1.0) / 2.0);
    moved(image, dims, |y, x| {
        let (v, u) = (y as f32 - middle_y, x as f32 - middle_x);
        (nearest(sin * u + cos * v + middle_y), nearest(cos * u - sin * v + middle_x))
    })
}

/// The nearest whole number, the even one of two.
fn nearest(value: f32) -> isize {
    value.round_ties_even() as isize
}

/// Brightness as seen: ITU-R 601 of three channels, one channel as it is.
fn grey(pixel: &[u8]) -> u8 {
    match *pixel {
        [r, g, b] => (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8,
        _ => pixel[0],
    }
}

fn colour(image: &[u8], channels: usize, factor: f64) -> Vec<u8> {
    let one = |pixel: &[u8]| {
        let grey = f32::from(grey(pixel));
        pixel.iter().map(move |&v| blend(v, grey, factor)).collect::<Vec<u8>>()
    };
    match channels {
        3 => image.chunks_exact(3).flat_map(one).collect(),
        _ => image.to_vec(),
    }
}

fn contrast(image: &[u8], channels: usize, factor: f64) -> Vec<u8> {
    let sum: u64 = image.chunks_exact(channels).map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / (image.len() / channels).max(1) as f64) as f32;
    image.iter().map(|&v| blend(v, mean, factor)).collect()
}

/// Against the mean of the 3x3 neighbourhood, in which the pixel itself counts five times; the border stays.
fn sharpness(image: &[u8], [height, width, channels]: [usize; 3], factor: f64) -> Vec<u8> {
    if height <= 2 || width <= 2 {
        return image.to_vec();
    }
    let row = width * channels;
    let smooth = |at: usize| {
        let (y, x) = (at / row, at % row / channels);
        if y == 0 || y + 1 == height || x == 0 || x + 1 == width {
            return f32::from(image[at]);
        }
        let line = |start: usize| {
            u32::from(image[start - channels]) + u32::from(image[start]) + u32::from(image[start + channels])
        };
        let sum = line(at - row) + line(at) + line(at + row) + 4 * u32::from(image[at]);
        (sum as f32 / 13.0).round_ties_even()
    };
    (0..image.len()).map(|at| blend(image[at], smooth(at), factor)).collect()
}

/// What `map` makes of every value, channel by channel, given its histogram.
fn by_channel(image: &[u8], channels: usize, map: fn(&[u32; 256]) -> [u8; 256]) -> Vec<u8> {
    let mut out = image.to_vec();
    for channel in 0..channels {
        let mut histogram = [0u32; 256];
        image.iter().skip(channel).step_by(channels).for_each(|&v| histogram[usize::from(v)] += 1);
        let table = map(&histogram);
        out.iter_mut().skip(channel).step_by(channels).for_each(|v| *v = table[usize::from(*v)]);
    }
    out
}

fn auto_contrast(histogram: &[u32; 256]) -> [u8; 256] {
    let least = histogram.iter().position(|count| *count > 0).unwrap_or(0);
    let most = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
    let (from, scale) = if most > least { (least as f32, 255.0 / (most - least) as f32) } else { (0.0, 1.0) };
    std::array::from_fn(|v| ((v as f32 - from) * scale).clamp(0.0, 255.0) as u8)
}

/// After the cumulative histogram; an image in whose channel one value is nearly all stays as it is.
fn equalize(histogram: &[u32; 256]) -> [u8; 256] {
    let last = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
    let step = (histogram.iter().sum::<u32>() - histogram[last]) / 255;
    if step == 0 {
        return std::array::from_fn(|v| v as u8);
    }
    let mut before = 0;
    std::array::from_fn(|v| {
        let value = (before + step / 2) / step;
        before += histogram[v];
        value.min(255) as u8
    })
}
