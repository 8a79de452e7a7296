//! Commands that exit by themselves.

use assert_cmd::Command;

use super::{IS_POSTGRES, PATIENCE};

/// The output and the exit code of a command.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program with these arguments and no other variables than these, in an empty directory.
pub(crate) fn run(args: &[&str], variables: &[(&str, &str)]) -> Run {
    run_with_input(args, variables, b"")
}

/// Like [`run`], with standard input.
pub(crate) fn run_with_input(args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Run {
    let home = tempfile::tempdir().unwrap();
    // On a machine that is busy with other tests, PostgreSQL may be slow.
    let patient = IS_POSTGRES.then_some(("BRIDGE_DATABASE_TIMEOUT", "10s"));
    let output = Command::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge"))
        .args(args)
        .env_clear()
        .envs(patient)
        .envs(variables.iter().copied())
        .current_dir(&home)
        .write_stdin(input)
        .timeout(4 * PATIENCE)
        .output()
        .unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
