//! A program whose main is the shim, as `knarr shim` is.

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    std::process::exit(knarr_runtime::shim::main(&arguments));
}
