//! Writes the man pages and the completions of all programs: `manual DIR`.
//!
//! `DIR/man` gets a page for each program and each subcommand. `DIR/bash`, `DIR/zsh` and `DIR/fish` get a file for each
//! program. The definitions of the command lines are the only source.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use sim::cli::Args;
use telemetry_aggregator::cli::Cli;

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIR");
    let dir: OsString = std::env::args_os().nth(1).ok_or_else(usage)?;
    for program in [Cli::command(), Args::command()] {
        write(Path::new(&dir), &program)?;
    }
    Ok(())
}

/// Writes the files of one program below `dir`.
fn write(dir: &Path, program: &clap::Command) -> io::Result<()> {
    let man = dir.join("man");
    std::fs::create_dir_all(&man)?;
    clap_mangen::generate_to(program.clone(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let completions = dir.join(shell.to_string());
        std::fs::create_dir_all(&completions)?;
        clap_complete::generate_to(shell, &mut program.clone(), program.get_name(), &completions)?;
    }
    Ok(())
}
