//! Published models and those of other libraries: files, logits, accuracy.

mod libraries;
mod published;
mod segmentation;
mod weights;
