//! (module api)
