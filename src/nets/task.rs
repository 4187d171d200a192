//! What the answers of a network are about.

/// A network answers once per image, or once per pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Logits `[N, K]`.
    Classification,
    /// Logits `[N, H, W, K]` of the image's own size.
    Segmentation,
}

impl Task {
    /// As the Hub calls it, and `task` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "image-classification",
            Self::Segmentation => "image-segmentation",
        }
    }

    /// The task of that name; `semantic-segmentation` is another name of the second.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "image-classification" => Some(Self::Classification),
            "image-segmentation" | "semantic-segmentation" => Some(Self::Segmentation),
            _ => None,
        }
    }
}
