//! Piecewise-linear activations as two numbers, so that every kernel can apply them without branching.

/// `act(x) = min(max(x, slope·x), cap)` with `0 ≤ slope ≤ 1`.
///
/// NaN stays NaN: a comparison with NaN is false, and both choices below then keep `x`.
/// Its derivative follows PyTorch: 1 above 0 and below the cap, `slope` at and below 0, 0 at and above the cap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    pub slope: f32,
    pub cap: f32,
}

impl Activation {
    pub const IDENTITY: Self = Self { slope: 1.0, cap: f32::INFINITY };
    pub const RELU: Self = Self { slope: 0.0, cap: f32::INFINITY };
    pub const RELU6: Self = Self { slope: 0.0, cap: 6.0 };

    /// LeakyReLU with the given slope below 0.
    pub const fn leaky(slope: f32) -> Self {
        Self { slope, cap: f32::INFINITY }
    }

    /// Whether it changes anything.
    pub fn is_identity(self) -> bool {
        self == Self::IDENTITY
    }

    /// The value at `x`.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        let below = self.slope * x;
        let v = if below > x { below } else { x };
        if self.cap < v { self.cap } else { v }
    }

    /// The derivative, given the *output* `y` (its sign is that of the input).
    #[inline(always)]
    pub fn derivative(self, y: f32) -> f32 {
        match self.cap > y {
            true if y > 0.0 => 1.0,
            true => self.slope,
            false => 0.0,
        }
    }
}
