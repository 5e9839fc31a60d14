//! Linking: addresses that the loader has to fill in are listed in a tenth of the room
//! (DT_RELR; glibc 2.36, musl 1.2.4). All of that list is read at start, and stays in memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
