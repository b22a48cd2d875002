//! The build script of the watcher and the fetcher: lays code that hardly ever runs apart, in what ships (docs/decisions/0008).

fn main() {
    println!("cargo::rerun-if-changed=../tools/seldom.ld");
    let target = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    // The static programs only: what is built for tests is as the linker likes it.
    if target == "musl" {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/../tools/seldom.ld");
        // A tenth of the table that is read once, at start, and then stays mapped.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
