//! Values and gradients against numbers computed independently, and the identities of the references.
