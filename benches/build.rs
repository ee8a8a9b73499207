//! Compiles the shim around DPDK, where the feature `dpdk` asks for it.
#![forbid(unsafe_code)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // `PROFILE` says `release` for every profile made from it; the folder has the name.
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    let is_dist = std::path::Path::new(&out).components().any(|part| part.as_os_str() == "dist");
    println!("cargo:rustc-check-cfg=cfg(dist)");
    if is_dist {
        println!("cargo:rustc-cfg=dist");
    }
    #[cfg(feature = "dpdk")]
    dpdk::build();
}

#[cfg(feature = "dpdk")]
mod dpdk {
    use std::process::Command;

    /// The shim is compiled with the flags that pkg-config names, as any program that uses Debian's
    /// DPDK; `CFLAGS=-march=native` in the environment adds to them.
    pub fn build() {
        let mut shim = cc::Build::new();
        for file in SHIM {
            println!("cargo:rerun-if-changed={file}");
            shim.file(file);
        }
        shim.opt_level(3).warnings(true).extra_warnings(true);
        // DPDK's own headers convert and compare as they like.
        shim.flag("-Wno-sign-compare").flag("-Wno-unused-parameter");
        for flag in pkg_config("--cflags") {
            shim.flag(&flag);
        }
        shim.compile("nearhop_dpdk_shim");
        for flag in pkg_config("--libs-only-L") {
            println!("cargo:rustc-link-search=native={}", flag.trim_start_matches("-L"));
        }
        for library in ["rte_fib", "rte_rib", "rte_lpm", "rte_eal"] {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }

    fn pkg_config(what: &str) -> Vec<String> {
        match Command::new("pkg-config").args([what, "libdpdk"]).output() {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                text.split_whitespace().map(ToOwned::to_owned).collect()
            }
            Ok(output) => panic!("{}{MISSING}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("pkg-config: {error}\n{MISSING}"),
        }
    }

    const SHIM: [&str; 2] = ["dpdk/eal.c", "dpdk/shim.c"];
    const MISSING: &str = "the feature `dpdk` needs DPDK's headers; `cargo xtask bench-fib` \
        installs them, or: sudo apt-get install --no-install-recommends libdpdk-dev pkg-config";
}
