//! Decides what is embedded as the console: the built one, or the placeholder.

use std::path::Path;

const BUILT: &str = "../web/dist";

fn main() {
    // A path that doesn't exist counts as changed in every build, so it is made, and left empty.
    if Path::new("../web").is_dir() && std::fs::create_dir_all(BUILT).is_ok() {
        println!("cargo::rerun-if-changed={BUILT}");
    }
    println!("cargo::rustc-check-cfg=cfg(console_built)");
    println!("cargo::rerun-if-env-changed=MPG_RELEASE");
    println!("cargo::rerun-if-changed=build.rs");
    if Path::new(BUILT).join("index.html").is_file() {
        println!("cargo::rustc-cfg=console_built");
    } else if std::env::var_os("MPG_RELEASE").is_some_and(|value| value == "1") {
        // A release without its console would look broken to whoever opens it.
        println!(
            "cargo::error=MPG_RELEASE is set, but web/dist/index.html is missing: build the console first"
        );
    }
}
