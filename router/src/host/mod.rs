//! (module host)
