//! How fast a step could be: the multiplications that it needs and the bytes that it cannot avoid.

use crate::ops::conv2d::Conv2dSpec;
use crate::tape::trace::{Op, Trace};

/// What one pass over a batch of one asks of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// Multiply-adds, counted as two.
    pub flop: f64,
    /// Bytes of values that are too many for the caches: each is written once, and read once by everything that reads it.
    pub bytes: f64,
}

impl std::ops::Add for Need {
    type Output = Need;
    fn add(self, other: Need) -> Need {
        Need { flop: self.flop + other.flop, bytes: self.bytes + other.bytes }
    }
}

/// Which parts of a step are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    Forward,
    /// Forward, and backward to the input.
    ToInput,
    /// Forward, and backward to the weights, of which the first layer's input needs none.
    ToWeights,
    /// Forward, and backward to the weights and the input.
    Both,
}

/// Share of the multiply-add peak that a kernel may be expected to reach.
pub const ATTAINABLE: f64 = 0.85;

impl Need {
    /// Of `parts` of a network's step for one image.
    ///
    /// A forward pass alone can go through all layers block by block of images: only its input and its result are counted. Else
    /// the statistics of batches stand in between: the forward pass reads the inputs of every operation and writes its result; the backward pass reads the gradient of
    /// the result and the inputs again and writes the gradients of the inputs. Weights are few beside a batch of values and are
    /// left out, so that the count stays below what is needed.
    pub fn of(trace: &Trace, parts: Parts) -> Need {
        let floats = |dims: &[usize]| dims.iter().product::<usize>() as f64;
        let mut need = Need::default();
        for record in &trace.records {
            let inputs: f64 = record.inputs.iter().map(|v| floats(trace.dims(*v))).sum();
            let result = floats(&record.dims);
            let flop = 2.0 * result * depth(&record.op);
            let reads_image = record.inputs.contains(&0);
            let (to_weights, to_input) = match parts {
                Parts::Forward => (0.0, 0.0),
                Parts::ToInput => (0.0, 1.0),
                Parts::ToWeights => (1.0, if reads_image { 0.0 } else { 1.0 }),
                Parts::Both => (1.0, 1.0),
            };
            let backward = result + inputs + to_input * inputs;
            need =
                need + Need { flop: flop * (1.0 + to_weights + to_input), bytes: 4.0 * (inputs + result + backward) };
        }
        if parts == Parts::Forward {
            need.bytes = 4.0 * (floats(&trace.input) + floats(trace.dims(trace.output)));
        }
        need
    }

    /// Milliseconds for `batch` images at `flops` FLOP/s of peak and `copy` bytes/s.
    pub fn milliseconds(self, batch: usize, flops: f64, copy: f64) -> f64 {
        1e3 * batch as f64 * (self.flop / (ATTAINABLE * flops) + self.bytes / copy)
    }
}

/// Multiply-adds per value of the result.
fn depth(op: &Op) -> f64 {
    match op {
        Op::Conv { weight, spec, .. } => taps(spec) * weight.dims()[2] as f64,
        // Of the kernel's taps, every result sees those that fall on a pixel.
        Op::ConvTranspose { weight, spec } => {
            (spec.kernel * spec.kernel * weight.dims()[3]) as f64 / (spec.stride * spec.stride) as f64
        }
        Op::Linear { weight, .. } => weight.dims()[weight.dims().len() - 2] as f64,
        _ => 0.0,
    }
}

/// Taps per result; behind an enlargement by two, a kernel of three falls on two rows and columns of the small map.
fn taps(spec: &Conv2dSpec) -> f64 {
    let side = |k: usize| if spec.upsample == 2 { (k / 2 + 1) as f64 } else { k as f64 };
    side(spec.kernel[0]) * side(spec.kernel[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::Network;
    use crate::nets::registry::{Shape, from_name};
    use crate::rng::Streams;
    use std::sync::Arc;

    #[test]
    fn resnet20_needs_the_multiplications_of_its_paper() {
        let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 10 };
        let (architecture, ..) = from_name("resnet20", &shape).unwrap();
        let network = Network::init(Arc::new(architecture), &mut Streams::new(0).stream("t", 0)).unwrap();
        let trace = crate::nets::trace(&network, [32, 32, 3]).unwrap();
        // 3·16·9·32² of the stem, 6 layers of 16²·9·32², and of the two other stages 5.5 of 32²·9·16² and of 64²·9·8², and
        // the classifier: 40.55 million.
        let stage = 16.0 * 16.0 * 9.0 * 1024.0;
        let expected = 3.0 * 16.0 * 9.0 * 1024.0 + stage * (6.0 + 5.5 + 5.5) + 640.0;
        let flop = |parts| Need::of(&trace, parts).flop / 2.0;
        assert_eq!(flop(Parts::Forward), expected);
        assert_eq!(flop(Parts::Both), 3.0 * expected);
        assert_eq!(flop(Parts::ToWeights), 3.0 * expected - 3.0 * 16.0 * 9.0 * 1024.0);
        assert_eq!(flop(Parts::ToInput), 2.0 * expected);
    }
}
