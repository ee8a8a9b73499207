//! (module run)
