//! The `longhaul` program; see `longhaul --help`.

fn main() -> std::process::ExitCode {
    longhaul_ops::cli::main()
}
