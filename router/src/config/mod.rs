//! The configuration: what the file may say, checked whole before anything is touched.

pub mod model;

pub use model::Config;
