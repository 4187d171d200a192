//! The `synth` command: parse, dispatch, print the error, exit code.

mod cli;

use std::process::ExitCode;
use synth::Error;

/// Keeps pages from step to step, where the system's allocator gives them back and takes them anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    synth::ops::mem::keep_pages();
    let cli = match cli::Cli::from_arguments() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print(); // help or version, on stdout
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            cli::tell(&cli::one_line_usage(&error));
            return ExitCode::from(2);
        }
    };
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::tell(&format!("error: {}", error.to_string().replace(char::is_control, " ")));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 1 failed, 2 usage, 130 interrupted.
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Interrupted | Error::Paused { .. } => 130,
        Error::Invalid { .. } => 2,
        _ => 1,
    }
}
