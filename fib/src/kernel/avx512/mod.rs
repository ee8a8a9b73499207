//! Kernels for AVX-512. They are written once for registers and once, for the tests of machines that
//! have none, for arrays: see `model.rs`.

/// A function of a kernel, with the instructions that its operations need.
macro_rules! kernel {
    ($($function:tt)*) => {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt"
        )]
        $($function)*
    };
}

mod ops;
pub(super) mod v4_ahead;
pub(super) mod v4_gather;
pub(super) mod v6;
