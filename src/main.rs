//! The program `dlm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dlm::cli::main()
}
