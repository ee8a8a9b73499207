//! (module probe)
