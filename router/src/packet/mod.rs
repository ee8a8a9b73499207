//! (module packet)
