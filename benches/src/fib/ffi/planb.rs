//! PlanB, by a shared library that is opened at run time; BENCHMARKING.md has its interface.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::transmute;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// `struct planb_prefix`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Prefix {
    /// The first 64 bits of the address, in the host's order.
    pub bits: u64,
    /// At most 64.
    pub len: u32,
    /// Below 2^31.
    pub next_hop: u32,
}

/// A table of the library, which stays open until the process ends.
#[derive(Debug)]
pub struct Table {
    handle: NonNull<c_void>,
    lookup: Lookup,
    destroy: Destroy,
}

type Create = unsafe extern "C" fn(*const Prefix, usize) -> *mut c_void;
type Lookup = unsafe extern "C" fn(*mut c_void, *const u64, usize, *mut u64);
type Destroy = unsafe extern "C" fn(*mut c_void);

/// The functions of the library.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    create: Create,
    lookup: Lookup,
    destroy: Destroy,
}

impl Library {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or lacks a function.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a string that outlives the call. The library's own initialisers are trusted, as
        // the rest of it is: the user named it.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        let library = NonNull::new(library).ok_or_else(error)?;
        let find = |name: &CStr| {
            // SAFETY: an open library and a string that outlives the call.
            let symbol = unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) };
            NonNull::new(symbol).map(NonNull::as_ptr).ok_or_else(error)
        };
        let (create, lookup) = (find(c"planb_create")?, find(c"planb_lookup_batch")?);
        let destroy = find(c"planb_destroy")?;
        // SAFETY: not null, and functions of these types, as the interface says.
        let (create, lookup, destroy) = unsafe {
            (
                transmute::<*mut c_void, Create>(create),
                transmute::<*mut c_void, Lookup>(lookup),
                transmute::<*mut c_void, Destroy>(destroy),
            )
        };
        Ok(Self { create, lookup, destroy })
    }

    /// Builds a table; `None` if the library could not.
    pub fn table(self, prefixes: &[Prefix]) -> Option<Table> {
        // SAFETY: the library reads so many prefixes during the call.
        let table = unsafe { (self.create)(prefixes.as_ptr(), prefixes.len()) };
        let Self { lookup, destroy, .. } = self;
        NonNull::new(table).map(|handle| Table { handle, lookup, destroy })
    }
}

impl Table {
    /// The next hop of each key, all ones where no prefix covers it.
    ///
    /// # Panics
    /// The slices differ in length.
    #[inline]
    pub fn lookup(&mut self, keys: &[u64], out: &mut [u64]) {
        assert_eq!(keys.len(), out.len());
        // SAFETY: the library reads so many keys and writes as many words; the table is its own.
        unsafe { (self.lookup)(self.handle.as_ptr(), keys.as_ptr(), keys.len(), out.as_mut_ptr()) };
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: made by planb_create, and given back only here.
        unsafe { (self.destroy)(self.handle.as_ptr()) };
    }
}

fn error() -> String {
    // SAFETY: dlerror returns null or a string of this thread that the next such call overwrites.
    let text: *const c_char = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the library gives a null pointer".to_owned();
    }
    // SAFETY: as above; it is copied before the next call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
