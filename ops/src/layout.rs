//! The order of a layer's weights: as the kernels read them, neighbours are outputs; files have the outputs first.

/// Sides of the squares of input and output channels in which values change their places, so that what lies apart in either order is
/// still in cache when its neighbours come: a line of cache.
const SQUARE: usize = 16;

/// Values `[taps, inputs, outputs]` as `[outputs, inputs, taps]`.
///
/// # Panics
/// If there are not as many values.
pub fn outputs_first(values: &[f32], dims: [usize; 3]) -> Vec<f32> {
    let mut out = values.to_vec();
    each(values, dims, |here, file| out[file] = values[here]);
    out
}

/// Values `[outputs, inputs, taps]` as `[taps, inputs, outputs]`; `dims` are those of the result.
///
/// # Panics
/// If there are not as many values.
pub fn outputs_last(values: &[f32], dims: [usize; 3]) -> Vec<f32> {
    let mut out = values.to_vec();
    each(values, dims, |here, file| out[here] = values[file]);
    out
}

/// Calls `f(place among neighbouring outputs, place with the outputs first)` for every value.
fn each(values: &[f32], [taps, inputs, outputs]: [usize; 3], mut f: impl FnMut(usize, usize)) {
    assert_eq!(values.len(), taps * inputs * outputs, "weights of {taps} taps, {inputs} inputs and {outputs} outputs");
    let squares = |count: usize| (0..count).step_by(SQUARE).map(move |start| start..count.min(start + SQUARE));
    for (ins, outs) in squares(inputs).flat_map(|ins| squares(outputs).map(move |outs| (ins.clone(), outs))) {
        for tap in 0..taps {
            for input in ins.clone() {
                for output in outs.clone() {
                    f((tap * inputs + input) * outputs + output, (output * inputs + input) * taps + tap);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_its_place_and_the_way_back() {
        for [taps, inputs, outputs] in [[1, 1, 1], [9, 3, 16], [4, 17, 33], [1, 40, 10], [9, 0, 5]] {
            let values: Vec<f32> = (0..taps * inputs * outputs).map(|i| i as f32).collect();
            let turned = outputs_first(&values, [taps, inputs, outputs]);
            let mut place = 0;
            for output in 0..outputs {
                for input in 0..inputs {
                    for tap in 0..taps {
                        assert_eq!(turned[place], values[(tap * inputs + input) * outputs + output]);
                        place += 1;
                    }
                }
            }
            assert_eq!(outputs_last(&turned, [taps, inputs, outputs]), values);
        }
    }
}
