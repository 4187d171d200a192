//! Weights that balance the classes of images: `n_c^-rho` where `n_c` images are of a class.

/// The most that one image may weigh, in units of the mean.
const MOST_WEIGHT: f64 = 10.0;

/// `n_c^-rho` of every image's class, all below `classes`.
pub(crate) fn class_weights(labels: &[u32], classes: usize, rho: f64) -> Vec<f64> {
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&class| counts[class as usize] += 1);
    labels.iter().map(|&class| (counts[class as usize] as f64).powf(-rho)).collect()
}

/// The same in units of the mean, none above 10.
pub(crate) fn balancing_weights(labels: &[u32], classes: usize, rho: f64) -> Vec<f32> {
    let weights = class_weights(labels, classes, rho);
    let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
    weights.into_iter().map(|w| (w / mean).min(MOST_WEIGHT) as f32).collect()
}
