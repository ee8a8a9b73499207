//! DPDK, by `dpdk/eal.c` and `dpdk/shim.c` of this package. Only one thread calls them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;

/// `enum kind` of the shim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub enum Kind {
    /// `rte_fib`.
    Fib4,
    /// `rte_fib6`.
    Fib6,
    /// `rte_lpm`.
    Lpm4,
    /// `rte_lpm6`.
    Lpm6,
}

/// A key as a table takes it: a number in the host's order, or 16 bytes in the network's.
///
/// # Safety
/// The size is 4 where [`Self::IS_V4`], else 16, and there is no padding.
pub unsafe trait Key: Copy {
    /// For `rte_fib` and `rte_lpm`.
    const IS_V4: bool;
}

// SAFETY: four bytes without padding.
unsafe impl Key for u32 {
    const IS_V4: bool = true;
}

// SAFETY: sixteen bytes without padding.
unsafe impl Key for [u8; 16] {
    const IS_V4: bool = false;
}

/// `struct table` of the shim.
#[derive(Debug)]
#[repr(C)]
struct Raw {
    kind: Kind,
    pointer: *mut c_void,
}

/// A table of DPDK for keys of type `K`.
#[derive(Debug)]
pub struct Table<K> {
    raw: Raw,
    keys: PhantomData<fn(K)>,
}

/// Starts the environment on `core`, with so much memory for tables, once in a process.
pub fn start(core: usize, mebibytes: i32) -> Result<(), String> {
    let core = c_int::try_from(core).map_err(|error| error.to_string())?;
    // SAFETY: two numbers. EAL's arguments are the shim's own.
    let outcome = unsafe { shim_eal(core, mebibytes) };
    if outcome < 0 { Err(format!("rte_eal_init: {}", error())) } else { Ok(()) }
}

/// Which DPDK this is.
pub fn version() -> String {
    // SAFETY: rte_version returns a string that lives as long as the process.
    unsafe { CStr::from_ptr(shim_version()) }.to_string_lossy().into_owned()
}

/// First address of the tables' memory, and the first behind it.
pub fn memory() -> [u64; 2] {
    let mut range = [0; 2];
    // SAFETY: the shim writes two such numbers.
    unsafe { shim_memory(&raw mut range) };
    range
}

/// Bytes that tables take.
pub fn allocated() -> u64 {
    // SAFETY: reads statistics of a heap that exists since the environment was started.
    unsafe { shim_allocated() }
}

impl<K: Key> Table<K> {
    /// An empty table for so many routes; where none covers a key, `rte_fib` answers `miss`.
    pub fn new(kind: Kind, name: &str, routes: u32, tbl8s: u32, miss: u32) -> Result<Self, String> {
        assert_eq!(K::IS_V4, matches!(kind, Kind::Fib4 | Kind::Lpm4), "a key of {kind:?}");
        let c_name = CString::new(name).map_err(|error| error.to_string())?;
        let mut raw = Raw { kind, pointer: std::ptr::null_mut() };
        // SAFETY: `raw` has the layout of the shim's struct (an enum, a union of pointers), and
        // the name is copied during the call.
        let outcome =
            unsafe { shim_create(&raw mut raw, kind, c_name.as_ptr(), routes, tbl8s, miss) };
        let table = Self { raw, keys: PhantomData };
        if outcome == 0 { Ok(table) } else { Err(format!("cannot make {name}: {}", error())) }
    }

    /// Looks up by AVX-512 from now on, or not; whether that can be.
    pub fn select(&self, avx512: bool) -> bool {
        // SAFETY: the table lives; stores a pointer to a function in it. One thread calls.
        unsafe { shim_select(&raw const self.raw, avx512.into()) == 0 }
    }

    /// Adds a route.
    pub fn add(&self, key: &K, len: u8, hop: u32) -> Result<(), String> {
        let key = std::ptr::from_ref(key).cast();
        // SAFETY: `key` points to as many bytes as the table's kind reads (checked in `new`).
        outcome("add", unsafe { shim_add(&raw const self.raw, key, len, hop) })
    }

    /// Removes a route.
    pub fn delete(&self, key: &K, len: u8) -> Result<(), String> {
        let key = std::ptr::from_ref(key).cast();
        // SAFETY: as in `add`.
        outcome("delete", unsafe { shim_delete(&raw const self.raw, key, len) })
    }

    /// Looks up all keys, `batch` at a time, into `out`, round and round.
    ///
    /// # Panics
    /// The batch is larger than 256, or does not divide the keys, or `out` is shorter.
    pub fn pass(&self, keys: &[K], batch: usize, out: &mut [u64]) {
        let (pointer, room) = (out.as_mut_ptr(), out.len());
        // SAFETY: the shim reads `keys.len()` keys of the size it assumes (checked in `new`),
        // though DPDK's signatures do not say const, and writes only the `room` words of `out`;
        // it returns at once where the numbers do not fit together.
        let outcome = unsafe {
            let keys_at = keys.as_ptr().cast();
            shim_pass(&raw const self.raw, keys_at, keys.len(), batch as u32, pointer, room)
        };
        assert_eq!(outcome, 0, "{} keys, batch {batch}, room {room}", keys.len());
    }

    /// As many keys as `out` has room for, one after the other.
    ///
    /// # Panics
    /// There are fewer keys.
    pub fn chain(&self, keys: &[K], out: &mut [u64]) {
        let keys = &keys[..out.len()];
        // SAFETY: as in `pass`; as many words are written as keys are read.
        unsafe {
            let keys_at = keys.as_ptr().cast();
            shim_chain(&raw const self.raw, keys_at, keys.len(), out.as_mut_ptr());
        }
    }
}

impl<K> Drop for Table<K> {
    fn drop(&mut self) {
        // SAFETY: made by shim_create, and freed nowhere else; DPDK ignores null.
        unsafe { shim_free(&raw mut self.raw) };
    }
}

fn outcome(what: &str, outcome: c_int) -> Result<(), String> {
    if outcome == 0 { Ok(()) } else { Err(format!("{what}: error {outcome}")) }
}

fn error() -> String {
    // SAFETY: a string of this thread that the next such call overwrites; it is copied here.
    unsafe { CStr::from_ptr(shim_error()) }.to_string_lossy().into_owned()
}

unsafe extern "C" {
    fn shim_version() -> *const c_char;
    fn shim_error() -> *const c_char;
    fn shim_eal(core: c_int, mebibytes: c_int) -> c_int;
    fn shim_memory(range: *mut [u64; 2]);
    fn shim_allocated() -> u64;
    fn shim_create(
        table: *mut Raw,
        kind: Kind,
        name: *const c_char,
        routes: u32,
        tbl8s: u32,
        miss: u32,
    ) -> c_int;
    fn shim_free(table: *mut Raw);
    fn shim_select(table: *const Raw, avx512: c_int) -> c_int;
    fn shim_add(table: *const Raw, key: *const c_void, depth: u8, hop: u32) -> c_int;
    fn shim_delete(table: *const Raw, key: *const c_void, depth: u8) -> c_int;
    fn shim_pass(
        table: *const Raw,
        keys: *const c_void,
        count: usize,
        batch: u32,
        out: *mut u64,
        room: usize,
    ) -> c_int;
    fn shim_chain(table: *const Raw, keys: *const c_void, count: usize, out: *mut u64);
}
